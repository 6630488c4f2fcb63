# pyright: standard
"""Convolution of bytes, 3 x 3 with stride 1, through fewer products, and still exact.

As `winograd`, with tiles of 4 x 4 outputs and the points 0, +-1, +-2: all that is computed with
are integers then, and the outputs are 576 times what they should be, modulo 2^32. That is divided
by 9 through the inverse modulo 2^32, and by 64. The outputs themselves need 26 bits.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tvm.tirx import PrimFunc

from leptonc.backends.cpu import emit
from leptonc.backends.cpu.emit import Extent, Register
from leptonc.backends.cpu.instructions import wrapped
from leptonc.backends.cpu.integer_packing import integer_weight_shape
from leptonc.backends.cpu.integer_steps import IntegerProducts
from leptonc.backends.cpu.integer_winograd_packing import TOGETHER
from leptonc.backends.cpu.packing import channel_blocks
from leptonc.backends.cpu.target import CpuTarget
from leptonc.backends.cpu.tiles import integer_tile_rows
from leptonc.backends.cpu.winograd import Emitter, WinogradSpec
from leptonc.backends.cpu.winograd_tables import Transform, WholeTransform
from leptonc.backends.cpu.winograd_transform import Inputs, Outputs, Vectors
from leptonc.backends.tvm.binding import Buffer, PrimExpr, tirx

# The inverse of 9 modulo 2^32, as a signed number.
NINTH = 0x38E38E39


@dataclass(frozen=True)
class IntegerWinogradSpec(WinogradSpec):
    """`out[n, o, h, w, lane] = epilogue(sum of x times weight)`, sums in 32 bits.

    x is u8[batch, C / lanes, height, width, lanes]; around it stands `filler`. The weight is
    packed by `integer_winograd_packing.pack_whole_weight`.
    """

    filler: int = 0


def integer_winograd(name: str, spec: IntegerWinogradSpec, cpu: CpuTarget) -> PrimFunc:
    """The kernel (x, weight, *operands, out)."""
    lanes = cpu.lanes
    shape = integer_weight_shape(spec.channels, spec.filters, spec.panel, TOGETHER)
    inputs = (spec.batch, channel_blocks(spec.channels, lanes), spec.height, spec.width, lanes)
    outputs = (spec.batch, channel_blocks(spec.filters, lanes), *spec.out_extents(), lanes)
    parameters = [
        ("x", inputs, "uint8"),
        ("weight", (WholeTransform(spec.outputs).points, *shape), "int16"),
        *spec.epilogue.parameters(),
        ("out", outputs, spec.out_dtype),
    ]
    return emit.function(name, parameters, lambda *given: _Emitter(spec, cpu, given).emit())


class _Inputs(Inputs):
    """The inputs at the points, in 16 bits."""

    def taken(self, value: PrimExpr) -> PrimExpr:
        """A vector of bytes in 16 bits."""
        return value.astype(f"int16x{self.lanes}")


class _Outputs(Outputs):
    """The outputs from sums at the points."""

    def values(self, source: PrimExpr) -> list[Vectors]:
        """The outputs of a tile, by rows."""
        reach = self.parent.transform.reach
        columns = [
            self.along([
                emit.let(emit.load(self.points, [row * reach + column, source], self.lanes))
                for row in range(reach)
            ])
            for column in range(reach)
        ]  # fmt: skip
        rows = [[columns[column][row] for column in range(reach)] for row in range(self.size)]
        return [[self.divided(value) for value in self.along(row)] for row in rows]

    def along(self, values: Vectors) -> Vectors:
        """Four outputs, 24 times as large, from the values at 0, 1, -1, 2, -2 and infinity."""
        zero, one, minus_one, two, minus_two, infinity = values
        near, near_odd = wrapped("add", one, minus_one), wrapped("sub", one, minus_one)
        far, far_odd = wrapped("add", two, minus_two), wrapped("sub", two, minus_two)
        near, near_odd = emit.let(near << self.shift(2)), emit.let(near_odd << self.shift(2))
        far, far_odd = emit.let(far), emit.let(far_odd)
        six = wrapped("add", zero << self.shift(2), zero << self.shift(1))
        many = wrapped("add", infinity << self.shift(4), infinity << self.shift(3))
        outputs = (
            wrapped("sub", wrapped("add", six, far), near),
            wrapped("sub", far_odd << self.shift(1), near_odd),
            wrapped("sub", far << self.shift(2), near),
            wrapped("add", wrapped("sub", far_odd << self.shift(3), near_odd), many),
        )
        return [emit.let(value) for value in outputs]

    def divided(self, value: PrimExpr) -> PrimExpr:
        """An output of those that are 576 times as large, modulo 2^32."""
        ninth = emit.broadcast(tirx.const(NINTH, "int32"), self.lanes)
        return emit.let(wrapped("mul", value, ninth) >> self.shift(6))

    def shift(self, bits: int) -> PrimExpr:
        """So many bits, in every lane."""
        return emit.broadcast(tirx.const(bits, "int32"), self.lanes)


class _Emitter(Emitter):
    """Emits one convolution of bytes."""

    element, sum = "int16", "int32"
    element_bytes = 2
    inputs = _Inputs
    outputs = _Outputs

    def __init__(
        self, spec: IntegerWinogradSpec, cpu: CpuTarget, buffers: Sequence[Buffer]
    ) -> None:
        super().__init__(spec, cpu, buffers)
        self.filler = spec.filler
        panels, steps, panel, together = integer_weight_shape(
            spec.channels, spec.filters, spec.panel, TOGETHER
        )
        points = self.transform.points
        self.weight = emit.view(self.weight, (points, panels, 1, steps * panel * together))

    def transform_of(self, outputs: int) -> Transform:
        """Transforms of integers."""
        return WholeTransform(outputs)

    @property
    def most_rows(self) -> int:
        """The most rows of a register tile."""
        return integer_tile_rows(self.vectors, TOGETHER, self.cpu)

    @property
    def pad(self) -> PrimExpr:
        """What stands around the input."""
        return tirx.const(self.filler, "uint8")

    def products(
        self,
        registers: list[list[Register]],
        sources: Buffer,
        count: Extent,
        place: tuple[PrimExpr, PrimExpr],
        source: tuple[PrimExpr, PrimExpr],
        channels: int,
    ) -> None:
        """Adds the products of one input block, two channels at a time."""
        (point, panel), (block, first), lanes = place, source, self.lanes
        begin = emit.let((block * count + first) * lanes)
        steps, size = channels // TOGETHER, lanes * TOGETHER
        made = IntegerProducts(self.cpu)
        with emit.serial(steps) as step:
            at = (block * steps + step) * (self.spec.panel * TOGETHER)
            zero = emit.integer(0)
            filters = [
                emit.load(self.weight, [point, panel, zero, at + v * size], size)
                for v in range(len(registers[0]))
            ]
            for r, row in enumerate(registers):
                pair = emit.load(sources, [point, begin + r * lanes + step * TOGETHER], TOGETHER)
                value = emit.broadcast(tirx.reinterpret("int32", pair), lanes)
                for register, column in zip(row, filters, strict=True):
                    register.set(made.add_pairs(value, column, register.get()))
