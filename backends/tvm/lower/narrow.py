# pyright: standard
"""Element types that no processor computes with, as bits in a byte and as numbers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from leptonc.backends.tvm.binding import PrimExpr, tirx
from leptonc.backends.tvm.lower.arithmetic import converted, is_float, let
from leptonc.backends.tvm.lowering import TVM_DTYPE
from leptonc.ir.graph import Op
from leptonc.ir.types import DType

_MANTISSA = 23
_BIAS = 127
_INFINITY = 0x7F800000
_NAN = 0x7FC00000


@dataclass(frozen=True)
class Layout:
    """The bits of a short float, without its sign."""

    exponent: int
    mantissa: int
    bias: int
    largest: int
    """The code of the largest number."""
    beyond: int
    """The code of what is larger."""
    nan: int
    """The code of not-a-number, its sign included where there is only one."""
    infinity: int | None = None
    has_negative_zero: bool = True

    @property
    def bits(self) -> int:
        """How many there are."""
        return self.exponent + self.mantissa


LAYOUTS: Mapping[DType, Layout] = MappingProxyType({
    DType.F8E4M3FN: Layout(4, 3, 7, largest=0x7E, beyond=0x7F, nan=0x7F),
    DType.F8E4M3FNUZ: Layout(4, 3, 8, 0x7F, beyond=0x80, nan=0x80, has_negative_zero=False),
    DType.F8E5M2: Layout(5, 2, 15, largest=0x7B, beyond=0x7C, nan=0x7E, infinity=0x7C),
    DType.F8E5M2FNUZ: Layout(5, 2, 16, 0x7F, beyond=0x80, nan=0x80, has_negative_zero=False),
    DType.F4E2M1: Layout(2, 1, 1, largest=7, beyond=7, nan=0),
})  # fmt: skip
"""Short floats with a sign; four bits have no place for not-a-number, which becomes a zero."""

CARRIED = frozenset({
    "bit_cast", "cast", "cast_like", "center_crop_pad", "concat",
    "constant_of_shape", "depth_to_space", "dequantize_linear", "dropout", "expand", "flatten",
    "gather", "gather_elements", "gather_nd", "identity", "is_inf", "is_nan", "leading", "one_hot",
    "pad", "quantize_linear", "reshape", "reverse_sequence", "scatter_elements", "scatter_nd",
    "shape", "size", "slice", "space_to_depth", "split", "squeeze", "tensor_scatter", "tile",
    "transpose", "trilu", "unsqueeze", "where",
})  # fmt: skip
"""Operations that move such elements, or know them for what they are."""


def refusal(op: Op) -> str:
    """Why the operation cannot have the narrow types that it has; empty if it can, or has none."""
    narrow = [v.type.dtype for v in (*op.operands, *op.results) if v.type.dtype.is_narrow]
    combines = "reduction" in op.attrs and op.str("reduction") != "none"
    if not narrow or op.regions or (op.name in CARRIED and not combines):
        return ""
    return f"{op.name} has no kernel for element type {narrow[0]} on this target"


# -- to numbers ----------------------------------------------------------------------------------


def decode(code: PrimExpr, dtype: DType) -> PrimExpr:
    """The number that an element stands for: an f32 for floats, else a byte; others as they are."""
    if not dtype.is_narrow:
        return code
    if dtype.is_float:
        return let(code.astype("int32"), lambda code: _float(code, dtype))
    used = code & tirx.const(2**dtype.width - 1, "uint8")
    if not dtype.is_signed:
        return used
    sign = _i32(2 ** (dtype.width - 1))
    return ((used.astype("int32") ^ sign) - sign).astype("int8")


def _float(code: PrimExpr, dtype: DType) -> PrimExpr:
    if dtype is DType.F8E8M0:
        return _power_of_two(code)
    layout = LAYOUTS[dtype]
    size = code & _i32(2**layout.bits - 1)
    lowest = 2.0 ** (1 - layout.bias - layout.mantissa)
    return let(size, lambda size: _signed(code, size, lowest, layout))


def _signed(code: PrimExpr, size: PrimExpr, lowest: float, layout: Layout) -> PrimExpr:
    raised = (size << _i32(_MANTISSA - layout.mantissa)) + _i32((_BIAS - layout.bias) << _MANTISSA)
    small = tirx.reinterpret("int32", size.astype("float32") * tirx.const(lowest, "float32"))
    number = tirx.Select(size < _i32(1 << layout.mantissa), small, raised)
    if layout.infinity is not None:
        special = tirx.Select(size > _i32(layout.infinity), _i32(_NAN), _i32(_INFINITY))
        number = tirx.Select(size < _i32(layout.infinity), number, special)
    elif layout.has_negative_zero and layout.nan:
        number = tirx.Select(size < _i32(layout.nan), number, _i32(_NAN))
    elif layout.nan:
        code_bits = code & _i32(0xFF)
        number = tirx.Select(tirx.EQ(code_bits, _i32(layout.nan)), _i32(_NAN), number)
    sign = (code & _i32(1 << layout.bits)).astype("uint32") << _u32(31 - layout.bits)
    return tirx.reinterpret("float32", number.astype("uint32") | sign)


def _power_of_two(code: PrimExpr) -> PrimExpr:
    half = 1 << (_MANTISSA - 1)
    number = tirx.Select(code < _i32(1), _i32(half), code << _i32(_MANTISSA))
    return tirx.reinterpret("float32", tirx.Select(code > _i32(0xFE), _i32(_NAN), number))


# -- from numbers --------------------------------------------------------------------------------


def encode(x: PrimExpr, dtype: DType, *, saturate: bool = True, round_mode: str = "up") -> PrimExpr:
    """A number as ONNX casts it to `dtype`, as its element; of types that are not narrow itself."""
    if not dtype.is_narrow:
        return converted(x, TVM_DTYPE[dtype])
    if dtype.is_integer:
        whole = converted(converted(x, "int32") if is_float(x) else x, "uint8")
        return whole & tirx.const(2**dtype.width - 1, "uint8")
    bits = tirx.reinterpret("uint32", converted(x, "float32"))
    if dtype is DType.F8E8M0:
        return let(bits, lambda bits: _exponent(bits, saturate, round_mode)).astype("uint8")
    layout = LAYOUTS[dtype]
    return let(bits, lambda bits: _rounded(bits, layout, saturate)).astype("uint8")


def _rounded(bits: PrimExpr, layout: Layout, saturate: bool) -> PrimExpr:
    sign = (bits >> _u32(31)) << _u32(layout.bits)

    def coded(size: PrimExpr) -> PrimExpr:
        finite = tirx.Select(size < _u32(_INFINITY), size, _u32(_INFINITY))
        return let(finite, lambda finite: let(_nearest(finite, layout), limited))

    def limited(code: PrimExpr) -> PrimExpr:
        beyond = _u32(layout.largest if saturate else layout.beyond)
        return tirx.Select(code > _u32(layout.largest), beyond, code)

    def with_sign(code: PrimExpr) -> PrimExpr:
        if layout.has_negative_zero:
            return code | sign
        unsigned = tirx.Or(tirx.EQ(code, _u32(0)), tirx.EQ(code, _u32(layout.nan)))
        return tirx.Select(unsigned, code, code | sign)

    def number(size: PrimExpr) -> PrimExpr:
        return tirx.Select(size > _u32(_INFINITY), _u32(layout.nan), coded(size))

    return let(let(bits & _u32(0x7FFFFFFF), number), with_sign)


def _nearest(size: PrimExpr, layout: Layout) -> PrimExpr:
    """The code of the nearest number, an even one of two, as if the exponent had no end."""
    dropped = _MANTISSA - layout.mantissa
    odd = (size >> _u32(dropped)) & _u32(1)
    half = _u32((1 << (dropped - 1)) - 1)
    normal = ((size + odd + half) >> _u32(dropped)) - _u32((_BIAS - layout.bias) << layout.mantissa)
    # a number to which the smallest ones are added so that the processor rounds to codes
    unit = tirx.const(2.0 ** (_MANTISSA + 1 - layout.bias - layout.mantissa), "float32")
    sum = tirx.reinterpret("uint32", tirx.reinterpret("float32", size) + unit)
    small = sum - _u32((_MANTISSA + 1 - layout.bias - layout.mantissa + _BIAS) << _MANTISSA)
    return tirx.Select(size < _u32((_BIAS + 1 - layout.bias) << _MANTISSA), small, normal)


def _exponent(bits: PrimExpr, saturate: bool, round_mode: str) -> PrimExpr:
    exponent, mantissa = (bits >> _u32(_MANTISSA)) & _u32(0xFF), bits & _u32((1 << _MANTISSA) - 1)
    if round_mode == "down":
        return exponent
    if round_mode == "up":
        limit = _u32(0)
    else:  # a subnormal number is nearer the next power only above the middle
        half = 1 << (_MANTISSA - 1)
        limit = tirx.Select(exponent > _u32(0), _u32(half - 1), _u32(half))
    below_top = exponent < _u32(0xFE if saturate else 0xFF)
    rises = tirx.And(mantissa > limit, below_top)
    return tirx.Select(rises, exponent + _u32(1), exponent)


def _i32(value: int) -> PrimExpr:
    return tirx.const(value, "int32")


def _u32(value: int) -> PrimExpr:
    return tirx.const(value, "uint32")
