"""Rules of `sink-transposes` about moves of elements between transposes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from leptonc.ir.build import Builder
from leptonc.ir.graph import Attribute, Op, Value
from leptonc.ir.ops.movement import pad_widths
from leptonc.ir.table import Trait, all_ops
from leptonc.passes.cleanup.movement_rules import permutation
from leptonc.passes.cleanup.slice_rules import axis_of, inference_of
from leptonc.passes.constants import array_of, integers
from leptonc.passes.pattern import Match, Var, pat
from leptonc.passes.rewrite import rule

x = Var("x")

ELEMENTWISE = tuple(
    row.name
    for row in all_ops().values()
    if row.has(Trait.ELEMENTWISE) and row.name not in ("cast", "identity")
)


def transpose_of(value: Value) -> Op | None:
    """The transpose that gives `value`."""
    op = value.producer
    return op if op is not None and op.name == "transpose" else None


def is_single(value: Value) -> bool:
    """True for a tensor of one element, which broadcasts alike however axes are ordered."""
    return all(dim == 1 for dim in value.type.shape)


def untransposed(build: Builder, value: Value, order: Sequence[int]) -> Value:
    """What `value`, a constant or the result of a transpose by `order`, is without it."""
    data = array_of(value)
    if data is None:
        op = transpose_of(value)
        return value if op is None else op.operands[0]
    if data.size == 1:
        return value
    whole = data.reshape((1,) * (len(order) - data.ndim) + data.shape)
    return build.const(np.ascontiguousarray(np.transpose(whole, np.argsort(order))))


@rule(pat.concat(...).fed_by("transpose"))
def transpose_behind_concat(m: Match, build: Builder) -> Value:
    """Parts that are transposed alike are put together before the transpose."""
    parts = m.root.operands
    turned = [op for op in map(transpose_of, parts) if op is not None]
    m.fits(bool(turned))
    order = permutation(turned[0])
    alike = all(permutation(op) == order for op in turned)
    whole = all(transpose_of(part) is not None or array_of(part) is not None for part in parts)
    m.require(alike and whole, "not all parts are transposed alike")
    alone = sum(op.result.use_count == 1 for op in turned)
    m.require(alone > 1 or len(turned) == 1 == alone, "something else reads the transposed parts")
    sources = [untransposed(build, part, order) for part in parts]
    return build.transpose(build.concat(*sources, axis=order[axis_of(m.root)]), perm=order)


turned = pat.transpose(x)


@rule(
    pat.slice(
        turned, Var("starts"), Var("ends"), axes=Var("axes").optional(),
        steps=Var("steps").optional(),
    )
)  # fmt: skip
def transpose_behind_slice(m: Match, build: Builder) -> Value:
    """A slice is taken before the transpose, which moves less then."""
    order, given = permutation(m[turned]), m.root.operand("axes")
    count = m.root.operands[1].type.shape
    listed = integers(given) if given is not None else _first(count[0] if count else None)
    m.require(listed is not None, "the axes are known at run time only")
    moved = build.const(np.array([order[axis] for axis in listed or ()], np.int64))
    operands = {name: value for name, value in _operands(m.root).items() if name != "axes"}
    names = ("x", "starts", "ends", "axes", *(["steps"] if "steps" in operands else []))
    values = [m[x], operands["starts"], operands["ends"], moved]
    values += [operands["steps"]] if "steps" in operands else []
    return build.transpose(build.op("slice", values, names=names).result, perm=order)


def _first(count: object) -> tuple[int, ...] | None:
    return tuple(range(count)) if isinstance(count, int) else None


def _operands(op: Op) -> dict[str, Value]:
    return dict(zip(op.operand_names, op.operands, strict=True))


@rule(
    pat.pad(turned, Var("pads"), constant_value=Var("value").optional(),
            axes=Var("axes").optional())
)  # fmt: skip
def transpose_behind_pad(m: Match, build: Builder) -> Value:
    """A border is put around before the transpose."""
    order, widths = permutation(m[turned]), pad_widths(inference_of(m.root))
    every = [width for pair in widths or () for width in pair]
    known = widths is not None and all(isinstance(width, int) for width in every)
    m.require(known, "the widths are known at run time only")
    rank = len(order)
    pads = np.zeros(2 * rank, np.int64)
    for axis, (before, after) in enumerate(widths or ()):
        assert isinstance(before, int)
        assert isinstance(after, int)
        pads[order[axis]], pads[rank + order[axis]] = before, after
    attrs: dict[str, Attribute] = {"mode": m.root.attrs["mode"]}
    value = m.root.operand("constant_value")
    operands = [m[x], build.const(pads), *([value] if value is not None else [])]
    names = ("x", "pads", *(["constant_value"] if value is not None else []))
    return build.transpose(build.op("pad", operands, attrs, names=names).result, perm=order)


@rule(pat.any_of("quantize_linear", "dequantize_linear")(...).fed_by("transpose"))
def transpose_behind_quantize(m: Match, build: Builder) -> Value:
    """Numbers are quantised before the transpose, along the axis that is meant then."""
    op, before = m.root, transpose_of(m.root.operands[0])
    m.fits(before is not None and before.region is op.region)
    assert before is not None
    m.require(before.result.use_count == 1, "something else reads the transposed tensor")
    m.require(not op.int("block_size"), "scales stand for blocks")
    m.require(not _is_signed_pair(op), "onnxruntime looks for signed numbers in pairs")
    order = permutation(before)
    attrs = dict(op.attrs)
    if not is_single(op.operands[1]):
        attrs["axis"] = order[axis_of(op)]
    m.also.append(before)
    operands = [before.operands[0], *op.operands[1:]]
    made = build.op(op.definition, operands, attrs, names=op.operand_names)
    return build.transpose(made.result, perm=order)


def _is_signed_pair(op: Op) -> bool:
    """True where signed numbers are made real at once, for what is no transpose.

    onnxruntime makes such pairs unsigned, and computes a convolution in floats where one is parted.
    """
    result = op.result
    if op.name != "quantize_linear" or not result.type.dtype.is_signed or not result.is_used:
        return False
    real = [reader for reader in result.users if reader.name == "dequantize_linear"]
    readers = [reader.name for each in real for reader in each.result.users]
    return len(real) == len(result.users) and "transpose" not in readers


computed = pat.any_of(*ELEMENTWISE)(...).fed_by("transpose")


@rule(pat.transpose(computed))
def transpose_before(m: Match, build: Builder) -> Value:
    """A transpose goes before an operation where it cancels those of most of its operands."""
    op, order = m[computed], permutation(m.root)
    rank = len(order)
    inverse = tuple(int(axis) for axis in np.argsort(order))
    turned = [transpose_of(value) for value in op.operands]
    cancel = [each for each in turned if each is not None and permutation(each) == inverse]
    m.fits(bool(cancel))
    rest = [
        value for value, by in zip(op.operands, turned, strict=True)
        if by not in cancel and array_of(value) is None and not is_single(value)
    ]  # fmt: skip
    gone = sum(each.result.use_count == 1 for each in cancel)
    m.require(len(rest) <= gone, "other operands would have to be transposed")
    shaped = all(value.type.rank == rank for value in rest)
    m.require(shaped, "an operand has fewer axes")
    operands = [_turned(build, value, order, inverse) for value in op.operands]
    return build.op(op.definition, operands, op.attrs, names=op.operand_names).result


def _turned(build: Builder, value: Value, order: Sequence[int], inverse: Sequence[int]) -> Value:
    before = transpose_of(value)
    if array_of(value) is not None:
        return untransposed(build, value, inverse)
    if is_single(value):
        return value
    if before is not None and permutation(before) == tuple(inverse):
        return before.operands[0]
    return build.transpose(value, perm=tuple(order))


RULES = (
    transpose_behind_concat, transpose_behind_slice, transpose_behind_pad,
    transpose_behind_quantize, transpose_before,
)  # fmt: skip
