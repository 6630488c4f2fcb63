# pyright: standard
"""Lowering of operations that give the same elements another shape."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tvm import te, tirx

from leptonc.backends.tvm.lower.indexing import compute, reshaped
from leptonc.backends.tvm.lower.transposed import transpose_kernel
from leptonc.backends.tvm.lowering import KernelRule, LowerCall, Reason, Rule
from leptonc.ir.dims import Dim, product
from leptonc.ir.graph import Op
from leptonc.ir.ops.shape import permutation, window
from leptonc.ir.table import Inference


def _view(call: LowerCall) -> te.Tensor:
    return reshaped(call, call[0], call.known[0].type.shape, call.op.results[0].type.shape)


def _transpose(call: LowerCall) -> te.Tensor:
    perm = permutation(call.known)

    def element(*index: Any) -> Any:
        source: list[Any] = [None] * len(perm)
        for axis, at in zip(perm, index, strict=True):
            source[axis] = at
        return call[0](*source)

    return compute(call, element)


def _extents(call: LowerCall, dims: Sequence[Dim]) -> te.Tensor:
    numbers = [call.dim(dim).astype("int64") for dim in dims]

    def element(*index: Any) -> Any:
        if len(numbers) == 1:
            return numbers[0]
        chosen: Any = tirx.const(0, "int64")
        for at, number in enumerate(numbers):
            chosen = tirx.Select(index[0] == at, number, chosen)
        return chosen

    return compute(call, element)


def _shape(call: LowerCall) -> te.Tensor:
    first, last = window(call.known, call.known[0].type.rank)
    return _extents(call, call.known[0].type.shape[first:last])


def _size(call: LowerCall) -> te.Tensor:
    return _extents(call, [product(call.known[0].type.shape)])


def _known(name: str, what: str) -> Reason:
    """A reason where the content of an operand is not known at compile time."""

    def reason(op: Op) -> str:
        call = Inference(op.definition, op.operands, op.operand_names, op.attrs)
        return (
            ""
            if op.operand(name) is None or call.content(name) is not None
            else f"{what} at run time only"
        )

    return reason


RULES: dict[str, Rule] = {
    "reshape": _view, "flatten": _view, "squeeze": _view, "unsqueeze": _view,
    "transpose": _transpose, "shape": _shape, "size": _size,
}  # fmt: skip
KERNELS: dict[str, KernelRule] = {"transpose": transpose_kernel}
REASONS: dict[str, Reason] = {
    "reshape": _known("shape", "its result's shape is known"),
    "squeeze": _known("axes", "its axes are known"),
    "unsqueeze": _known("axes", "its axes are known"),
}
