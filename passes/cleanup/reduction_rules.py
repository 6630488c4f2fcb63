"""Rules of `simplify` about reductions and the shapes around them."""

from __future__ import annotations

from leptonc.ir.build import Builder
from leptonc.ir.graph import Attribute, Op, Value
from leptonc.ir.ops.reduce import reduced_axes, reduced_shape
from leptonc.passes.cleanup.slice_rules import axis_of, inference_of
from leptonc.passes.pattern import Match, Var, pat
from leptonc.passes.rewrite import rule
from leptonc.passes.views import require_known_extents, reshape_to

x = Var("x")

REDUCTIONS = (
    "reduce_sum", "reduce_mean", "reduce_max", "reduce_min", "reduce_prod", "reduce_l1",
    "reduce_l2", "reduce_sum_square", "reduce_log_sum", "reduce_log_sum_exp",
)  # fmt: skip
POSITIONS = ("arg_max", "arg_min")

reduced = pat.any_of(*REDUCTIONS, *POSITIONS)(...)


def combined_axes(op: Op) -> tuple[int, ...] | None:
    """The axes that a reduction combines, ascending; None where run time tells."""
    return (axis_of(op),) if op.name in POSITIONS else reduced_axes(inference_of(op))


@rule(pat.reshape(reduced, Var("extents")))
def shape_of_reduction(m: Match, build: Builder) -> Value:
    """A reduction keeps or drops the axes that it combines by itself."""
    op, axes = m[reduced], combined_axes(m[reduced])
    m.fits(axes is not None)
    keeps = not op.int("keepdims")
    shape = reduced_shape(op.operands[0].type.shape, axes or (), keeps)
    m.fits(bool(axes) and m.root.result.type.shape == shape)
    attrs: dict[str, Attribute] = {**op.attrs, "keepdims": int(keeps)}
    return build.op(op.definition, op.operands, attrs, names=op.operand_names).result


@rule(pat.any_of("reduce_max", "reduce_min", "reduce_prod")(...))
def reduction_of_ones(m: Match, build: Builder) -> Value:
    """The largest, the smallest or the product of one element is that element."""
    source, axes = m.root.operands[0], combined_axes(m.root)
    m.fits(axes is not None and all(source.type.shape[axis] == 1 for axis in axes))
    require_known_extents(m, source)
    return reshape_to(build, source, m.root.result.type.shape)


RULES = (shape_of_reduction, reduction_of_ones)
