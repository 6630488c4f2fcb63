"""The operands of attention: as heads, without the factors and copies that exporters add."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from leptonc.ir.build import Builder
from leptonc.ir.dims import Dim, product
from leptonc.ir.graph import Op, Value
from leptonc.passes.cleanup.movement_rules import permutation
from leptonc.passes.fusion.attention_masks import number_of
from leptonc.passes.views import reshape_to

_STEPS = 6


@dataclass(frozen=True)
class Operand:
    """`factor` times `source` with its axes in the order of `perm`."""

    source: Value
    perm: tuple[int, ...]
    factor: float = 1.0

    @property
    def shape(self) -> tuple[Dim, ...]:
        """The extents after the transpose."""
        return tuple(self.source.type.shape[axis] for axis in self.perm)

    @property
    def is_plain(self) -> bool:
        """True where the axes stand as they are."""
        return self.perm == tuple(range(len(self.perm)))

    def swapped(self) -> Operand:
        """The same with the last two axes exchanged."""
        *lead, rows, columns = self.perm
        return Operand(self.source, (*lead, columns, rows), self.factor)

    def made(self, build: Builder) -> Value:
        """The source transposed."""
        if self.is_plain:
            return self.source
        return build.transpose(self.source, perm=self.perm)


def operand_of(value: Value) -> Operand:
    """`value` without the transposes and the numbers it is multiplied by."""
    perm, factor, best = tuple(range(value.type.rank)), 1.0, value
    for _ in range(_STEPS):
        op = best.producer
        if op is None:
            break
        if op.name == "transpose":
            inner = permutation(op)
            perm = tuple(inner[axis] for axis in perm)
            best = op.operands[0]
            continue
        found = _scaled(op)
        if found is None:
            break
        best, factor = found[0], factor * found[1]
    return Operand(best, perm, factor)


def _scaled(op: Op) -> tuple[Value, float] | None:
    """What a multiplication by one number multiplies, and the number."""
    if op.name == "mul":
        for value, number in (op.operands, op.operands[::-1]):
            factor = number_of(number)
            if factor is not None and value.type == op.result.type:
                return value, factor
    elif op.name == "div":
        factor = number_of(op.operands[1])
        if factor and op.operands[0].type == op.result.type:
            return op.operands[0], 1 / factor
    return None


def without_copies(operand: Operand, shape: Sequence[Dim]) -> tuple[Value, tuple[int, ...]] | None:
    """The narrower tensor whose heads are each repeated in `operand`, and how it is transposed.

    `shape` are the extents of the operand's heads, [batch, heads, length, width].
    """
    source = operand.source
    if tuple(operand.shape) != tuple(shape) or source.type.rank != 4:
        return None
    merge = source.producer
    if merge is None or merge.name != "reshape":
        return None
    expand = merge.operands[0].producer
    if expand is None or expand.name not in ("expand", "tile"):
        return None
    wide, narrow = expand.result.type.shape, expand.operands[0].type.shape
    heads = operand.perm[1]
    merged = (*wide[:heads], *wide[heads : heads + 1], *wide[heads + 2 :])
    if len(wide) != 5 or len(narrow) != 5:
        return None
    fits = (
        narrow[heads + 1] == 1
        and narrow == (*wide[: heads + 1], 1, *wide[heads + 2 :])
        and source.type.shape
        == (*wide[:heads], product(wide[heads : heads + 2]), *wide[heads + 2 :])
    )
    return (expand.operands[0], operand.perm) if fits and merged else None


def narrowed(build: Builder, narrow: Value, perm: tuple[int, ...]) -> Value:
    """The heads before they were repeated: the axis of copies is dropped."""
    heads = perm[1]
    shape = (*narrow.type.shape[: heads + 1], *narrow.type.shape[heads + 2 :])
    maker = narrow.producer
    before = maker.operands[0] if maker is not None and maker.name == "reshape" else narrow
    plain = before if before.type.shape == shape else reshape_to(build, narrow, shape)
    return Operand(plain, perm).made(build)


def lead_of(value: Value) -> tuple[Dim, Dim]:
    """The batch and the heads that the leading axes of an operand hold."""
    lead: list[Dim] = list(value.type.shape[:-2])
    if not lead:
        return 1, 1
    if len(lead) == 2:
        return lead[0], lead[1]
    op = value.producer
    if len(lead) > 2:
        return product(lead[:-1]), lead[-1]
    if op is not None and op.name == "reshape":
        before = op.operands[0].type.shape
        if len(before) == 4 and before[-2:] == value.type.shape[-2:]:
            return before[0], before[1]
    return lead[0], 1
