"""Rules of `recognize-softmax` and `recognize-for-kernels`."""

from __future__ import annotations

from leptonc.ir.build import Builder
from leptonc.ir.graph import Op, Value
from leptonc.passes.constants import integers
from leptonc.passes.pattern import Match, OpPattern, Var, pat
from leptonc.passes.rewrite import Rule, rule

x, y, axes = Var("x"), Var("y"), Var("axes")
powers = pat.exp(x)
total = pat.reduce_sum(powers, axes.optional(), keepdims=1)
inverse = pat.reciprocal(total)


def _axis(m: Match, reduction: Op, *, last: bool) -> int:
    """The only axis of a reduction; the rule does not apply to several."""
    rank = reduction.operands[0].type.rank
    given = reduction.operand("axes")
    found = integers(given) if given is not None else tuple(range(rank))
    if found == () and not reduction.int("noop_with_empty_axes"):
        found = tuple(range(rank))
    m.require(found is not None, "the axes of the sum are not known")
    m.require(found is not None and len(found) == 1, "the sum is not along one axis")
    axis = (found or (0,))[0] % rank
    behind = reduction.operands[0].type.shape[axis + 1 :]
    m.require(not last or all(dim == 1 for dim in behind), "the axis is not the last")
    m.fits(m.root.result.type.dtype.is_float)
    return axis


def _by_quotient(pattern: OpPattern, name: str, *, last: bool) -> Rule:
    @rule(pattern)
    def body(m: Match, build: Builder) -> Value:
        """Powers divided by their sum along an axis are a softmax."""
        axis = _axis(m, m[total], last=last)
        m.fits(m.root.result.type == m[x].type)
        return build.softmax(m[x], axis=axis)

    return Rule(name, body.pattern, body.body, body.doc)


logarithm = pat.log(total)


def _by_logarithm(*, last: bool) -> Rule:
    @rule(pat.sub(x, logarithm))
    def log_softmax_by_difference(m: Match, build: Builder) -> Value:
        """X less the logarithm of the sum of its powers is the logarithm of softmax."""
        axis = _axis(m, m[total], last=last)
        m.fits(m.root.result.type == m[x].type)
        return build.log_softmax(m[x], axis=axis)

    return log_softmax_by_difference


summed = pat.reduce_log_sum_exp(x, axes.optional(), keepdims=1)


def _by_log_sum(*, last: bool) -> Rule:
    @rule(pat.sub(x, summed))
    def log_softmax_by_log_sum(m: Match, build: Builder) -> Value:
        """X less the logarithm of the sum of its powers is the logarithm of softmax."""
        axis = _axis(m, m[summed], last=last)
        m.fits(m.root.result.type == m[x].type)
        return build.log_softmax(m[x], axis=axis)

    return log_softmax_by_log_sum


@rule(pat.log(pat.softmax(x)))
def logarithm_of_softmax(m: Match, build: Builder) -> Value:
    """The logarithm of a softmax is one operation, which gives no infinities."""
    softmax = m.root.operands[0].producer
    assert softmax is not None
    return build.log_softmax(m[x], axis=softmax.int("axis"))


shifted = pat.sub(x, y)


@rule(pat.any_of("softmax", "log_softmax")(shifted))
def shift_before_softmax(m: Match, build: Builder) -> Value:
    """What is subtracted from all elements along the axis of a softmax does not matter."""
    rank = m[x].type.rank
    m.fits(m[x].type == m.root.result.type)
    largest = m[y].producer
    m.fits(largest is not None and largest.name == "reduce_max" and largest.operands[0] is m[x])
    m.fits(m[y].type.rank == rank and m[y].type.shape[m.root.int("axis") % rank] == 1)
    return build.op(m.root.definition, [m[x]], m.root.attrs).result


top = pat.reduce_max(x, axes.optional(), keepdims=1).shared()
moved = pat.sub(x, top)
moved_sum = pat.reduce_sum(pat.exp(moved), y.optional(), keepdims=1)


def _by_shifted_log_sum(*, last: bool) -> Rule:
    @rule(pat.sub(x, pat.add(pat.log(moved_sum), top)))
    def log_softmax_by_shifted_sum(m: Match, build: Builder) -> Value:
        """X less the logarithm of a sum that is shifted back is the logarithm of softmax."""
        axis = _axis(m, m[moved_sum], last=last)
        m.fits(m.root.result.type == m[x].type and m[top].result.type.shape[axis] == 1)
        return build.log_softmax(m[x], axis=axis)

    return log_softmax_by_shifted_sum


def softmax_rules(*, last: bool) -> tuple[Rule, ...]:
    """Rules for the last axis only, or for any."""
    return (
        _by_quotient(pat.div(powers, total), "softmax-by-quotient", last=last),
        _by_quotient(pat.mul(powers, inverse), "softmax-by-reciprocal", last=last),
        _by_logarithm(last=last),
        _by_log_sum(last=last),
        _by_shifted_log_sum(last=last),
        logarithm_of_softmax,
        shift_before_softmax,
    )
