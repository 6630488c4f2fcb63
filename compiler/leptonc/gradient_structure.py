"""How operations are differentiated that move, join, reduce or multiply whole tensors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

from leptonc.gradient_step import Rule, Step, filled, in_type, integers, shaped, summed_to
from leptonc.ir.graph import Value
from leptonc.ir.ops.movement import pad_widths
from leptonc.ir.ops.reduce import reduced_axes
from leptonc.ir.ops.shape import permutation
from leptonc.ir.ops.slicing import cuts_of
from leptonc.ir.types import DType

# -- movement -----------------------------------------------------------------------------------


def _view(step: Step) -> Sequence[Value | None]:
    return [shaped(step.build, step.gradient, step.x), *_nothing_after_the_first(step)]


def _nothing_after_the_first(step: Step) -> list[Value | None]:
    return [None] * (len(step.op.operands) - 1)


def _transpose(step: Step) -> Sequence[Value | None]:
    order = permutation(step.call)
    back = tuple(order.index(axis) for axis in range(len(order)))
    return [step.build.transpose(step.gradient, perm=back)]


def _expand(step: Step) -> Sequence[Value | None]:
    return [step.gradient, None]


def _concat(step: Step) -> Sequence[Value | None]:
    build, axis = step.build, step.op.int("axis") % step.y.type.rank
    parts: list[Value | None] = []
    start = integers(build, 0)
    for operand in step.op.operands:
        end = build.add(start, build.shape(operand, start=axis, end=axis + 1))
        part = build.slice(step.gradient, start, end, axes=integers(build, axis))
        parts.append(shaped(build, part, operand))
        start = end
    return parts


def _split(step: Step) -> Sequence[Value | None]:
    parts = [
        filled(step.build, 0, result) if gradient is None else gradient
        for result, gradient in zip(step.op.results, step.gradients, strict=True)
    ]
    joined = step.build.concat(*parts, axis=step.op.int("axis"))
    return [shaped(step.build, joined, step.x), *_nothing_after_the_first(step)]


def _slice(step: Step) -> Sequence[Value | None]:
    """Zeros around the gradient, where elements were cut off."""
    cuts = cuts_of(step.call)
    if cuts is None:
        raise step.error("where it starts and ends only run time knows", "make both constants")
    rank = step.x.type.rank
    before, after = [0] * rank, [0] * rank
    for axis, cut in cuts.items():
        if cut.step != 1:
            raise step.error(f"in steps of {cut.step}", "only steps of 1 are")
        end = step.x.type.shape[axis] - cut.start - cut.extent
        if not isinstance(cut.start, int) or not isinstance(end, int):
            raise step.error(
                f"from {cut.start} along an axis of {step.x.type.shape[axis]} elements",
                "give the extents numbers, as dims do that compiling is told",
            )
        before[axis], after[axis] = cut.start, end
    pads = integers(step.build, *before, *after)
    return [step.build.pad(step.gradient, pads), *_nothing_after_the_first(step)]


def _pad(step: Step) -> Sequence[Value | None]:
    """What was added is removed, and what was removed is zero."""
    pads, axes = step.op.operands[1], step.op.operand("axes")
    if step.op.str("mode") != "constant":
        raise step.error(f"in the mode {step.op.str('mode')}", "only constant padding is")
    if step.wanted != frozenset({0}):
        raise step.error("by the constant that it pads with", "make it a constant")
    if pad_widths(step.call) is None:
        raise step.error("by widths that only run time knows", "make pads and axes constants")
    build, named = step.build, {} if axes is None else {"axes": axes}
    kept = build.pad(step.gradient, build.neg(pads), **named)
    return [shaped(build, kept, step.x), *_nothing_after_the_first(step)]


# -- reductions ---------------------------------------------------------------------------------


def _spread(step: Step) -> Value:
    """The gradient of a reduction, repeated along what was reduced."""
    build, axes = step.build, reduced_axes(step.call)
    if axes is None:
        raise step.error("over axes that only run time knows", "make the axes a constant")
    gradient = step.gradient
    if axes and not step.op.int("keepdims"):
        gradient = build.unsqueeze(gradient, integers(build, *axes))
    return build.expand(gradient, build.shape(step.x)) if axes else gradient


def _reduce_sum(step: Step) -> Sequence[Value | None]:
    return [_spread(step), *_nothing_after_the_first(step)]


def _reduce_mean(step: Step) -> Sequence[Value | None]:
    """The number of elements may be beyond a narrow type, so it is divided by in a wider one."""
    build, dtype = step.build, step.x.type.dtype
    wide = DType.F64 if dtype is DType.F64 else DType.F32
    count = build.div(build.size(step.x), build.size(step.y))
    part = build.div(in_type(build, _spread(step), wide), build.cast(count, to=wide))
    return [in_type(build, part, dtype), *_nothing_after_the_first(step)]


def _softmax(step: Step) -> Sequence[Value | None]:
    build, axis = step.build, integers(step.build, step.op.int("axis"))
    total = build.reduce_sum(build.mul(step.gradient, step.y), axis, keepdims=1)
    return [build.mul(step.y, build.sub(step.gradient, total))]


def _log_softmax(step: Step) -> Sequence[Value | None]:
    build, axis = step.build, integers(step.build, step.op.int("axis"))
    total = build.reduce_sum(step.gradient, axis, keepdims=1)
    return [build.sub(step.gradient, build.mul(build.exp(step.y), total))]


# -- products -----------------------------------------------------------------------------------


def _turned(step: Step, value: Value) -> Value:
    """Matrices with their last two axes exchanged."""
    rank = value.type.rank
    return step.build.transpose(value, perm=(*range(rank - 2), rank - 1, rank - 2))


def _matmul(step: Step) -> Sequence[Value | None]:
    """Vectors count as matrices of one row on the left and one column on the right."""
    build, (a, b), gradient = step.build, step.op.operands, step.gradient
    left, right = a, b
    if b.type.rank == 1:
        right = build.unsqueeze(b, integers(build, 1))
        gradient = build.unsqueeze(gradient, integers(build, -1))
    if a.type.rank == 1:
        left = build.unsqueeze(a, integers(build, 0))
        gradient = build.unsqueeze(gradient, integers(build, -2))
    parts: list[Value | None] = [None, None]
    if 0 in step.wanted:
        whole = build.matmul(gradient, _turned(step, right))
        parts[0] = shaped(build, summed_to(build, whole, left), a)
    if 1 in step.wanted:
        whole = build.matmul(_turned(step, left), gradient)
        parts[1] = shaped(build, summed_to(build, whole, right), b)
    return parts


def _gemm(step: Step) -> Sequence[Value | None]:
    build, a, b = step.build, step.op.operands[0], step.op.operands[1]
    scaled = build.mul(step.gradient, step.number(step.op.float("alpha")))
    left = _turned(step, a) if step.op.int("transA") else a
    right = _turned(step, b) if step.op.int("transB") else b
    by_left = build.matmul(scaled, _turned(step, right))
    by_right = build.matmul(_turned(step, left), scaled)
    parts: list[Value | None] = [
        _turned(step, by_left) if step.op.int("transA") else by_left,
        _turned(step, by_right) if step.op.int("transB") else by_right,
    ]
    if len(step.op.operands) > 2:
        parts.append(build.mul(step.gradient, step.number(step.op.float("beta"))))
    return parts


STRUCTURE: Mapping[str, Rule] = MappingProxyType({
    "concat": _concat,
    "expand": _expand,
    "flatten": _view,
    "gemm": _gemm,
    "log_softmax": _log_softmax,
    "matmul": _matmul,
    "pad": _pad,
    "reduce_mean": _reduce_mean,
    "reduce_sum": _reduce_sum,
    "reshape": _view,
    "slice": _slice,
    "softmax": _softmax,
    "split": _split,
    "squeeze": _view,
    "transpose": _transpose,
    "unsqueeze": _view,
})  # fmt: skip
"""By the name of the row."""
