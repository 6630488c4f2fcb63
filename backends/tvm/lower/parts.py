# pyright: standard
"""Stages that the rules of several families are made of."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

from tvm import te, tirx

from leptonc.backends.tvm.lower.arithmetic import converted, not_a_number
from leptonc.backends.tvm.lowering import LowerCall
from leptonc.ir.dims import Dim, is_positive, product

Tensor: TypeAlias = Any
"""A `te.Tensor`, whose fields TVM's type hints leave out."""
compute: Callable[..., Tensor] = te.compute
"""`te.compute`, of stages with one result."""
NARROW = ("float16", "bfloat16")
FLOATS = ("float32", "float64", *NARROW)


def natural(dtype: Any) -> str:
    """The element type that sums of products of `dtype` are computed in."""
    return "float32" if str(dtype) in NARROW else str(dtype)


def accumulator(dtype: Any) -> str:
    """The type that sums of products are held in: integers without a sign, which wrap."""
    return f"u{dtype}" if str(dtype).startswith("int") else natural(dtype)


def cast(value: Any, dtype: Any) -> Any:
    """A scalar in another element type, as ONNX casts."""
    return converted(value, str(dtype))


def reduce_axes(extents: Sequence[Any]) -> list[Any]:
    """One reduced axis for each extent."""
    return [
        te.reduce_axis((tirx.const(0, str(e.ty)), e), name=f"r{i}") for i, e in enumerate(extents)
    ]


def larger(a: Any, b: Any) -> Any:
    """The larger of two numbers, not-a-number where one of them is."""
    if str(a.ty) not in FLOATS:
        return tirx.max(a, b)
    return tirx.Select(tirx.any(a > b, not_a_number(a)), a, b)


def lowest(dtype: Any) -> Any:
    """The number that loses against every other in a maximum."""
    return tirx.const(-math.inf, str(dtype)) if str(dtype) in FLOATS else tirx.min_value(str(dtype))


maximum = te.comm_reducer(larger, lowest, name="maximum")
"""The largest element along reduced axes; not-a-number wins."""


def count_of(call: LowerCall, dims: Sequence[Dim], dtype: Any) -> Any:
    """The product of extents as a number of type `dtype`."""
    total: Any = call.index(1)
    for dim in dims:
        total = total * call.dim(dim)
    return cast(total, str(dtype))


def reduced(
    shape: Sequence[Any], axes: Sequence[int], combine: Callable[..., Any],
    element: Callable[..., Any], name: str,
) -> Tensor:  # fmt: skip
    """A stage that combines `element(*index)` over `axes` of `shape`, which it lacks."""
    kept = [extent for axis, extent in enumerate(shape) if axis not in axes]
    inner = reduce_axes([shape[axis] for axis in axes])

    def at(*index: Any) -> Any:
        full = merged(index, axes, [axis.var for axis in inner])
        return combine(element(*full), axis=inner) if inner else element(*full)

    return compute(kept, at, name=name)


def filled(call: LowerCall, stage: Tensor, dims: Sequence[Dim], value: Any) -> Tensor:
    """`stage`, or `value` where one of the extents `dims` it combines over may be and is zero.

    A loop without steps does not even store where it starts from.
    """
    if all(isinstance(dim, int) for dim in dims) or is_positive(product(dims)):
        return stage
    is_empty = call.dim(product(dims)) == call.index(0)
    return compute(stage.shape, lambda *i: tirx.Select(is_empty, value, stage(*i)), name="filled")


def merged(kept: Sequence[Any], axes: Sequence[int], inner: Sequence[Any]) -> list[Any]:
    """The whole index: `inner` at `axes`, `kept` at the other places."""
    rest, reduced_index = iter(kept), dict(zip(axes, inner, strict=True))
    return [
        reduced_index[axis] if axis in reduced_index else next(rest)
        for axis in range(len(kept) + len(inner))
    ]


def without(index: Sequence[Any], axes: Sequence[int]) -> list[Any]:
    """The index without the entries at `axes`."""
    return [item for axis, item in enumerate(index) if axis not in axes]


def padded(
    tensor: Tensor,
    before: Sequence[Any],
    shape: Sequence[Any],
    fill: Any,
    *,
    name: str = "padded",
) -> Tensor:
    """A stage of `shape` that holds `tensor` from `before` on, and `fill` around it.

    `before` and `shape` are per axis; None as an axis' extent says that it is not padded.
    """

    def element(*index: Any) -> Any:
        inside: list[Any] = []
        source: list[Any] = []
        for at, low, extent, wanted in zip(index, before, tensor.shape, shape, strict=True):
            if wanted is None:
                source.append(at)
                continue
            source.append(at - low)
            inside += [at >= low, at - low < extent]
        return (
            tirx.if_then_else(tirx.all(*inside), tensor(*source), fill)
            if inside
            else tensor(*source)
        )

    full = [
        extent if wanted is None else wanted
        for extent, wanted in zip(tensor.shape, shape, strict=True)
    ]
    return compute(full, element, name=name)


def tensor_as(tensor: Tensor, dtype: str) -> Tensor:
    """A stage of the same elements in another type; `tensor` itself where it has it."""
    if str(tensor.dtype) == dtype:
        return tensor
    return compute(tensor.shape, lambda *index: cast(tensor(*index), dtype), name="converted")


def read_aligned(
    call: LowerCall,
    tensor: Tensor,
    dims: Sequence[Dim],
    target: Sequence[Dim],
    index: Sequence[Any],
) -> Any:
    """The element of `tensor` (of extents `dims`) that broadcasting to `target` puts at `index`."""
    offset = len(target) - len(dims)
    return tensor(
        *(aligned(call, dim, target[offset + i], index[offset + i]) for i, dim in enumerate(dims))
    )


def aligned(call: LowerCall, dim: Dim, target: Dim, at: Any) -> Any:
    """Where an axis of extent `dim` is read for place `at` of the axis of extent `target`."""
    if dim == 1:
        return call.index(0)
    if dim == target or isinstance(dim, int):
        return at
    return tirx.Select(call.dim(dim) == call.index(1), call.index(0), at)
