# pyright: standard
"""The kernel of one operation, compiled and held against what the interpreter gives."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tvm

from leptonc.backends.cpu.target import detect, tvm_target
from leptonc.backends.tvm.kernels import lower_kernel
from leptonc.backends.tvm.lowering import reasons
from leptonc.backends.tvm.source import kernel_source
from leptonc.ir.blob import Array
from leptonc.ir.dims import Dim, substitute
from leptonc.ir.graph import Graph, Op
from tests.ir.ops.single import Attributes, one_op, run


class SingleKernel:
    """A kernel; `shapes` gives operands symbolic extents, `runtime` operands are no constants."""

    def __init__(
        self, name: str, operands: Sequence[Array | None], attrs: Attributes | None = None, *,
        shapes: Mapping[int, Sequence[Dim | str]] | None = None, runtime: Sequence[int] = (),
    ) -> None:  # fmt: skip
        self.name, self.attrs, self.shapes, self.runtime = name, attrs, shapes, runtime
        self.graph = one_op(name, operands, attrs, shapes=shapes, runtime=runtime)
        cpu = detect()
        self.source = kernel_source(the_op(self.graph))
        function = lower_kernel(self.source, cpu).with_attr("global_symbol", "main")
        self.library = tvm.compile(tvm.IRModule({"main": function}), target=tvm_target(cpu))

    def run(self, operands: Sequence[Array | None]) -> list[Array]:
        """The results for operands of fitting extents."""
        sizes: dict[str, Dim] = {}
        for value in self.graph.inputs:
            for dim, extent in zip(
                value.type.shape, self._operand(operands, value.name).shape, strict=True
            ):
                if not isinstance(dim, int):
                    sizes[str(dim)] = extent
        inputs = [self._operand(operands, value.name) for value in self.source.inputs]
        scalars = [int(str(sizes[name])) for name in self.source.scalars]
        outputs = [
            np.full(
                [int(str(substitute(dim, sizes))) for dim in value.type.shape],
                99,
                value.type.dtype.numpy,
            )
            for value in self.source.outputs
        ]
        tensors = [_to_tvm(array) for array in (*inputs, *outputs)]
        self.library["main"](*tensors[: len(inputs)], *scalars, *tensors[len(inputs) :])
        return [np.asarray(tensor.numpy()) for tensor in tensors[len(inputs) :]]

    @staticmethod
    def _operand(operands: Sequence[Array | None], name: str) -> Array:
        array = operands[int(name[1:])]
        assert array is not None
        return array

    def check(self, operands: Sequence[Array | None], tolerance: float = 0.0) -> list[Array]:
        """The results, found equal to the interpreter's."""
        expected = run(one_op(self.name, operands, self.attrs, runtime=self.runtime), operands)
        found = self.run(operands)
        for mine, theirs in zip(found, expected, strict=True):
            assert mine.dtype == theirs.dtype
            assert mine.shape == theirs.shape
            np.testing.assert_allclose(
                mine.astype(np.float64), theirs.astype(np.float64), rtol=tolerance, atol=tolerance
            )
        return found


def check_kernel(
    name: str,
    operands: Sequence[Array | None],
    attrs: Attributes | None = None,
    *more: Sequence[Array | None],
    shapes: Mapping[int, Sequence[Dim | str]] | None = None,
    runtime: Sequence[int] = (),
    tolerance: float = 0.0,
) -> None:
    """Compile once; hold the results for `operands` and each of `more` against the meaning."""
    kernel = SingleKernel(name, operands, attrs, shapes=shapes, runtime=runtime)
    for arrays in (operands, *more):
        kernel.check(arrays, tolerance)


def the_op(graph: Graph) -> Op:
    """The operation of a graph of one."""
    (op,) = (op for op in graph if op.name not in ("const", "return"))
    return op


def reason_of(
    name: str,
    operands: Sequence[Array | None],
    attrs: Attributes | None = None,
    *,
    runtime: Sequence[int] = (),
) -> str:
    """Why an operation has no lowering, if so."""
    op = the_op(one_op(name, operands, attrs, runtime=runtime))
    return reasons()[name](op) if name in reasons() else ""


def _to_tvm(array: Array) -> Any:
    if array.dtype.name != "bfloat16":
        return tvm.runtime.tensor(np.require(array, requirements="C"))
    tensor = tvm.runtime.empty(array.shape, array.dtype.name)
    tensor.copyfrom(array)
    return tensor
