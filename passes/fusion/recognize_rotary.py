"""recognize-rotary: pairs of columns turned by angles become one operation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from leptonc.ir.build import Builder
from leptonc.ir.dims import Dim
from leptonc.ir.graph import Op, Value
from leptonc.ir.types import DType
from leptonc.passes.base import RewritePass
from leptonc.passes.constants import integers
from leptonc.passes.contract import EXACT, Contract
from leptonc.passes.fusion.rotary_angles import twice
from leptonc.passes.pattern import Match, NoMatchError, Var, pat
from leptonc.passes.rewrite import Rule, rule
from leptonc.passes.views import expand_to, reshape_to

x, cos, sin = Var("x"), Var("cos"), Var("sin")
first, second = Var("first"), Var("second")

TURN = (0, 2, 1, 3)


@dataclass(frozen=True)
class _Columns:
    """Every `step`th of the last axis of a tensor, from `start` to before `stop`."""

    of: Value
    start: int
    stop: int
    step: int = 1


def _columns(value: Value) -> _Columns | None:
    """Which columns of what `value` is."""
    width = value.type.shape[-1] if value.type.rank else None
    if not isinstance(width, int):
        return None
    op = value.producer
    whole = _Columns(value, 0, width)
    if op is None or op.name not in ("slice", "split"):
        return whole
    rank, wide = op.operands[0].type.rank, op.operands[0].type.shape[-1]
    if not isinstance(wide, int):
        return whole
    if op.name == "split":
        if op.int("axis") % rank != rank - 1:
            return whole
        widths = [result.type.shape[-1] for result in op.results[: op.results.index(value)]]
        known = [item for item in widths if isinstance(item, int)]
        if len(known) != len(widths):
            return whole
        return _Columns(op.operands[0], sum(known), sum(known) + width)
    given = [integers(op.operand(name)) for name in ("starts", "axes", "steps")]
    starts, axes, steps = given
    if starts is None or axes is None or len(axes) != 1 or axes[0] % rank != rank - 1:
        return whole
    step = steps[0] if steps is not None else 1
    if step < 1 or (op.operand("steps") is not None and steps is None):
        return whole
    start = starts[0] + wide if starts[0] < 0 else min(starts[0], wide)
    return _Columns(op.operands[0], start, start + step * (width - 1) + 1, step)


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
    whole, low, high = (_columns(each) for each in (x, other, negated))
    if whole is None or low is None or high is None or whole.step != 1:
        return None
    if low.of is not whole.of or high.of is not whole.of:
        # columns of columns stay apart where something else reads them
        if low.of is not x or high.of is not x:
            return None
        whole = _Columns(x, 0, whole.stop - whole.start)
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


def _aligned(angles: Value) -> tuple[Dim, ...]:
    """The extents of angles beside those of heads."""
    return (*(1,) * (4 - angles.type.rank), *angles.type.shape)


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
    m.require(value.type.dtype is DType.F32, "the numbers are not f32")
    m.require(all(op.result.use_count == 1 for op in ops[:2]), "the products are read elsewhere")
    shapes = {_aligned(cosines), _aligned(sines)}
    m.require(len(shapes) == 1, "cosines and sines are not alike")
    (shape,) = shapes
    m.require(shape[3] == value.type.shape[3], "angles are the same for several columns")
    in_rows = shape[1] != 1
    heads = value.type.shape[2 if in_rows else 1]
    m.require(isinstance(heads, int), "the number of heads is not known")
    batch, length = value.type.shape[0], value.type.shape[1 if in_rows else 2]
    wanted = {(one, *rest) for one in (1, batch) for rest in ((1, length), (length, 1))}
    m.require(
        shape[:3] in wanted and shape[2 if in_rows else 1] == 1, "angles are not those of places"
    )
    halves = [twice(angles, neighbours=alternate) for angles in (cosines, sines)]
    m.require(all(half is not None for half in halves), "angles are not there twice")
    m.also += ops
    made: list[Value] = []
    for half in halves:
        assert half is not None
        once = half.made(build)
        flat = reshape_to(build, once, (shape[0], length, once.type.shape[-1]))
        made.append(expand_to(build, flat, (batch, length, once.type.shape[-1])))
    attrs = {"interleaved": int(alternate)}
    if not in_rows:
        return build.op("rotary_embedding", [value, *made], attrs).result
    return _of_rows(build, value, made, attrs)


def _of_rows(build: Builder, value: Value, angles: list[Value], attrs: dict[str, int]) -> Value:
    """The rotary embedding of [batch, length, heads, width]."""
    batch, length, heads, width = value.type.shape
    rows = reshape_to(build, value, (batch, length, heads * width))
    turned = build.op("rotary_embedding", [rows, *angles], {**attrs, "num_heads": heads})  # pyright: ignore[reportArgumentType] - heads are known
    return reshape_to(build, turned.result, value.type.shape)


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
    turned, others = _columns(m[x]), _columns(rest)
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
    m.require(all(isinstance(dim, int) for dim in m[x].type.shape[2:]), "the heads are not known")
    attrs = {"interleaved": m.root.int("interleaved")}
    rows = _of_rows(build, m[x], [m[cos], m[sin]], attrs)
    return build.transpose(rows, perm=TURN)


@dataclass(frozen=True)
class RecognizeRotary(RewritePass):
    """Recognises rotary embedding: halves or neighbours of columns turned by angles.

    Cosines and sines that are there twice are computed once. Runs before attention is recognised.
    """

    name: ClassVar[str] = "recognize-rotary"
    numbers: ClassVar[Contract] = EXACT
    rules: ClassVar[tuple[Rule, ...]] = (rotary_spelled_out, columns_left_alone, rotary_of_rows)
