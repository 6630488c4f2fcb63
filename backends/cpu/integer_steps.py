# pyright: standard
"""The steps of products of small integers, whose neighbours are added."""

from __future__ import annotations

from dataclasses import dataclass

from leptonc.backends.cpu import emit
from leptonc.backends.cpu.instructions import (
    added_pairs_of_shorts,
    pairs_of_bytes,
    pairs_of_shorts,
    quads_of_bytes,
)
from leptonc.backends.cpu.target import CpuTarget, multiplies_bytes
from leptonc.backends.tvm.binding import PrimExpr, tirx


@dataclass(frozen=True)
class IntegerProducts:
    """Vectors of products for a CPU; a value is a number in each lane whose parts are elements."""

    cpu: CpuTarget

    def add_pairs(self, value: PrimExpr, column: PrimExpr, total: PrimExpr) -> PrimExpr:
        """The sums with two products of 16 bits more, modulo 2^32."""
        pairs = tirx.reinterpret(f"int16x{2 * self.cpu.lanes}", value)
        return added_pairs_of_shorts(self.cpu, total, pairs, column)

    def add_bytes(self, value: PrimExpr, column: PrimExpr, total: PrimExpr) -> PrimExpr:
        """The sums with four products of bytes more."""
        lanes = self.cpu.lanes
        if multiplies_bytes(self.cpu):
            given = tirx.reinterpret(f"int8x{4 * lanes}", value)
            return quads_of_bytes(self.cpu, total, given, column)
        return total + self.widen(self.multiply_bytes(value, column))

    def multiply_bytes(self, value: PrimExpr, column: PrimExpr) -> PrimExpr:
        """Products of two bytes each, added in 16 bits."""
        lanes = self.cpu.lanes
        given = tirx.reinterpret(f"int8x{4 * lanes}", value)
        return pairs_of_bytes(self.cpu, given, column)

    def widen(self, sums: PrimExpr) -> PrimExpr:
        """Two sums of 16 bits each, added in 32."""
        ones = emit.broadcast(tirx.const(1, "int16"), 2 * self.cpu.lanes)
        return pairs_of_shorts(self.cpu, sums, ones)
