"""Rules of `simplify` about casts that follow each other, or enclose moves of elements."""

from __future__ import annotations

from leptonc.ir.build import Builder
from leptonc.ir.graph import Op, Value
from leptonc.ir.types import DType
from leptonc.passes.pattern import Const, Match, Var, pat
from leptonc.passes.rewrite import rule

x = Var("x")
inner_cast = pat.cast(x).shared()

_MANTISSA = {DType.F16: 11, DType.BF16: 8, DType.F32: 24, DType.F64: 53}


def loses_nothing(source: DType, target: DType) -> bool:
    """True where every value of `source` is one of `target`."""
    if source is DType.BOOL or source is target:
        return target in _MANTISSA or target.is_integer or source is target
    if source in _MANTISSA:
        wider = (DType.F64,) if source is DType.F32 else (DType.F32, DType.F64)
        return target in wider
    if not source.is_integer:
        return False
    if target.is_integer:
        room = target.width - (target.is_signed and not source.is_signed)
        return room >= source.width and (target.is_signed or not source.is_signed)
    return target in _MANTISSA and source.width <= _MANTISSA[target]


def _is_same_at_once(source: DType, middle: DType, last: DType) -> bool:
    """True where a cast to `middle` changes nothing about what a cast to `last` gives."""
    if loses_nothing(source, middle):
        return True
    if source.is_integer and middle.is_integer and last.is_integer:
        return last.width <= middle.width  # high bits are dropped now or later
    # no float that an integer is rounded to is zero
    return source.is_integer and middle in _MANTISSA and last is DType.BOOL


def _cast(build: Builder, value: Value, like: Op) -> Value:
    saturate, mode = like.int("saturate"), like.str("round_mode")
    return build.cast(value, to=like.result.type.dtype, saturate=saturate, round_mode=mode)


@rule(pat.cast(x))
def cast_to_same(m: Match, build: Builder) -> Value:
    """A cast to the element type it has is its operand."""
    m.fits(m[x].type.dtype is m.root.result.type.dtype)
    return m[x]


@rule(pat.cast_like(x, Var("other")))
def cast_like_to_cast(m: Match, build: Builder) -> Value:
    """A cast to the type of another tensor is a cast to a known type."""
    return _cast(build, m[x], m.root)


@rule(pat.cast(inner_cast))
def cast_of_cast(m: Match, build: Builder) -> Value:
    """Two casts are one where the first loses nothing."""
    middle, last = m[inner_cast].result.type.dtype, m.root.result.type.dtype
    m.require(_is_same_at_once(m[x].type.dtype, middle, last), "the first cast rounds")
    return _cast(build, m[x], m.root)


MOVES = (
    "reshape", "transpose", "expand", "tile", "slice", "gather", "depth_to_space",
    "space_to_depth", "squeeze", "unsqueeze", "flatten",
)  # fmt: skip
moved = pat.any_of(*MOVES)(...)


@rule(pat.cast(moved))
def casts_around_move(m: Match, build: Builder) -> Value:
    """Casts before and after a move of elements go where the element type is as before."""
    op = m[moved]
    before = op.operands[0].producer
    m.fits(before is not None and before.name == "cast")
    assert before is not None
    source = before.operands[0]
    m.fits(source.type.dtype is m.root.result.type.dtype)
    exact = loses_nothing(source.type.dtype, op.result.type.dtype)
    m.require(exact, "the first cast rounds")
    m.also.append(before)
    operands = [source, *op.operands[1:]]
    return build.op(op.definition, operands, op.attrs, names=op.operand_names).result


hot = pat.one_hot(x, Var("depth"), Const("values"))


@rule(pat.cast(hot))
def cast_of_one_hot(m: Match, build: Builder) -> Value:
    """What one-hot rows are made of is cast, not the rows."""
    op = m[hot]
    index, depth, values = op.operands
    same = index.type.dtype is depth.type.dtype is DType.I64
    m.require(
        same and m.root.result.type.dtype is DType.F32, "runtimes lack one-hot rows of such types"
    )
    cast = _cast(build, values, m.root)
    return build.op(op.definition, [index, depth, cast], op.attrs).result


RULES = (cast_to_same, cast_like_to_cast, cast_of_cast, casts_around_move, cast_of_one_hot)
