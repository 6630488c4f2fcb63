"""Rules of `simplify` about operations that move elements without computing any."""

from __future__ import annotations

from leptonc.ir.build import Builder
from leptonc.ir.dims import Dim
from leptonc.ir.graph import Op, Value
from leptonc.passes.constants import integers, uniform
from leptonc.passes.pattern import Match, Var, pat
from leptonc.passes.rewrite import rule
from leptonc.passes.views import require_known_extents, reshape_to

x = Var("x")
inner_transpose = pat.transpose(x).shared()
inner_reshape = pat.reshape(x, Var("extents")).shared()


def permutation(op: Op) -> tuple[int, ...]:
    """The axes of a transpose's operand in the order of its result."""
    return op.ints("perm") or tuple(reversed(range(op.result.type.rank)))


@rule(pat.transpose(x))
def transpose_nothing(m: Match, build: Builder) -> Value:
    """A transpose that keeps the order of the axes is its operand."""
    order = permutation(m.root)
    m.require(order == tuple(range(len(order))), "axes change places")
    return m[x]


@rule(pat.transpose(inner_transpose))
def transpose_of_transpose(m: Match, build: Builder) -> Value:
    """Two transposes are one."""
    first = permutation(m[inner_transpose])
    return build.transpose(m[x], perm=tuple(first[axis] for axis in permutation(m.root)))


@rule(pat.transpose(x))
def transpose_of_ones(m: Match, build: Builder) -> Value:
    """A transpose that only moves axes of extent 1 is a reshape, which moves no data."""
    shape = m[x].type.shape
    moved = [axis for axis in permutation(m.root) if shape[axis] != 1]
    m.fits(moved == sorted(moved))
    return reshape_to(build, m[x], m.root.result.type.shape)


@rule(pat.any_of("flatten", "squeeze", "unsqueeze")(x, Var("axes").optional()))
def view_to_reshape(m: Match, build: Builder) -> Value:
    """Views are spelled as reshapes, so that chains of them become one."""
    require_known_extents(m, m[x])
    axes = integers(m.root.operand("axes")) or () if m.root.name == "squeeze" else ()
    m.require(
        all(m[x].type.shape[axis] == 1 for axis in axes), "an axis that has to be 1 may be longer"
    )
    return reshape_to(build, m[x], m.root.result.type.shape)


@rule(pat.reshape(x, Var("extents")))
def reshape_to_same(m: Match, build: Builder) -> Value:
    """A reshape to the shape it has is its operand."""
    m.fits(m[x].type == m.root.result.type)
    return m[x]


@rule(pat.reshape(inner_reshape, Var("outer extents")))
def reshape_of_reshape(m: Match, build: Builder) -> Value:
    """Of two reshapes the second is enough."""
    require_known_extents(m, m[x])
    return reshape_to(build, m[x], m.root.result.type.shape)


outer_reshape = pat.reshape(pat.transpose(pat.reshape(x, Var("extents"))), Var("outer extents"))


@rule(outer_reshape)
def transpose_of_merged_axes(m: Match, build: Builder) -> Value:
    """Leading axes that are merged before a transpose and split again after it stay apart."""
    turned = m.root.operands[0].producer
    assert turned is not None
    merged, target = turned.operands[0].type.shape, m.root.result.type.shape
    source, order = m[x].type.shape, permutation(turned)
    extra = len(source) - len(merged)
    m.fits(extra > 0 and order[0] == 0 and source[extra + 1 :] == merged[1:])
    m.fits(len(target) == len(source))
    moved = (*range(extra + 1), *(axis + extra for axis in order[1:]))
    m.require(tuple(source[axis] for axis in moved) == target, "other axes are split after it")
    return build.transpose(m[x], perm=moved)


@rule(pat.expand(x, Var("extents")))
def expand_to_same(m: Match, build: Builder) -> Value:
    """An expand to the shape it has is its operand."""
    m.fits(m[x].type == m.root.result.type)
    return m[x]


