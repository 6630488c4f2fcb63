# pyright: standard
"""The instructions that multiply small integers and add neighbouring products."""

from __future__ import annotations

from dataclasses import dataclass

from leptonc.backends.cpu import emit
from leptonc.backends.cpu.target import CpuTarget, multiplies_bytes
from leptonc.backends.tvm.binding import PrimExpr, tirx

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


@dataclass(frozen=True)
class IntegerProducts:
    """Vectors of products for a CPU; a value is a number in each lane whose parts are elements."""

    cpu: CpuTarget

    def add_pairs(self, value: PrimExpr, column: PrimExpr, total: PrimExpr) -> PrimExpr:
        """The sums with two products of 16 bits more."""
        lanes = self.cpu.lanes
        pairs = tirx.reinterpret(f"int16x{2 * lanes}", value)
        return total + tirx.call_llvm_pure_intrin(f"int32x{lanes}", PAIRS[lanes], pairs, column)

    def add_bytes(self, value: PrimExpr, column: PrimExpr, total: PrimExpr) -> PrimExpr:
        """The sums with four products of bytes more."""
        lanes = self.cpu.lanes
        if multiplies_bytes(self.cpu):
            given = tirx.reinterpret(f"int8x{4 * lanes}", value)
            return tirx.call_llvm_pure_intrin(f"int32x{lanes}", QUADS[lanes], total, given, column)
        return total + self.widen(self.multiply_bytes(value, column))

    def multiply_bytes(self, value: PrimExpr, column: PrimExpr) -> PrimExpr:
        """Products of two bytes each, added in 16 bits."""
        lanes = self.cpu.lanes
        given = tirx.reinterpret(f"int8x{4 * lanes}", value)
        return tirx.call_llvm_pure_intrin(f"int16x{2 * lanes}", BYTES[lanes], given, column)

    def widen(self, sums: PrimExpr) -> PrimExpr:
        """Two sums of 16 bits each, added in 32."""
        lanes = self.cpu.lanes
        ones = emit.broadcast(tirx.const(1, "int16"), 2 * lanes)
        return tirx.call_llvm_pure_intrin(f"int32x{lanes}", PAIRS[lanes], sums, ones)
