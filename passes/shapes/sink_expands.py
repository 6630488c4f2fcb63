"""sink-expands: what is repeated is computed before it is repeated."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from leptonc.ir.build import Builder, infer_types
from leptonc.ir.dims import Dim, symbols
from leptonc.ir.graph import Op, Value
from leptonc.ir.table import Inference, Trait, all_ops
from leptonc.passes.base import RewritePass
from leptonc.passes.contract import EXACT, Contract
from leptonc.passes.pattern import Match, Var, pat
from leptonc.passes.rewrite import Rule, rule
from leptonc.passes.shapes.expands import expand_to
from leptonc.passes.views import reshape_to

SEVERAL = tuple(
    row.name for row in all_ops().values()
    if row.has(Trait.ELEMENTWISE) and len(row.operands) > 1 and not row.has(Trait.EFFECT)
)  # fmt: skip
"""Operations that broadcast their operands."""


def _expand_of(value: Value, reader: Op) -> Op | None:
    op = value.producer
    return op if op is not None and op.name == "expand" and op.region is reader.region else None


def _asked(expand: Op) -> Iterator[str]:
    """The symbols in the extents that an expand asks for, where they are known."""
    content = expand.operands[1].content
    for dim in () if content is None else content.reshape(-1):
        yield from symbols(dim)


def _small_shape(op: Op, operands: list[Value]) -> tuple[Dim, ...]:
    """The shape that the operation has on other operands."""
    return infer_types(Inference(op.definition, operands, op.operand_names, op.attrs))[0].shape


@rule(pat.any_of(*SEVERAL)(...).fed_by("expand"))
def compute_before_repeating(m: Match, build: Builder) -> Value:
    """Extents that operands of an elementwise operation get from expands alone come after it."""
    root = m.root
    m.fits(len(root.operands) > 1 and len(root.results) == 1)
    expands = [op for value in root.operands if (op := _expand_of(value, root)) is not None]
    m.fits(bool(expands))
    operands = [
        value if (op := _expand_of(value, root)) is None else op.operands[0]
        for value in root.operands
    ]
    shape = root.result.type.shape
    small = _small_shape(root, operands)
    known = all(dim in (1, full) for dim, full in zip(small, shape[-len(small) :], strict=False))
    m.require(known, "what the extents are without the expands is not known")
    shared = any(op.result.use_count > 1 for op in expands)
    m.require(small == shape or not shared, "something else reads what is repeated")
    told = {name for value in operands for dim in value.type.shape for name in symbols(dim)}
    told |= {name for op in expands for name in _asked(op)}
    wanted = {name for dim in shape for name in symbols(dim)}
    m.require(small == shape or wanted <= told, "the extents are known at run time only")
    m.also.extend(expands)
    names = root.operand_names
    made = build.op(root.definition, operands, root.attrs, names=names).result
    return made if small == shape else expand_to(build, made, shape)


x, places = Var("x"), Var("places")
repeated = pat.expand(places, Var("extents"))


@rule(pat.gather(x, repeated))
def gather_before_repeating(m: Match, build: Builder) -> Value:
    """What is read at the same places again and again is read once and repeated."""
    axis = m.root.int("axis") % m[x].type.rank
    old, new = m[places].type.shape, m[repeated].result.type.shape
    small = (*[1] * (len(new) - len(old)), *old)
    m.require(axis == 0, "the places are not of the first axis")
    m.require(0 not in small, "nothing is read")
    spread = m[places]
    if len(small) > len(old):
        spread = reshape_to(build, spread, small)
    return expand_to(build, build.gather(m[x], spread), m.root.result.type.shape)


@dataclass(frozen=True)
class SinkExpands(RewritePass):
    """Computes of tensors that are expanded before they are, and lets operations broadcast.

    An elementwise operation, or a gather, reads what an `expand` reads; the extents that only the
    expands gave it come from an `expand` of its result. There is then one in place of several,
    later ones vanish into operations that broadcast by themselves, and less is computed.
    """

    name: ClassVar[str] = "sink-expands"
    numbers: ClassVar[Contract] = EXACT
    rules: ClassVar[tuple[Rule, ...]] = (compute_before_repeating, gather_before_repeating)
