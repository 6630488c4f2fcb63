# pyright: standard
"""Instructions that multiply neighbours and add their products, in all lanes at once.

Operands are words of 32 bits, each of which holds what is multiplied: two numbers of 16 bits or
four bytes. For a CPU that is `spelled_out`, or has none of them, the same is said in plain
arithmetic.
"""

from __future__ import annotations

from typing import Any

from tvm.tirx.script import builder

from leptonc.backends.cpu import emit
from leptonc.backends.cpu.target import CpuTarget, multiplies_bytes, multiplies_neighbours
from leptonc.backends.tvm.binding import PrimExpr, tirx

T: Any = builder  # annotated with less than it takes

# Products of pairs of 16 bits, added to 32 bits, by the lanes of the result.
PAIRS = {
    4: "llvm.x86.sse2.pmadd.wd", 8: "llvm.x86.avx2.pmadd.wd", 16: "llvm.x86.avx512.pmaddw.d.512",
}  # fmt: skip
# Products of unsigned and signed bytes, two added to 16 bits, which saturate.
BYTES = {
    4: "llvm.x86.ssse3.pmadd.ub.sw.128", 8: "llvm.x86.avx2.pmadd.ub.sw",
    16: "llvm.x86.avx512.pmaddubs.w.512",
}  # fmt: skip
# The same, four added to a sum of 32 bits.
QUADS = {
    4: "llvm.x86.avx512.vpdpbusd.128", 8: "llvm.x86.avx512.vpdpbusd.256",
    16: "llvm.x86.avx512.vpdpbusd.512",
}  # fmt: skip
# Products of pairs of 16 bits, two added to a sum of 32 bits.
SHORTS = {
    4: "llvm.x86.avx512.vpdpwssd.128", 8: "llvm.x86.avx512.vpdpwssd.256",
    16: "llvm.x86.avx512.vpdpwssd.512",
}  # fmt: skip
# TVM turns bf16 into floats of 32 bits wherever it sees it: a line of LLVM's language hides it.
DOT = "leptonc_dot_bf16"
DOT_SOURCE = "".join(
    f"""
declare <{n} x float> @llvm.x86.avx512bf16.dpbf16ps.{32 * n}(
    <{n} x float>, <{2 * n} x bfloat>, <{2 * n} x bfloat>)
define <{n} x float> @{DOT}_{n}(<{n} x float> %sum, <{n} x i32> %a, <{n} x i32> %b) alwaysinline {{
  %x = bitcast <{n} x i32> %a to <{2 * n} x bfloat>
  %y = bitcast <{n} x i32> %b to <{2 * n} x bfloat>
  %r = call <{n} x float> @llvm.x86.avx512bf16.dpbf16ps.{32 * n}(
      <{n} x float> %sum, <{2 * n} x bfloat> %x, <{2 * n} x bfloat> %y)
  ret <{n} x float> %r
}}
"""
    for n in (8, 16)
)
ROUND, ROUND_TWO = "leptonc_round_bf16", "leptonc_round_two_bf16"
ROUND_SOURCE = f"""
declare <16 x bfloat> @llvm.x86.avx512bf16.cvtneps2bf16.512(<16 x float>)
declare <32 x bfloat> @llvm.x86.avx512bf16.cvtne2ps2bf16.512(<16 x float>, <16 x float>)
define <16 x i16> @{ROUND}(<16 x float> %x) alwaysinline {{
  %y = call <16 x bfloat> @llvm.x86.avx512bf16.cvtneps2bf16.512(<16 x float> %x)
  %r = bitcast <16 x bfloat> %y to <16 x i16>
  ret <16 x i16> %r
}}
define <32 x i16> @{ROUND_TWO}(<32 x float> %x) alwaysinline {{
  %a = shufflevector <32 x float> %x, <32 x float> poison, <16 x i32> <LOWER>
  %b = shufflevector <32 x float> %x, <32 x float> poison, <16 x i32> <UPPER>
  %y = call <32 x bfloat> @llvm.x86.avx512bf16.cvtne2ps2bf16.512(<16 x float> %b, <16 x float> %a)
  %r = bitcast <32 x bfloat> %y to <32 x i16>
  ret <32 x i16> %r
}}
""".replace("LOWER", ", ".join(f"i32 {lane}" for lane in range(16))).replace(
    "UPPER", ", ".join(f"i32 {lane}" for lane in range(16, 32))
)
LARGEST, LEAST = 32767, -32768


