"""What rules of rotary embedding ask of columns and angles, and the operation made of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from leptonc.ir.build import Builder
from leptonc.ir.dims import Dim, floordiv
from leptonc.ir.graph import Value
from leptonc.ir.types import DType
from leptonc.passes.constants import integers
from leptonc.passes.pattern import Match
from leptonc.passes.views import expand_to, reshape_to

TYPES = frozenset({DType.F32, DType.F16})
"""Element types for which runtimes have the operation."""
Shape = tuple[Dim, ...]


@dataclass(frozen=True)
class Columns:
    """Every `step`th of the last axis of a tensor, from `start` to before `stop`."""

    of: Value
    start: int
    stop: int
    step: int = 1


def columns_of(value: Value) -> Columns | None:
    """Which columns of what `value` is."""
    width = value.type.shape[-1] if value.type.rank else None
    if not isinstance(width, int):
        return None
    op = value.producer
    whole = Columns(value, 0, width)
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
        return Columns(op.operands[0], sum(known), sum(known) + width)
    given = [integers(op.operand(name)) for name in ("starts", "axes", "steps")]
    starts, axes, steps = given
    if starts is None or axes is None or len(axes) != 1 or axes[0] % rank != rank - 1:
        return whole
    step = steps[0] if steps is not None else 1
    if step < 1 or (op.operand("steps") is not None and steps is None):
        return whole
    start = starts[0] + wide if starts[0] < 0 else min(starts[0], wide)
    return Columns(op.operands[0], start, start + step * (width - 1) + 1, step)


@dataclass(frozen=True)
class Places:
    """How angles belong to heads, [batch, heads, length, width] or with rows before heads."""

    in_rows: bool
    batch: Dim
    length: Dim
    lead: Dim
    """How many batches the angles have."""
    columns: Dim
    """How many columns they have."""


def places_of(m: Match, whole: Shape, angles: Sequence[Shape]) -> Places:
    """How cosines and sines belong to heads; the rule does not apply where they do not."""
    shapes = {(*(1,) * (4 - len(shape)), *shape) for shape in angles}
    m.require(len(shapes) == 1, "cosines and sines are not alike")
    (shape,) = shapes
    in_rows = shape[1] != 1
    heads = whole[2 if in_rows else 1]
    m.require(isinstance(heads, int), "the number of heads is not known")
    batch, length = whole[0], whole[1 if in_rows else 2]
    wanted = {(one, *rest) for one in (1, batch) for rest in ((1, length), (length, 1))}
    m.require(
        shape[:3] in wanted and shape[2 if in_rows else 1] == 1, "angles are not those of places"
    )
    return Places(in_rows, batch, length, shape[0], shape[3])


def turned_by(
    build: Builder, value: Value, where: Places, angles: Sequence[Value], *, interleaved: bool
) -> Value:
    """`value` turned by cosines and sines that are there once for each pair."""
    made: list[Value] = []
    columns = floordiv(value.type.shape[3], 2)
    for once in angles:
        flat = reshape_to(build, once, (where.lead, where.length, columns))
        made.append(expand_to(build, flat, (where.batch, where.length, columns)))
    attrs = {"interleaved": int(interleaved)}
    if not where.in_rows:
        return build.op("rotary_embedding", [value, *made], attrs).result
    return of_rows(build, value, made, attrs)


def of_rows(build: Builder, value: Value, angles: list[Value], attrs: dict[str, int]) -> Value:
    """The rotary embedding of [batch, length, heads, width]."""
    batch, length, heads, width = value.type.shape
    rows = reshape_to(build, value, (batch, length, heads * width))
    turned = build.op("rotary_embedding", [rows, *angles], {**attrs, "num_heads": heads})  # pyright: ignore[reportArgumentType] - heads are known
    return reshape_to(build, turned.result, value.type.shape)
