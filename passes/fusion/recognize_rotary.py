"""recognize-rotary: pairs of columns turned by angles become one operation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from leptonc.ir.build import Builder
from leptonc.ir.graph import Op, Value
from leptonc.passes.base import RewritePass
from leptonc.passes.contract import REASSOCIATES, Contract
from leptonc.passes.fusion.rotary_angles import twice
from leptonc.passes.fusion.rotary_columns import (
    TYPES,
    Columns,
    columns_of,
    of_rows,
    places_of,
    turned_by,
)
from leptonc.passes.fusion.rotary_pairs import pairs_apart, pairs_beside
from leptonc.passes.pattern import Match, NoMatchError, Var, pat
from leptonc.passes.rewrite import Rule, rule

x, cos, sin = Var("x"), Var("cos"), Var("sin")
first, second = Var("first"), Var("second")

TURN = (0, 2, 1, 3)


def _negated(value: Value) -> Value | None:
    op = value.producer
    return op.operands[0] if op is not None and op.name == "neg" else None


def _parts(turned: Value) -> tuple[Value, Value, bool] | None:
    """The columns that are negated, the others, and whether they alternate."""
    op = turned.producer
    if op is None:
        return None
    if op.name == "reshape":
        stack = op.operands[0].producer
        if stack is None or stack.name != "concat" or len(stack.operands) != 2:
            return None
        views = [operand.producer for operand in stack.operands]
        shape = stack.result.type.shape
        if shape[-1] != 2 or op.result.type.shape != (*shape[:-2], shape[-2] * 2):
            return None
        inner = [view.operands[0] for view in views if view is not None and view.name == "reshape"]
        if len(inner) != 2 or any(part.type.shape != shape[:-1] for part in inner):
            return None
        negated = _negated(inner[0])
        return (negated, inner[1], True) if negated is not None else None
    rank = turned.type.rank
    if op.name != "concat" or len(op.operands) != 2 or op.int("axis") % rank != rank - 1:
        return None
    negated = _negated(op.operands[0])
    return (negated, op.operands[1], False) if negated is not None else None


def _alternates(x: Value, turned: Value) -> bool | None:
    """Whether pairs are neighbours, where `turned` has each other half of the columns of `x`."""
    parts = _parts(turned)
    if parts is None or x.type != turned.type:
        return None
    negated, other, alternate = parts
    whole, low, high = (columns_of(each) for each in (x, other, negated))
    if whole is None or low is None or high is None or whole.step != 1:
        return None
    if low.of is not whole.of or high.of is not whole.of:
        # columns of columns stay apart where something else reads them
        if low.of is not x or high.of is not x:
            return None
        whole = Columns(x, 0, whole.stop - whole.start)
    width = whole.stop - whole.start
    if width % 2:
        return None
    if alternate:
        fits = (low.start, high.start) == (whole.start, whole.start + 1)
        fits = fits and low.step == high.step == 2 and other.type.shape[-1] == width // 2
        return True if fits and negated.type.shape[-1] == width // 2 else None
    middle = whole.start + width // 2
    halves = (low.start, low.stop, high.start, high.stop)
    fits = halves == (whole.start, middle, middle, whole.stop) and low.step == high.step == 1
    return False if fits else None


@rule(pat.add(first, second))
def rotary_spelled_out(m: Match, build: Builder) -> Value:
    """Columns times cosines and their turned pairs times sines are a rotary embedding."""
    for left, right in ((m[first], m[second]), (m[second], m[first])):
        found = _products(left, right)
        if found is not None:
            break
    else:
        raise NoMatchError
    value, cosines, sines, alternate, ops = found
    m.require(value.type.dtype in TYPES, "the numbers are neither f32 nor f16")
    m.require(all(op.result.use_count == 1 for op in ops[:2]), "the products are read elsewhere")
    m.fits(cosines.type.dtype is sines.type.dtype is value.type.dtype)
    where = places_of(m, value.type.shape, (cosines.type.shape, sines.type.shape))
    m.require(where.columns == value.type.shape[3], "angles are the same for several columns")
    halves = [twice(angles, neighbours=alternate) for angles in (cosines, sines)]
    m.require(all(half is not None for half in halves), "angles are not there twice")
    m.also += ops
    made = [half.made(build) for half in halves if half is not None]
    return turned_by(build, value, where, made, interleaved=alternate)


def _products(left: Value, right: Value) -> tuple[Value, Value, Value, bool, list[Op]] | None:
    """The columns, cosines, sines, whether pairs are neighbours, and the two products."""
    direct, turning = left.producer, right.producer
    if direct is None or turning is None or direct.name != "mul" or turning.name != "mul":
        return None
    for turned, sines in (turning.operands, turning.operands[::-1]):
        for value, cosines in (direct.operands, direct.operands[::-1]):
            if value.type.rank != 4:
                continue
            alternate = _alternates(value, turned)
            if alternate is not None and value.type == direct.result.type:
                return value, cosines, sines, alternate, [direct, turning]
    return None


rotated = pat.rotary_embedding(x, cos, sin, num_heads=0)


@rule(pat.concat(rotated, Var("rest")))
def columns_left_alone(m: Match, build: Builder) -> Value:
    """A rotary embedding of the first columns, joined to the others, is one of all columns."""
    rest = m.root.operands[1]
    m.fits(m.root.int("axis") % 4 == 3)
    turned, others = columns_of(m[x]), columns_of(rest)
    m.require(turned is not None and others is not None, "the columns are not known")
    assert turned is not None
    assert others is not None
    whole = turned.of
    fits = others.of is whole and (turned.start, turned.stop) == (0, others.start)
    fits = fits and (others.stop, others.step) == (whole.type.shape[-1], 1)
    m.require(fits and turned.step == 1, "what is joined are other columns")
    return build.op("rotary_embedding", [whole, m[cos], m[sin]], m[rotated].attrs).result


@rule(pat.rotary_embedding(pat.transpose(x, perm=TURN), cos, sin, num_heads=0))
def rotary_of_rows(m: Match, build: Builder) -> Value:
    """A rotary embedding of heads that rows are made to is one of the rows."""
    known = all(isinstance(dim, int) and dim > 0 for dim in m[x].type.shape[2:])
    m.require(known, "the heads are not known, or there are none")
    attrs = {"interleaved": m.root.int("interleaved")}
    rows = of_rows(build, m[x], [m[cos], m[sin]], attrs)
    return build.transpose(rows, perm=TURN)


@dataclass(frozen=True)
class RecognizeRotary(RewritePass):
    """Recognises rotary embedding: halves or neighbours of columns turned by angles.

    Cosines and sines that are there twice are computed once. Runs before attention is recognised.
    In f32 not a bit changes; f16 is rounded once.
    """

    name: ClassVar[str] = "recognize-rotary"
    numbers: ClassVar[Contract] = REASSOCIATES
    rules: ClassVar[tuple[Rule, ...]] = (
        rotary_spelled_out, pairs_apart, pairs_beside, columns_left_alone, rotary_of_rows,
    )  # fmt: skip
