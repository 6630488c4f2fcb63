# pyright: standard
"""Lowering of matrix products and Einstein sums."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from tvm import te, tirx

from leptonc.backends.tvm.lower.parts import (
    Tensor,
    accumulator,
    aligned,
    cast,
    compute,
    filled,
    reduce_axes,
    tensor_as,
)
from leptonc.backends.tvm.lowering import LowerCall, Reason, Rule
from leptonc.ir.dims import Dim
from leptonc.ir.ops.einsum import label_extents, parse_equation
from leptonc.ir.ops.linear import arranged

Shape = Sequence[Dim]


def product(
    call: LowerCall, a: Tensor, b: Tensor, shapes: tuple[Shape, Shape],
    orders: tuple[Sequence[int], Sequence[int]] | None = None,
) -> Tensor:  # fmt: skip
    """The matrix product of operands whose axes, in `orders`, have the extents `shapes`."""
    left, right = shapes
    result = call.op.results[0].type.shape
    lead = result[: len(result) - (len(left) > 1) - (len(right) > 1)]
    depth = next((dim for dim in (left[-1], right[-2:][0]) if isinstance(dim, int)), left[-1])
    (inner,) = reduce_axes([call.dim(depth)])

    def element(*index: Any) -> Any:
        batch, rest = index[: len(lead)], index[len(lead) :]
        rows = rest[:1] if len(left) > 1 else ()
        columns = rest[-1:] if len(right) > 1 else ()
        at = [*_batch(call, left[:-2], lead, batch), *rows, inner.var]
        other = [*_batch(call, right[:-2], lead, batch), inner.var, *columns]
        first, second = (
            (at, other) if orders is None else (_undo(at, orders[0]), _undo(other, orders[1]))
        )
        return te.sum(a(*first) * b(*second), axis=[inner])

    total = compute(call.shape(), element, name="product")
    return filled(call, total, [depth], tirx.const(0, str(total.dtype)))


def _batch(call: LowerCall, dims: Shape, lead: Shape, index: Sequence[Any]) -> list[Any]:
    offset = len(lead) - len(dims)
    return [aligned(call, dim, lead[offset + i], index[offset + i]) for i, dim in enumerate(dims)]


def _undo(index: Sequence[Any], order: Sequence[int]) -> list[Any]:
    """The index of the operand itself, from that of its axes taken in `order`."""
    return [index[list(order).index(axis)] for axis in range(len(index))]


def finished(call: LowerCall, total: Tensor, change: Callable[..., Any] | None = None) -> Tensor:
    """`total` in the result's type, after `change(value, *index)` where there is one."""
    if change is None:
        return tensor_as(total, call.dtype())
    return compute(
        total.shape, lambda *i: cast(change(total(*i), *i), call.dtype()), name="finished"
    )


def _operands(call: LowerCall) -> tuple[Tensor, Tensor, str]:
    dtype = accumulator(call[0].dtype)
    return tensor_as(call[0], dtype), tensor_as(call[1], dtype), dtype


def matmul(call: LowerCall) -> Tensor:
    """Sums of products."""
    a, b, _ = _operands(call)
    left, right = (value.type.shape for value in call.op.operands)
    return finished(call, product(call, a, b, (left, right)))


def linear(call: LowerCall) -> Tensor:
    """Sums of products, bias."""
    x, w, dtype = _operands(call)
    left, right = call.op.operands[0].type.shape, call.op.operands[1].type.shape
    order = (1, 0) if call.op.attrs["transposed"] else (0, 1)
    total = product(call, x, w, (left, [right[axis] for axis in order]), (range(len(left)), order))
    bias = call.get("bias")
    if bias is None:
        return finished(call, total)
    return finished(call, total, lambda value, *i: value + cast(bias(i[-1]), dtype))


def gemm(call: LowerCall) -> Tensor:
    """Sums of products, scaled, plus the scaled bias."""
    a, b, dtype = _operands(call)
    left, right = call.op.operands[0].type.shape, call.op.operands[1].type.shape
    orders = [(1, 0) if call.known.int(name) else (0, 1) for name in ("transA", "transB")]
    shapes = ([left[axis] for axis in orders[0]], [right[axis] for axis in orders[1]])
    total = product(call, a, b, shapes, (orders[0], orders[1]))
    alpha, beta, bias = call.known.float("alpha"), call.known.float("beta"), call.get("bias")
    result, type = call.op.results[0].type.shape, call.known.type("bias")

    def change(value: Any, *index: Any) -> Any:
        value = _scaled(value, alpha, call.dtype())
        if bias is None or type is None or beta == 0:
            return value
        offset = len(result) - type.rank
        at = [
            aligned(call, dim, result[offset + i], index[offset + i])
            for i, dim in enumerate(type.shape)
        ]
        addend = _scaled(cast(bias(*at), dtype), beta, call.dtype())
        return value + (addend if str(addend.ty) == str(value.ty) else cast(addend, str(value.ty)))

    return finished(call, total, change)


def _scaled(value: Any, factor: float, dtype: str) -> Any:
    """`value` times a factor; integers, read as `dtype`, are scaled in double precision."""
    if factor == 1:
        return value
    if str(value.ty).startswith("float"):
        return value * tirx.const(factor, str(value.ty))
    return cast(cast(value, dtype), "float64") * tirx.const(factor, "float64")


def fused_matmul(call: LowerCall) -> Tensor:
    """Sums of products of rearranged operands, scaled."""
    a, b, dtype = _operands(call)
    left, right = (value.type.shape for value in call.op.operands)
    orders = (
        arranged(range(len(left)), call.known, "A"),
        arranged(range(len(right)), call.known, "B"),
    )
    shapes = ([left[axis] for axis in orders[0]], [right[axis] for axis in orders[1]])
    alpha = tirx.const(call.known.float("alpha"), dtype)
    return finished(call, product(call, a, b, shapes, orders), lambda value, *_: value * alpha)


def einsum(call: LowerCall) -> Tensor:
    """One sum over the labels that the result does not have."""
    dtype = accumulator(call[0].dtype)
    tensors = [tensor_as(tensor, dtype) for tensor in call.all("inputs")]
    shapes = [value.type.shape for value in call.op.operands]
    equation = parse_equation(call.known.str("equation"), [len(shape) for shape in shapes])
    extents = label_extents(equation, shapes)
    summed = reduce_axes([call.dim(extents[label]) for label in equation.summed])

    def element(*index: Any) -> Any:
        place = dict(zip(equation.output, index, strict=True))
        place.update(zip(equation.summed, (axis.var for axis in summed), strict=True))
        total: Any = None
        for tensor, term, shape in zip(tensors, equation.terms, shapes, strict=True):
            at = [
                aligned(call, dim, extents[label], place[label])
                for label, dim in zip(term, shape, strict=True)
            ]
            total = tensor(*at) if total is None else total * tensor(*at)
        return te.sum(total, axis=summed) if summed else total

    total = compute(call.shape(), element, name="einsum")
    summed_dims = [extents[label] for label in equation.summed]
    return finished(call, filled(call, total, summed_dims, tirx.const(0, dtype)))


RULES: dict[str, Rule] = {
    "matmul": matmul,
    "linear": linear,
    "gemm": gemm,
    "fused_matmul": fused_matmul,
    "einsum": einsum,
}
REASONS: dict[str, Reason] = {}
