"""Rules of `simplify` about borders and repetitions: pad, expand and tile."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from leptonc.ir.build import Builder
from leptonc.ir.dims import Dim
from leptonc.ir.graph import Op, Value
from leptonc.ir.ops.broadcasting import broadcast_shapes
from leptonc.ir.ops.movement import pad_widths
from leptonc.ir.table import DIMS, Trait, all_ops
from leptonc.passes.cleanup.slice_rules import inference_of
from leptonc.passes.constants import array_of, integers, is_exactly, uniform
from leptonc.passes.pattern import Match, Var, pat
from leptonc.passes.rewrite import rule
from leptonc.passes.views import require_known_extents

x = Var("x")

inner_pad = pat.pad(x, Var("pads"), constant_value=Var("value").optional(),
                    axes=Var("axes").optional())  # fmt: skip


@rule(pat.pad(inner_pad, Var("more"), constant_value=Var("value again").optional(),
              axes=Var("other axes").optional()))  # fmt: skip
def pad_of_pad(m: Match, build: Builder) -> Value:
    """Two borders of one kind are one."""
    first, second = pad_widths(inference_of(m[inner_pad])), pad_widths(inference_of(m.root))
    mode = m.root.str("mode")
    m.fits(mode == m[inner_pad].str("mode"))
    m.require(mode in ("constant", "edge"), "what is repeated depends on the first border")
    sums = [(a + c, b + d) for (a, b), (c, d) in zip(first or (), second or (), strict=False)]
    every = [width for pair in (*(first or ()), *(second or ())) for width in pair]
    known = first is not None and second is not None
    m.require(known and all(isinstance(width, int) for width in every), "a width is not known")
    cut = any(isinstance(width, int) and width < 0 for width in every)
    m.require(not cut, "a border is cut off")
    m.require(mode != "constant" or _same_value(m[inner_pad], m.root), "the borders differ")
    widths = [pair[0] for pair in sums] + [pair[1] for pair in sums]
    pads = build.const(np.array(widths, np.int64))
    value = m.root.operand("constant_value")
    if value is None:
        return build.pad(m[x], pads, mode=mode)
    return build.pad(m[x], pads, constant_value=value, mode=mode)


def _same_value(first: Op, second: Op) -> bool:
    a, b = first.operand("constant_value"), second.operand("constant_value")
    if a is b:
        return True
    if a is None or b is None:
        number = a if b is None else b
        return number is not None and is_exactly(number, 0.0)
    number = uniform(a)
    return number is not None and is_exactly(b, number)


def expand_to(build: Builder, value: Value, shape: Sequence[Dim]) -> Value:
    """`value` broadcast to a shape."""
    if all(isinstance(dim, int) for dim in shape):
        return build.expand(value, build.const(np.array(shape, np.int64)))
    spelled = {"value": tuple(shape), "shape": (len(shape),)}
    return build.expand(value, build.op(DIMS, [], spelled).result)


inner_expand = pat.expand(x, Var("extents")).shared()


@rule(pat.expand(inner_expand, Var("outer extents")))
def expand_of_expand(m: Match, build: Builder) -> Value:
    """Of two expands one to the last shape is enough."""
    extents = m.root.operands[1]
    if extents.content is None or tuple(extents.content) != m.root.result.type.shape:
        require_known_extents(m, m[x])
        return expand_to(build, m[x], m.root.result.type.shape)
    return build.expand(m[x], extents)


@rule(pat.tile(x, Var("repeats")))
def tile_of_ones(m: Match, build: Builder) -> Value:
    """A tensor tiled along axes of extent 1 only is expanded."""
    times = integers(m.root.operand("repeats"))
    m.fits(times is not None)
    pairs = list(zip(m[x].type.shape, times or (), strict=True))
    m.fits(all(dim == 1 or count == 1 for dim, count in pairs))
    # an expand cannot shrink an axis
    m.fits(all(count > 0 for _, count in pairs))
    return build.expand(
        m[x], build.const(np.array([count if dim == 1 else 1 for dim, count in pairs], np.int64))
    )


inner_tile = pat.tile(x, Var("repeats"))


@rule(pat.tile(inner_tile, Var("more repeats")))
def tile_of_tile(m: Match, build: Builder) -> Value:
    """A tensor tiled twice is tiled once."""
    first, second = (integers(op.operand("repeats")) for op in (m[inner_tile], m.root))
    m.require(first is not None and second is not None, "a count is known at run time only")
    counts = [a * b for a, b in zip(first or (), second or (), strict=True)]
    return build.tile(m[x], build.const(np.array(counts, np.int64)))


UNARY = tuple(
    row.name for row in all_ops().values()
    if row.has(Trait.ELEMENTWISE) and not row.has(Trait.VIEW) and row.name != "where"
)  # fmt: skip


@rule(pat.any_of(*UNARY)(...).fed_by("expand"))
def compute_before_expand(m: Match, build: Builder) -> Value:
    """What is computed of each element alone is computed before the elements are repeated."""
    varying = [value for value in m.root.operands if array_of(value) is None]
    m.fits(len(varying) == 1)
    (value,) = varying
    op = value.producer
    m.fits(op is not None and op.name == "expand" and op.region is m.root.region)
    assert op is not None
    scalars = all(
        other is value or (other.blob is not None and other.blob.size == 1)
        for other in m.root.operands
    )
    m.fits(scalars and value.use_count == 1)
    source, shape = op.operands[0], m.root.result.type.shape
    m.require(value.type.shape == shape, "the constants add axes")
    known = op.operands[1].content is not None
    m.require(known, "the extents are known at run time only")
    ranks = [other.type.rank for other in m.root.operands if other is not value]
    m.require(max(ranks, default=0) <= source.type.rank, "the constants add axes")
    m.also.append(op)
    operands = [source if each is value else each for each in m.root.operands]
    names = m.root.operand_names
    small = build.op(m.root.definition, operands, m.root.attrs, names=names).result
    return build.expand(small, op.operands[1])


@rule(pat.matmul(...).fed_by("expand"))
def product_of_expanded(m: Match, build: Builder) -> Value:
    """A product broadcasts its matrices by itself."""
    operands = [_unexpanded(value) for value in m.root.operands]
    m.fits(operands != list(m.root.operands))
    m.fits(min(value.type.rank for value in operands) >= 2)
    shape = broadcast_shapes(*(value.type.shape[:-2] for value in operands))
    m.require(shape == m.root.result.type.shape[:-2], "only the expanded tensor has these extents")
    return build.matmul(*operands)


def _unexpanded(value: Value) -> Value:
    op = value.producer
    if op is None or op.name != "expand":
        return value
    source = op.operands[0]
    return source if source.type.shape[-2:] == value.type.shape[-2:] else value


RULES = (
    pad_of_pad, expand_of_expand, tile_of_ones, tile_of_tile, compute_before_expand,
    product_of_expanded,
)  # fmt: skip
