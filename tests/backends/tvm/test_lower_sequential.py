"""Lowered determinants, inverse max pools and deformable convolutions against their meaning."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from leptonc.backends.tvm.support import unsupported
from leptonc.ir.build import Builder
from leptonc.ir.graph import Graph, Value
from leptonc.ir.table import Evaluation, op_named
from leptonc.ir.types import DType, TensorType
from tests.backends.tvm.kernel_of_row import check_lowering
from tests.ir.ops.against_onnx import normal


def test_determinants() -> None:
    check_lowering("det", [normal(5, 5)])
    check_lowering("det", [normal(2, 3, 4, 4, dtype=np.float64)])
    singular = np.array([[[1, 2], [2, 4]], [[0, 1], [1, 0]], [[0, 0], [0, 0]]], np.float32)
    check_lowering("det", [singular])
    check_lowering(
        "det", *([normal(n, m, m)] for n, m in ((2, 3), (1, 1), (3, 6), (2, 0))), symbolic=(0,)
    )


def pooled(*shape: int) -> list[Any]:
    """What a max pool gives, and where it took it from."""
    row = op_named("max_pool")
    assert row is not None
    assert row.evaluate is not None
    attrs: dict[str, Any] = row.complete({"kernel_shape": (2, 2), "strides": (2, 2)})
    return list(row.evaluate(Evaluation(row, [normal(*shape)], ("x",), attrs)))


@pytest.mark.parametrize("stated", [None, (1, 2, 7, 8), (1, 2, 5, 6)])
def test_max_unpool(stated: tuple[int, ...] | None) -> None:
    arrays = [*pooled(1, 2, 6, 6), None if stated is None else np.array(stated)]
    check_lowering("max_unpool", arrays, kernel_shape=[2, 2], strides=[2, 2])


def test_max_unpool_of_symbolic_extents() -> None:
    sizes = [pooled(n, 2, height, 6) for n, height in ((1, 6), (2, 2), (1, 10))]
    check_lowering("max_unpool", *sizes, symbolic=(0, 1), kernel_shape=[2, 2], strides=[2, 2])


def test_an_output_shape_of_run_time_is_a_reason() -> None:
    x, shape = Value(TensorType(DType.F32, (1, 2, 3, 3))), Value(TensorType(DType.I64, (4,)))
    graph = Graph("test", [x, Value(TensorType(DType.I64, (1, 2, 3, 3))), shape])
    op = Builder(graph).op("max_unpool", graph.inputs, {"kernel_shape": (2, 2)})
    assert unsupported(op) == "output_shape is known at run time only"


@pytest.mark.parametrize(("group", "parts"), [(1, 1), (2, 1), (2, 2)])
def test_deformable_convolution(group: int, parts: int) -> None:
    w, bias = normal(4, 4 // group, 3, 2), normal(4)

    def operands(batch: int, height: int, width: int) -> list[Any]:
        out = [batch, (height + 2 - 3) // 2 + 1, width + 1 - 2 + 1]
        offset, mask = (
            2 * normal(out[0], parts * 12, *out[1:], seed=1),
            normal(out[0], parts * 6, *out[1:], seed=2),
        )
        return [normal(batch, 4, height, width), w, offset, bias, mask]

    attrs: dict[str, Any] = {
        "pads": [1, 0, 1, 1], "strides": [2, 1], "group": group, "offset_group": parts,
    }  # fmt: skip
    check_lowering("deform_conv", operands(2, 7, 5), scale=4, **attrs)
    check_lowering("deform_conv", operands(2, 7, 5)[:3], scale=4, **attrs)


def test_deformable_convolution_of_symbolic_extents() -> None:
    w = normal(3, 2, 2, 2)
    sizes = [
        [normal(n, 2, size, size), w, normal(n, 8, size - 1, size - 1, seed=1)]
        for n, size in ((2, 5), (1, 2), (1, 9))
    ]
    check_lowering("deform_conv", *sizes, symbolic=(0, 2), scale=4)
