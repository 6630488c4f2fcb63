# pyright: standard
"""Lowering of operations that make tensors from sizes and numbers."""

from __future__ import annotations

from typing import Any

from tvm import te, tirx

from leptonc.backends.tvm.lower.indexing import compute
from leptonc.backends.tvm.lowering import LowerCall, Reason, Rule, literal
from leptonc.ir.graph import Op
from leptonc.ir.ops.contents import content_of
from leptonc.ir.ops.generate import filled_with, one_hot_axis
from leptonc.ir.table import Inference
from leptonc.ir.types import DType


def _constant_of_shape(call: LowerCall) -> te.Tensor:
    blob = filled_with(call.known)
    return compute(call, lambda *index: literal(blob.array.reshape(()), blob.type.dtype))


def _number(call: LowerCall, name: str, dtype: str) -> Any:
    """One number of a `range`, in the type it is computed in."""
    value, constant = call.known.get(name), call.known.constant(name)
    assert value is not None
    if constant is not None:
        return tirx.const(constant.reshape(()).item(), dtype)
    content = content_of(value)
    if content is not None:
        return call.dim(content.reshape(()).item()).astype(dtype)
    tensor = call.get(name)
    assert tensor is not None
    return tensor(*[call.index(0)] * value.type.rank).astype(dtype)


def _range(call: LowerCall) -> te.Tensor:
    dtype = call.dtype()
    wide = dtype
    if dtype in ("float16", "bfloat16"):
        wide = "float64" if call.known.attrs["stash_type"] is DType.F64 else "float32"
    start, delta = _number(call, "start", wide), _number(call, "delta", wide)
    return compute(call, lambda at: (start + at.astype(wide) * delta).astype(dtype))


def _eye_like(call: LowerCall) -> te.Tensor:
    diagonal, dtype = call.index(call.known.int("k")), call.dtype()
    return compute(
        call,
        lambda row, column: tirx.Select(
            column - row == diagonal, tirx.const(1, dtype), tirx.const(0, dtype)
        ),
    )


def _one_hot(call: LowerCall) -> te.Tensor:
    axis = one_hot_axis(call.known)
    depth, values = call.shape()[axis].astype("int64"), call.known.get("values")
    assert values is not None

    def element(*index: Any) -> Any:
        number = call[0](*index[:axis], *index[axis + 1 :]).astype("int64")
        number = tirx.Select(number < 0, number + depth, number)
        table = call.get("values")
        assert table is not None
        on, off = table(call.index(1)), table(call.index(0))
        return tirx.Select(number == index[axis].astype("int64"), on, off)

    return compute(call, element)


def _unknown(*names: str) -> Reason:
    def reason(op: Op) -> str:
        call = Inference(op.definition, op.operands, op.operand_names, op.attrs)
        missing = [
            name for name in names if call.content(name) is None and call.constant(name) is None
        ]
        return f"its size depends on data ({', '.join(missing)})" if missing else ""

    return reason


RULES: dict[str, Rule] = {
    "constant_of_shape": _constant_of_shape,
    "range": _range,
    "eye_like": _eye_like,
    "one_hot": _one_hot,
}
REASONS: dict[str, Reason] = {
    "constant_of_shape": _unknown("shape"),
    "range": _unknown("start", "limit", "delta"),
    "one_hot": _unknown("depth"),
}
