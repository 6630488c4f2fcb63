# pyright: standard
"""Compiles the generic lowering of one operation and runs it beside the operation's own meaning."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import tvm
from tvm import te

from leptonc.backends.cpu.target import detect, tvm_target
from leptonc.backends.tvm.kernels import copy_of
from leptonc.backends.tvm.lowering import TVM_DTYPE, DimTable, LowerCall
from leptonc.backends.tvm.schedule import schedule
from leptonc.ir.build import Builder
from leptonc.ir.dims import substitute
from leptonc.ir.graph import Attribute, Op
from leptonc.ir.table import Evaluation, op_named
from leptonc.ir.types import DType
from tests.ir.ops.against_onnx import TOLERANCE, build_op

FAMILIES = (
    "nn",
    "pool",
    "softmax",
    "normalize",
    "linear",
    "quantized_linear",
    "deform_conv",
    "sequential",
    "recurrent",
)

Array = np.ndarray[Any, np.dtype[Any]]


class Lowered:
    """One operation, compiled for operands like `arrays`; `symbolic` ones may differ in extents."""

    def __init__(
        self, name: str, arrays: Sequence[Array | None], attrs: dict[str, Attribute], *,
        symbolic: Sequence[int] = (), scheduled: bool = True, used: Sequence[int] = (),
    ) -> None:  # fmt: skip
        row = op_named(name)
        assert row is not None, name
        self.row, self.attrs = row, attrs
        self.op, _ = build_op(row, arrays, attrs, symbolic=symbolic)
        self.used = list(used) or list(range(len(self.op.results)))
        region = self.op.region
        assert region is not None
        Builder(region).return_(*(self.op.results[result] for result in self.used))
        cpu = detect()
        function = _function(self.op, self.used, cpu, scheduled=scheduled)
        self.library = tvm.compile(tvm.IRModule({"main": function}), target=tvm_target(cpu))

    def run(self, arrays: Sequence[Array | None]) -> list[Array]:
        """The results for operands of fitting extents."""
        given = [array for array in arrays if array is not None]
        sizes = {
            str(dim): extent
            for value, array in zip(self.op.operands, given, strict=True)
            for dim, extent in zip(value.type.shape, array.shape, strict=True)
            if not isinstance(dim, int)
        }
        outputs: list[Array] = []
        for value in (self.op.results[result] for result in self.used):
            shape = [substitute(dim, sizes) for dim in value.type.shape]
            # what is not written shows
            outputs.append(np.full([int(str(dim)) for dim in shape], 77, value.type.dtype.numpy))
        read = [a for a, v in zip(given, self.op.operands, strict=True) if v.producer is None]
        tensors = [_to_tvm(array) for array in [*read, *outputs]]
        self.library["main"](*tensors)
        return [_from_tvm(t, like) for t, like in zip(tensors[len(read) :], outputs, strict=True)]

    def check(self, arrays: Sequence[Array | None], scale: float = 1) -> list[Array]:
        """What was computed, near the operation's meaning in double precision."""
        given = [array for array in arrays if array is not None]
        exact = [a.astype(np.float64) if _is_float(a.dtype) else a for a in given]
        assert self.row.evaluate is not None
        with np.errstate(all="ignore"):
            found = self.row.evaluate(
                Evaluation(self.row, exact, self.op.operand_names, self.op.attrs)
            )
        everything = [found] if isinstance(found, np.ndarray) else list(found)
        expected = [everything[result] for result in self.used]
        results = self.run(arrays)
        for mine, theirs in zip(results, expected, strict=True):
            assert mine.shape == theirs.shape
            if mine.dtype.name in TOLERANCE:
                tolerance = scale * TOLERANCE[mine.dtype.name]
                np.testing.assert_allclose(
                    mine.astype(np.float64),
                    theirs.astype(np.float64),
                    rtol=tolerance,
                    atol=tolerance,
                )
            else:
                np.testing.assert_array_equal(mine, theirs.astype(mine.dtype))
        return results


def check_lowering(
    name: str, arrays: Sequence[Array | None], *more: Sequence[Array | None],
    symbolic: Sequence[int] = (), scale: float = 1, scheduled: bool = True, **attrs: Any,
) -> None:  # fmt: skip
    """The operation, compiled once, agrees with its meaning on `arrays` and on each of `more`."""
    ours: dict[str, Attribute] = {
        k: tuple(v) if isinstance(v, list) else v for k, v in attrs.items()
    }
    lowered = Lowered(name, arrays, ours, symbolic=symbolic, scheduled=scheduled)
    for operands in (arrays, *more):
        lowered.check(operands, scale)


def _function(op: Op, used: Sequence[int], cpu: Any, *, scheduled: bool) -> Any:
    dims = DimTable()
    tensors: dict[int, te.Tensor] = {}
    for slot, value in enumerate(op.operands):
        if value.producer is None:
            shape = [dims.expression(dim) for dim in value.type.shape]
            tensors[slot] = te.placeholder(shape, TVM_DTYPE[value.type.dtype], name=f"p{slot}")
    call = LowerCall(op, tensors, dims)
    modules = [
        importlib.import_module(f"leptonc.backends.tvm.lower.{family}") for family in FAMILIES
    ]
    kernels = {
        name: rule for module in modules for name, rule in getattr(module, "KERNELS", {}).items()
    }
    if op.name in kernels:
        return kernels[op.name](call, cpu).with_attr("global_symbol", "main")
    found = next(module.RULES[op.name] for module in modules if op.name in module.RULES)(call)
    everything = [found] if isinstance(found, te.Tensor) else list(found)
    results = [everything[result] for result in used]
    inputs = list(tensors.values())
    distinct = [copy_of(t) if t in inputs or t in results[:i] else t for i, t in enumerate(results)]
    function = te.create_prim_func([*inputs, *distinct])
    return schedule(function, cpu) if scheduled else function


def _is_float(dtype: np.dtype[Any]) -> bool:
    return DType.of(dtype).is_float


def _to_tvm(array: Array) -> Any:
    array = np.ascontiguousarray(array).reshape(array.shape)
    if array.dtype.name == "bfloat16":
        tensor = tvm.runtime.empty(array.shape, "bfloat16")
        tensor.copyfrom(array)
        return tensor
    return tvm.runtime.tensor(array)


def _from_tvm(tensor: Any, like: Array) -> Array:
    return np.asarray(tensor.numpy()).reshape(like.shape)