@rule(pat.tile(x, Var("repeats")))
def tile_once(m: Match, build: Builder) -> Value:
    """A tensor tiled once along each axis is that tensor."""
    times = integers(m.root.operand("repeats"))
    m.fits(times is not None and set(times) <= {1})
    return m[x]


@rule(pat.slice(...))
def slice_of_everything(m: Match, build: Builder) -> Value:
    """A slice that takes all elements in their order is its operand."""
    source = m.root.operands[0]
    steps = m.root.operand("steps")
    m.fits(source.type == m.root.result.type)
    forward = steps is None or set(integers(steps) or (0,)) <= {1}
    m.require(forward, "elements change places")
    return source


@rule(pat.concat(x))
def concat_of_one(m: Match, build: Builder) -> Value:
    """The concatenation of one tensor is that tensor."""
    return m[x]


@rule(pat.concat(...))
def concat_of_concat(m: Match, build: Builder) -> Value:
    """Concatenations along one axis are one; parts without elements are left out."""
    axis = _axis(m.root)
    outer = m.root.result.users[0] if m.root.result.use_count == 1 else None
    joins_outer = outer is not None and outer.name == "concat" and _axis(outer) == axis
    m.fits(not joins_outer)  # a chain becomes one at its end, and not step by step
    parts: list[Value] = []
    waiting = [*reversed(m.root.operands)]
    while waiting:
        part = waiting.pop()
        inner = part.producer if part.use_count == 1 else None
        if inner is not None and inner.name == "concat" and _axis(inner) == axis:
            waiting += reversed(inner.operands)
        else:
            parts.append(part)
    kept = [part for part in parts if part.type.shape[axis] != 0] or parts[:1]
    m.fits(kept != list(m.root.operands))
    return build.op("concat", kept, {"axis": axis}).result


@rule(pat.concat(...))
def concat_of_split(m: Match, build: Builder) -> Value:
    """The parts of a split, put together again, are what was split."""
    split = m.root.operands[0].producer
    m.fits(split is not None and split.name == "split")
    assert split is not None
    m.require(split.results == m.root.operands, "the parts are not those of a split, in order")
    m.require(_axis(split) == _axis(m.root), "split and concat have different axes")
    return split.operands[0]


@rule(pat.split(...))
def split_in_one(m: Match, build: Builder) -> Value:
    """A split into one part is its operand."""
    m.fits(len(m.root.results) == 1)
    return m.root.operands[0]


@rule(pat.pad(...))
def pad_nothing(m: Match, build: Builder) -> Value:
    """A pad by nothing is its operand."""
    amounts = integers(m.root.operand("pads"))
    m.fits(amounts is not None and not any(amounts))
    return m.root.operands[0]


@rule(pat.any_of("depth_to_space", "space_to_depth")(x, blocksize=1))
def blocks_of_one(m: Match, build: Builder) -> Value:
    """Blocks of one element stay where they are."""
    return m[x]


@rule(pat.trilu(...))
def triangle_of_everything(m: Match, build: Builder) -> Value:
    """A triangle that holds the whole matrix is the matrix."""
    source, offset = m.root.operands[0], m.root.operand("k")
    start = uniform(offset) if offset is not None else 0
    m.require(start is not None, "where the triangle begins is not known")
    rows, columns = source.type.shape[-2:]
    m.require(
        _covers(rows, columns, start or 0, upper=bool(m.root.int("upper"))), "part is cut off"
    )
    return source


def _covers(rows: Dim, columns: Dim, start: float, *, upper: bool) -> bool:
    if upper:
        return isinstance(rows, int) and start <= 1 - rows
    return isinstance(columns, int) and start >= columns - 1


def _axis(op: Op) -> int:
    axis = op.int("axis")
    return axis + op.operands[0].type.rank if axis < 0 else axis


RULES = (
    transpose_nothing, transpose_of_transpose, transpose_of_ones, view_to_reshape, reshape_to_same,
    reshape_of_reshape, transpose_of_merged_axes, expand_to_same, tile_once,
    slice_of_everything, concat_of_one, concat_of_concat, concat_of_split, split_in_one,
    pad_nothing, blocks_of_one, triangle_of_everything,
)  # fmt: skip