def pairs_of_shorts(cpu: CpuTarget, a: PrimExpr, b: PrimExpr) -> PrimExpr:
    """int32 sums of two products of int16 each."""
    lanes = cpu.lanes
    if multiplies_neighbours(cpu):
        return tirx.call_llvm_pure_intrin(f"int32x{lanes}", PAIRS[lanes], a, b)
    (a0, a1), (b0, b1) = (parts(x, 2, signed=True) for x in (a, b))
    return a0 * b0 + a1 * b1


def pairs_of_bytes(cpu: CpuTarget, a: PrimExpr, b: PrimExpr) -> PrimExpr:
    """int16 sums of two products of a uint8 and an int8 each, the nearest that there are."""
    lanes = cpu.lanes
    if multiplies_neighbours(cpu):
        return tirx.call_llvm_pure_intrin(f"int16x{2 * lanes}", BYTES[lanes], a, b)
    a0, a1, a2, a3 = parts(a, 4, signed=False)
    b0, b1, b2, b3 = parts(b, 4, signed=True)
    low, high = (saturated(total, lanes) for total in (a0 * b0 + a1 * b1, a2 * b2 + a3 * b3))
    mask = emit.broadcast(tirx.const(0xFFFF, "int32"), lanes)
    return tirx.reinterpret(f"int16x{2 * lanes}", (low & mask) | shifted(high, 16))


def quads_of_bytes(cpu: CpuTarget, total: PrimExpr, a: PrimExpr, b: PrimExpr) -> PrimExpr:
    """An int32 sum and four products of a uint8 and an int8 each."""
    lanes = cpu.lanes
    if multiplies_neighbours(cpu):
        return tirx.call_llvm_pure_intrin(f"int32x{lanes}", QUADS[lanes], total, a, b)
    left, right = parts(a, 4, signed=False), parts(b, 4, signed=True)
    for x, y in zip(left, right, strict=True):
        total = total + x * y
    return total


def added_pairs_of_shorts(cpu: CpuTarget, total: PrimExpr, a: PrimExpr, b: PrimExpr) -> PrimExpr:
    """int32 sums with two products of int16 each more, modulo 2^32."""
    lanes = cpu.lanes
    if multiplies_bytes(cpu) and multiplies_neighbours(cpu):
        return tirx.call_llvm_pure_intrin(f"int32x{lanes}", SHORTS[lanes], total, a, b)
    return wrapped("add", total, pairs_of_shorts(cpu, a, b))


def wrapped(operation: str, a: PrimExpr, b: PrimExpr) -> PrimExpr:
    """The result of `add`, `sub` or `mul` on vectors of 32 bits, modulo 2^32.

    Operators on integers tell LLVM that nothing overflows.
    """
    dtype, lanes = as_words(a)
    every = emit.broadcast(tirx.const(True, "bool"), lanes)
    length = tirx.const(lanes, "uint32")
    return tirx.call_llvm_pure_intrin(dtype, f"llvm.vp.{operation}", a, b, every, length)


def pairs_of_bf16(cpu: CpuTarget, total: PrimExpr, a: PrimExpr, b: PrimExpr) -> PrimExpr:
    """An fp32 sum and two products of bf16 each, in all lanes of vectors or in half of them.

    `with_bf16` stands around it.
    """
    if multiplies_neighbours(cpu):
        lanes = as_words(total)[1]
        return tirx.call_pure_extern(f"float32x{lanes}", f"{DOT}_{lanes}", total, a, b)
    for x, y in zip(widened(a), widened(b), strict=True):
        total = emit.fma(x, y, total)
    return total


