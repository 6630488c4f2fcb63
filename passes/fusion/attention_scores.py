"""Walking from the weights of attention down to the product of queries and keys."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from leptonc.ir.dims import Dim
from leptonc.ir.graph import Op, Value
from leptonc.passes.constants import is_exactly
from leptonc.passes.fusion.attention_masks import number_of

_DEPTH = 12
"""How many operations there may be between the softmax and the product."""

_PASSED = frozenset({"mul", "div", "reshape", "add", "sub", "where", "tanh", "cast", "matmul"})


@dataclass(frozen=True)
class Mask:
    """Something that is added to scores of `shape`, or the score of those that a condition hides.

    `factor` is what the sum is multiplied by afterwards.
    """

    value: Value
    shape: tuple[Dim, ...]
    factor: float = 1.0
    fill: float | None = None
    hidden_where: bool = False


@dataclass(frozen=True)
class Scores:
    """What there is between a product of queries and keys and the softmax."""

    product: Op | None = None
    scale: float = 1.0
    softcap: float = 0.0
    masks: tuple[Mask, ...] = ()
    ops: tuple[Op, ...] = ()
    heads: Value | None = None
    """What the product is multiplied by as well, a number for each head or for all queries."""
    reason: str = ""
    """Why this is no attention, where there is a product."""

    def through(self, op: Op) -> Scores:
        """The same with one more operation."""
        return replace(self, ops=(*self.ops, op))


@dataclass
class Weights:
    """The softmax of some scores, and what is done to it before values are weighted."""

    softmax: Op
    guarded: bool = False
    ops: list[Op] = field(default_factory=list[Op])
    shared: bool = False


def weights_of(value: Value) -> Weights | None:
    """The softmax that `value` is, through reshapes and a guard against NaN."""
    ops: list[Op] = []
    guarded, shared = False, False
    for _ in range(4):
        op = value.producer
        if op is None:
            return None
        shared |= value.use_count > (2 if guarded and op.name == "softmax" else 1)
        ops.append(op)
        if op.name == "softmax":
            return Weights(op, guarded, ops, shared)
        if op.name == "reshape":
            value = op.operands[0]
        elif op.name == "where" and _is_guard(op):
            guarded, value = True, op.operands[2]
            if op.operands[0].producer is not None:
                ops.append(op.operands[0].producer)
        else:
            return None
    return None


def _is_guard(op: Op) -> bool:
    """True for a selection of zero wherever the third operand is NaN."""
    test, zero, other = op.operands
    asks = test.producer
    return (
        asks is not None
        and asks.name == "is_nan"
        and test.use_count == 1
        and asks.operands[0] is other
        and is_exactly(zero, 0.0)
        and op.result.type == other.type
    )


def scores_of(value: Value) -> Scores:
    """What there is between `value` and a product; no product where there is none."""
    return _walk(value, Scores(), _DEPTH, first=True)


def _walk(value: Value, above: Scores, depth: int, *, first: bool = False) -> Scores:
    op = value.producer
    if op is None or op.name not in _PASSED or not depth:
        return Scores()
    if value.use_count != 1:
        return Scores(op, reason="the scores are read elsewhere") if _near(op) else Scores()
    below = above.through(op)
    if op.name == "matmul":
        return replace(below, product=op)
    if op.name == "reshape":
        if op.result.type.shape[-2:] != op.operands[0].type.shape[-2:]:
            return Scores()
        return _walk(op.operands[0], below, depth - 1)
    return _STEPS[op.name](op, below, depth - 1)


def _near(op: Op) -> bool:
    """True for a product, or what adds a mask or a factor to one."""
    inner = [operand.producer for operand in op.operands]
    return op.name == "matmul" or any(each is not None and each.name == "matmul" for each in inner)


def _factor(op: Op, below: Scores, depth: int) -> Scores:
    """A product with one number."""
    for number, other in ((op.operands[1], op.operands[0]), op.operands)[: 2 - (op.name == "div")]:
        factor = number_of(number)
        if factor is None or other.type != op.result.type or (op.name == "div" and not factor):
            continue
        scale = below.scale * factor if op.name == "mul" else below.scale / factor
        return _walk(other, replace(below, scale=scale), depth)
    if op.name == "mul" and below.heads is None:
        for heads, other in (op.operands, op.operands[::-1]):
            if other.type == op.result.type and _by_head(heads, other):
                return _below_heads(other, replace(below, heads=heads), depth)
    return Scores()


def _by_head(heads: Value, scores: Value) -> bool:
    """True for a tensor that multiplies all scores of a head alike."""
    shape = heads.type.shape
    return len(shape) <= scores.type.rank and all(dim == 1 for dim in shape[-2:])


def _below_heads(value: Value, above: Scores, depth: int) -> Scores:
    """The product of queries and keys, without masks that would be multiplied as well."""
    found = _walk(value, above, depth)
    op = found.product
    same = op is not None and op.result.type.rank == value.type.rank
    return found if same and found.masks == above.masks and not found.softcap else Scores()


def _sum(op: Op, below: Scores, depth: int) -> Scores:
    """A mask that is added; either summand may be the scores."""
    found = Scores()
    for scores, mask in (op.operands, op.operands[::-1]):
        if scores.type != op.result.type:
            continue
        added = Mask(mask, op.result.type.shape, below.scale)
        result = _walk(scores, replace(below, masks=(*below.masks, added)), depth)
        if result.product is not None and not result.reason:
            return result
        found = result if result.product is not None else found
    return found


def _difference(op: Op, below: Scores, depth: int) -> Scores:
    """A mask that is subtracted."""
    scores, mask = op.operands
    if scores.type != op.result.type:
        return Scores()
    added = Mask(mask, op.result.type.shape, -below.scale)
    return _walk(scores, replace(below, masks=(*below.masks, added)), depth)


def _widening(op: Op, below: Scores, depth: int) -> Scores:
    """Scores that are kept in more bits from here on."""
    before, after = op.operands[0].type.dtype, op.result.type.dtype
    if not before.is_float or before.bits >= after.bits:
        return Scores()
    return _walk(op.operands[0], below, depth)


def _selection(op: Op, below: Scores, depth: int) -> Scores:
    """One number in place of the scores that a condition hides."""
    condition, yes, no = op.operands
    for scores, other, hidden in ((yes, no, False), (no, yes, True)):
        fill = number_of(other)
        if fill is None or scores.type != op.result.type:
            continue
        hiding = Mask(condition, op.result.type.shape, below.scale, fill, hidden)
        return _walk(scores, replace(below, masks=(*below.masks, hiding)), depth)
    return Scores()


def _cap(op: Op, below: Scores, depth: int) -> Scores:
    """Scores bent below a number; masks come after that."""
    if below.softcap or below.scale <= 0 or any(mask.factor != 1 for mask in below.masks):
        return Scores()
    capped = replace(below, softcap=below.scale, scale=1.0)
    found = _walk(op.operands[0], capped, depth)
    if found.product is None or len(found.masks) > len(below.masks):
        return Scores()
    return replace(found, scale=found.scale * found.softcap)


_STEPS = {
    "mul": _factor, "div": _factor, "add": _sum, "sub": _difference, "where": _selection,
    "tanh": _cap, "cast": _widening,
}  # fmt: skip
