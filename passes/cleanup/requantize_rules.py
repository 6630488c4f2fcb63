"""Rules of `simplify` about numbers that are made real only to be moved."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from leptonc.ir.blob import Blob
from leptonc.ir.build import Builder
from leptonc.ir.graph import Op, Value
from leptonc.ir.ops.quantize import round_to
from leptonc.ir.types import DType
from leptonc.passes.constants import array_of, uniform
from leptonc.passes.pattern import Const, Match, pat
from leptonc.passes.rewrite import rule

BYTES = frozenset({DType.I8, DType.U8})
INTEGERS = BYTES | {DType.I16, DType.U16}
SMALLEST, LARGEST = 1e-30, 1e30
"""Between these scales, no multiple of one by a 16-bit number loses digits."""

scale, offset = Const("scale"), Const("offset")


def quantised_sources(m: Match, given: Sequence[Value]) -> list[Value]:
    """The integers of which `given` are made, where the root quantises in the same way."""
    inner = [value.producer for value in given]
    found = [op for op in inner if op is not None and op.name == "dequantize_linear"]
    m.fits(bool(found))
    m.require(len(found) == len(given), "one of them was not quantised before")
    sources = [op.operands[0] for op in found]
    dtype = m.root.result.type.dtype
    m.fits(dtype in INTEGERS and all(source.type.dtype is dtype for source in sources))
    m.fits(m[scale].type.dtype is DType.F32 and m.root.attrs["precision"] in (None, DType.F32))
    m.fits(all(op.result.type.dtype is DType.F32 for op in found))
    m.require(m[scale].type.shape in ((), (1,)), "there is more than one scale")
    size = abs(uniform(m[scale]) or 0.0)
    m.require(SMALLEST <= size <= LARGEST, "a scale is no usual number")
    m.require(all(_alike(m, op) for op in found), "the scales or zero points differ")
    m.also.extend(dict.fromkeys(found))
    return sources


def _alike(m: Match, inner: Op) -> bool:
    """True where `inner` has the scale and the zero point of the root."""
    if inner.operands[1].type.shape not in ((), (1,)):
        return False
    given, wanted = inner.operand("x_zero_point"), m.get(offset)
    points = [0.0 if value is None else uniform(value) for value in (given, wanted)]
    return uniform(inner.operands[1]) == uniform(m[scale]) and points[0] == points[1] is not None


def _again(
    m: Match, build: Builder, op: Op, operands: Sequence[Value], names: Sequence[str]
) -> Value:
    """The operation on integers."""
    types = [m.root.result.type]
    return build.op(op.definition, operands, op.attrs, names=names, result_types=types).result


def _require_unsigned(m: Match) -> None:
    """Go on only where ONNX may be written with the pair of quantisations gone.

    onnxruntime computes with signed bytes by making them unsigned, which it does to pairs only: a
    convolution behind integers that are moved without one is computed in floats.
    """
    signed = m.root.result.type.dtype.is_signed
    m.require(not signed, "onnxruntime looks for signed numbers in pairs")


moved = pat.any_of(
    "reshape", "transpose", "squeeze", "unsqueeze", "flatten", "expand", "slice", "gather"
)(...)


@rule(pat.quantize_linear(moved, scale, offset.optional()))
def moved_while_real(m: Match, build: Builder) -> Value:
    """What is made real, only moved and quantised again in the same way is moved as integers."""
    _require_unsigned(m)
    return moved_as_integers(m, build)


def moved_as_integers(m: Match, build: Builder) -> Value:
    """The move of `quantize_linear(moved(dequantize_linear(...)))` on the integers."""
    view = m[moved]
    (source,) = quantised_sources(m, view.operands[:1])
    return _again(m, build, view, [source, *view.operands[1:]], view.operand_names)


joined = pat.concat(...)


@rule(pat.quantize_linear(joined, scale, offset.optional()))
def joined_while_real(m: Match, build: Builder) -> Value:
    """Parts that are made real, joined and quantised again in the same way join as integers."""
    op = m[joined]
    _require_unsigned(m)
    return _again(m, build, op, quantised_sources(m, op.operands), op.operand_names)


resized = pat.resize(...)


@rule(pat.quantize_linear(resized, scale, offset.optional()))
def resized_while_real(m: Match, build: Builder) -> Value:
    """Nearest elements that are made real and quantised again in the same way stay integers."""
    op = m[resized]
    _require_unsigned(m)
    m.fits(op.str("mode") == "nearest" and m.root.result.type.dtype in BYTES)
    beyond = op.str("coordinate_transformation_mode") == "tf_crop_and_resize"
    m.require(not beyond, "it may read beyond the operand")
    (source,) = quantised_sources(m, op.operands[:1])
    return _again(m, build, op, [source, *op.operands[1:]], op.operand_names)


padded = pat.pad(...)


@rule(pat.quantize_linear(padded, scale, offset.optional()))
def padded_while_real(m: Match, build: Builder) -> Value:
    """Integers are padded by the integer that the real padding is quantised to."""
    op, dtype = m[padded], m.root.result.type.dtype
    _require_unsigned(m)
    m.fits(dtype in BYTES)
    value = op.operand("constant_value")
    number = 0.0 if value is None else uniform(value)
    m.require(number is not None, "the padding is known at run time only")
    (source,) = quantised_sources(m, op.operands[:1])
    operands = dict(zip(op.operand_names, [source, *op.operands[1:]], strict=True))
    if op.str("mode") == "constant":
        operands["constant_value"] = build.const(Blob.of(_quantised(m, number or 0.0, dtype)))
    names = [name for name in ("x", "pads", "constant_value", "axes") if name in operands]
    return _again(m, build, op, [operands[name] for name in names], names)


def _quantised(m: Match, number: float, dtype: DType) -> np.ndarray[tuple[int, ...], np.dtype]:
    divisor, point = array_of(m[scale]), m.get(offset)
    assert divisor is not None
    data = None if point is None else array_of(point)
    shift = np.zeros((), dtype.numpy) if data is None else data.reshape(())
    with np.errstate(over="ignore"):
        quotient = np.asarray(np.float32(number) / divisor.reshape(()))
    return round_to(quotient, shift, dtype).reshape(())


RULES = (
    moved_while_real, joined_while_real, resized_while_real, padded_while_real,
)  # fmt: skip