def with_bf16(cpu: CpuTarget) -> Any:
    """What stands around a kernel that multiplies pairs of bf16."""
    source = DOT_SOURCE + ROUND_SOURCE if multiplies_neighbours(cpu) else ""
    return T.attr(tirx.const(0, "int32"), "pragma_import_llvm", source)


def widened(words: PrimExpr) -> tuple[PrimExpr, PrimExpr]:
    """The two bf16 in each word as floats, the lower first."""
    name, lanes = as_words(words)
    mask = emit.broadcast(tirx.const(-65536, "int32"), lanes)
    floats = name.replace("int", "float")
    return (
        tirx.reinterpret(floats, shifted(words, 16)),
        tirx.reinterpret(floats, words & mask),
    )


def bf16_bits(x: PrimExpr) -> PrimExpr:
    """Floats rounded to the nearest bf16, ties to even ones, in the upper halves of words."""
    lanes = as_words(x)[1]
    bits = tirx.reinterpret("int32" + (f"x{lanes}" if lanes > 1 else ""), x)

    def every(value: int) -> PrimExpr:
        return emit.broadcast(tirx.const(value, "int32"), lanes)

    odd = tirx.bitwise_and(tirx.shift_right(bits, every(16)), every(1))
    rounded = bits + every(0x7FFF) + odd
    # not-a-number stays one: its upper half may be that of an infinity
    return tirx.Select(emit.is_nan(x), bits | every(0x400000), rounded) & every(-65536)


def as_bf16(cpu: CpuTarget, x: PrimExpr) -> PrimExpr:
    """The bits of floats rounded to the nearest bf16; `with_bf16` stands around it.

    The instruction makes zeros of numbers below the normal ones, as products of bf16 take them.
    """
    lanes = as_words(x)[1]
    if lanes in (cpu.lanes, 2 * cpu.lanes) and multiplies_neighbours(cpu):
        name = ROUND if lanes == cpu.lanes else ROUND_TWO
        return tirx.call_pure_extern(f"uint16x{lanes}", name, x)
    upper = tirx.shift_right(bf16_bits(x), emit.broadcast(word(16), lanes))
    return upper.astype("uint16" + (f"x{lanes}" if lanes > 1 else ""))


def parts(words: PrimExpr, count: int, *, signed: bool) -> list[PrimExpr]:
    """The numbers that words of 32 bits hold, in int32, the lowest first."""
    name, lanes = as_words(words)
    bits = 32 // count
    words = tirx.reinterpret(name, words)
    if signed:
        up = [shifted(words, 32 - bits * (part + 1)) for part in range(count)]
        return [tirx.shift_right(x, emit.broadcast(word(32 - bits), lanes)) for x in up]
    down = [tirx.shift_right(words, emit.broadcast(word(bits * p), lanes)) for p in range(count)]
    return [x & emit.broadcast(word((1 << bits) - 1), lanes) for x in down]


def saturated(value: PrimExpr, lanes: int) -> PrimExpr:
    """The nearest number that 16 bits hold."""
    low, high = (emit.broadcast(word(limit), lanes) for limit in (LEAST, LARGEST))
    return tirx.max(tirx.min(value, high), low)


def shifted(words: PrimExpr, bits: int) -> PrimExpr:
    """The words moved up."""
    return tirx.shift_left(words, emit.broadcast(word(bits), as_words(words)[1]))


def word(value: int) -> PrimExpr:
    """A constant of 32 bits."""
    return tirx.const(value, "int32")


def as_words(x: PrimExpr) -> tuple[str, int]:
    """The type of a vector of as many bits in words of 32, and its lanes."""
    name, _, text = str(x.ty).partition("x")
    lanes = int("".join(c for c in name if c.isdigit())) * int(text or 1) // 32
    return ("int32" + (f"x{lanes}" if lanes > 1 else "")), lanes
