"""Makers of elementwise rows: typing and reference meaning from one function on arrays."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

import numpy as np

from leptonc.ir.blob import Array
from leptonc.ir.dims import Dim
from leptonc.ir.graph import Content
from leptonc.ir.ops.broadcasting import (
    FLOATS,
    broadcast_shapes,
    check_count,
    check_dtype,
    check_same_dtype,
)
from leptonc.ir.table import Attr, Contents, Evaluation, Inference, OpDef, Trait, define
from leptonc.ir.types import DType, TensorType

Compute = Callable[..., Any]
"""A function of the operands' arrays, with the attributes by name."""


def is_narrow(array: Array) -> bool:
    """True for f16 and every ml_dtypes type: arithmetic on them goes through f32."""
    return array.dtype.kind == "V" or (array.dtype.kind == "f" and array.itemsize < 4)


def widened(array: Array) -> Array:
    """`array` in f32 where its own type is too narrow to compute in, else itself."""
    return array.astype(np.float32) if is_narrow(array) else array


def evaluated(compute: Compute, call: Evaluation) -> Array:
    """`compute` on the operands; floats narrower than f32 are computed in f32 and rounded once."""
    first = call[0].dtype
    result = np.asarray(compute(*map(widened, call.items), **call.attrs))
    return result.astype(first) if result.dtype != first else result


def fitted(content: Contents | None, dtype: DType | None = None) -> Contents | None:
    """`content` as elements of a type: integers wrap, and only i32 and i64 hold expressions."""
    if content is None:
        return None

    def fitting(call: Inference) -> Content | None:
        known = content(call)
        return None if known is None else fit(known, dtype or call[len(call) - 1].type.dtype)

    return fitting


def fit(known: Content, dtype: DType) -> Content | None:
    """`known` as elements of `dtype`, None where one of them is none."""
    items = [_wrapped(item, dtype) for item in known.reshape(-1)]
    if any(item is None for item in items):
        return None
    result: Content = np.empty(len(items), dtype=object)
    result[:] = items
    return result.reshape(known.shape)


def _wrapped(dim: Dim, dtype: DType) -> Dim | None:
    if not isinstance(dim, int):
        return dim if dtype in (DType.I32, DType.I64) else None
    if dtype is DType.BOOL:
        return int(dim != 0)
    dim %= 1 << dtype.width
    return dim - (1 << dtype.width) if dtype.is_signed and dim >> (dtype.width - 1) else dim


def unary(
    signature: str,
    summary: str,
    compute: Compute,
    *,
    dtypes: Collection[DType] = FLOATS,
    result: DType | None = None,
    attrs: Mapping[str, Attr] | None = None,
    check: Callable[[Inference], None] | None = None,
    content: Contents | None = None,
    onnx: str,
    domain: str = "",
    since: int = 1,
) -> OpDef:
    """A row of one operand whose result has the same shape, and the same type unless `result`."""

    def infer(call: Inference) -> TensorType:
        (name,) = set(call.names)
        check_dtype(call, name, dtypes)
        if check is not None:
            check(call)
        type = call[0].type
        return type if result is None else type.with_dtype(result)

    def evaluate(call: Evaluation) -> Array:
        if result is None:
            return evaluated(compute, call)
        return np.asarray(compute(widened(call[0]), **call.attrs)).astype(result.numpy)

    return define(
        signature, summary, infer=infer, evaluate=evaluate, attrs=attrs,
        content=fitted(content, result),
        traits=(Trait.ELEMENTWISE,), onnx=onnx, domain=domain, since=since,
    )  # fmt: skip


def binary(
    signature: str,
    summary: str,
    compute: Compute,
    *,
    dtypes: Collection[DType],
    result: DType | None = None,
    attrs: Mapping[str, Attr] | None = None,
    check: Callable[[Inference], None] | None = None,
    content: Contents | None = None,
    commutative: bool = False,
    onnx: str,
    domain: str = "",
    since: int = 1,
) -> OpDef:
    """A row of two operands of one element type that broadcast to each other."""

    def infer(call: Inference) -> TensorType:
        for name in call.names:
            check_dtype(call, name, dtypes)
        dtype = check_same_dtype(call, *call.names)
        if check is not None:
            check(call)
        return TensorType(result or dtype, broadcast_shapes(*(type.shape for type in call.types)))

    def evaluate(call: Evaluation) -> Array:
        if result is None:
            return evaluated(compute, call)
        return np.asarray(compute(*call.items, **call.attrs)).astype(result.numpy)

    traits = (Trait.ELEMENTWISE, Trait.COMMUTATIVE) if commutative else (Trait.ELEMENTWISE,)
    return define(
        signature, summary, infer=infer, evaluate=evaluate, attrs=attrs,
        content=fitted(content, result),
        traits=traits, onnx=onnx, domain=domain, since=since,
    )  # fmt: skip


def variadic(
    signature: str,
    summary: str,
    compute: Compute,
    *,
    dtypes: Collection[DType],
    content: Contents | None = None,
    onnx: str,
    since: int = 1,
) -> OpDef:
    """A row of one or more operands of one element type that broadcast to each other."""

    def infer(call: Inference) -> TensorType:
        check_count(call, 1)
        (name,) = set(call.names)
        check_dtype(call, name, dtypes)
        dtype = check_same_dtype(call, name)
        return TensorType(dtype, broadcast_shapes(*(type.shape for type in call.types)))

    return define(
        signature, summary, infer=infer, evaluate=lambda call: evaluated(compute, call),
        content=fitted(content), traits=(Trait.ELEMENTWISE, Trait.COMMUTATIVE), onnx=onnx,
        since=since,
    )  # fmt: skip
