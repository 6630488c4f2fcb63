# pyright: standard
"""The product of a matrix and a packed weight, fp32, with its epilogue in the register tile."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import tvm_ffi
from tvm.tirx import PrimFunc
from tvm.tirx.script import builder as T  # noqa: N812

from leptonc.backends.cpu import emit
from leptonc.backends.cpu.decision import UNDECIDED, Decision
from leptonc.backends.cpu.emit import IDENTITY, Epilogue, Extent, Shape
from leptonc.backends.cpu.packing import matmul_weight_shape
from leptonc.backends.cpu.product import Product, ahead_steps, each_panel
from leptonc.backends.cpu.sharing import is_worth_sharing
from leptonc.backends.cpu.target import CpuTarget
from leptonc.backends.cpu.tiles import tile_rows, whole_rows
from leptonc.backends.tvm.binding import Buffer, PrimExpr, tirx

# Weights of fewer bytes stay in the second cache; for more rows, asking ahead costs what it gains.
BYTES_AHEAD, MOST_ROWS_AHEAD = 256 * 1024, 512
# More rows than this are taken in blocks of so many, if one of at least so few rows fills no more
# than such a part of the second cache, and weights of so many bytes stay in the third.
MOST_ROWS_AT_ONCE, BLOCK_ROWS, FEW_BLOCK_ROWS, BLOCK_PART = 512, 128, 64, 2
BLOCK_WEIGHT_BYTES = 4 << 20
# The rows in whose tiles all of a panel's weights are asked for. Of tiles of 8 x 3 vectors of 16
# lanes the first asks for all: 8 rows of 768 x 3072 take 0.85 of the time that they take if three
# share it, 16 rows 0.95, in bf16 0.81 and 0.90. Tiles of 4 rows of 8 lanes are too short for that.
ROWS_AHEAD = 12
# For more rows than these, weights in bytes become floats in memory once, not in registers.
MOST_ROWS_OF_BYTES = 32
# The bytes of a line of the caches.
LINE_BYTES = 64
# The least depth that computes as long as memory takes to answer.
DEEP = 128


@dataclass(frozen=True)
class MatmulSpec:
    """`out[*lead, columns] = epilogue(x[*lead, depth] @ weight + bias)`.

    The weight is packed in panels of `panel` columns: `packing.pack_matmul_weight`. It may be kept
    in bytes; then every `block` of its depth has scales, packed likewise, unless `block` is 0.
    """

    lead: Shape
    depth: int
    columns: int
    panel: int
    bias: bool = False
    epilogue: Epilogue = IDENTITY
    out_dtype: str = "float32"
    weight_dtype: str = "float32"
    block: int = 0
    decision: Decision = UNDECIDED

    @property
    def rows(self) -> Extent:
        """The rows of the product, all leading axes together."""
        return emit.product(self.lead)

    @property
    def is_scaled_whole(self) -> bool:
        """Whether the sums are scaled, in place of the weights of each of several blocks."""
        return 0 < self.depth <= self.block

    @property
    def weight_bytes(self) -> int:
        """The size of an element of the weight."""
        return 1 if self.weight_dtype == "int8" else 4


def matmul(name: str, spec: MatmulSpec, cpu: CpuTarget) -> PrimFunc:
    """The kernel (x, weight, scales?, bias?, *operands, out)."""
    weight_shape = matmul_weight_shape(spec.depth, spec.columns, spec.panel)
    parameters = [
        ("x", (*spec.lead, spec.depth), "float32"),
        ("weight", weight_shape, spec.weight_dtype),
        *([("scales", _scales_shape(spec), "float32")] if spec.block else []),
        *([("bias", (spec.columns,), "float32")] if spec.bias else []),
        *spec.epilogue.parameters(),
        ("out", (*spec.lead, spec.columns), spec.out_dtype),
    ]
    return emit.function(name, parameters, lambda *buffers: Emitter(spec, cpu, buffers).emit())


def _scales_shape(spec: MatmulSpec) -> Shape:
    return matmul_weight_shape(-(-spec.depth // spec.block), spec.columns, spec.panel)


def is_parallel(spec: MatmulSpec, cpu: CpuTarget) -> bool:
    """Whether the panels are shared by threads; symbolic rows are taken for a few."""
    rows = spec.rows if isinstance(spec.rows, int) else 32
    operations = 2 * spec.columns * spec.depth * rows
    enough = is_worth_sharing(operations, spec.columns * spec.depth * spec.weight_bytes)
    return spec.decision.is_shared(cpu.threads, otherwise=enough)


def tiles_ahead(height: int) -> int:
    """The tiles of so many rows in which the weights of the next panel are asked for."""
    return max(1, ROWS_AHEAD // height)


def block_rows(spec: MatmulSpec, cpu: CpuTarget) -> int | None:
    """The rows of a block, whole tiles; None where all rows are taken at once.

    Threads share panels, each for all rows. Of open rows, only those that are surely there count,
    since blocks of few rows read weights again for nothing.
    """
    known = math.prod(extent for extent in spec.lead if isinstance(extent, int))
    fitting = cpu.l2_bytes // BLOCK_PART // (4 * max(spec.depth, 1))
    if known <= MOST_ROWS_AT_ONCE or fitting < FEW_BLOCK_ROWS:
        return None
    near = spec.columns * spec.depth * 4 <= BLOCK_WEIGHT_BYTES
    if not near or spec.weight_dtype != "float32" or is_parallel(spec, cpu):
        return None
    height = spec.decision.tile_rows(tile_rows(spec.panel // cpu.lanes, cpu))
    return min(fitting, BLOCK_ROWS) // height * height


class Emitter:
    """Emits one product: panels of columns, inside them tiles of rows, inside them the depth."""

    def __init__(self, spec: MatmulSpec, cpu: CpuTarget, buffers: Sequence[Buffer]) -> None:
        self.spec, self.cpu = spec, cpu
        x, self.weight, *rest = buffers
        self.x = emit.view(x, (spec.rows, spec.depth))
        self.weight_shape = matmul_weight_shape(spec.depth, spec.columns, spec.panel)
        self.scales = rest.pop(0) if spec.block else None
        self.bias = rest.pop(0) if spec.bias else None
        *self.operands, self.out = rest
        self.unrolled = not spec.epilogue.is_long(len(spec.lead) + 1)
        self.first, self.count = emit.integer(0), spec.rows

    def emit(self) -> None:
        """Emits the whole product; many rows in blocks that stay in the second cache."""
        block = block_rows(self.spec, self.cpu)
        if block is None:
            self.all_panels()
            return
        rows = emit.integer(self.spec.rows)
        with emit.serial(emit.ceildiv(self.spec.rows, block)) as step:
            self.first = emit.let(step * block)
            whole = isinstance(self.spec.rows, int) and self.spec.rows % block == 0
            self.count = block if whole else emit.let(tirx.min(block, rows - self.first))
            self.all_panels()

    def all_panels(self) -> None:
        """Emits all columns for some rows."""
        columns, width, lanes = self.spec.columns, self.spec.panel, self.cpu.lanes
        each_panel(columns, width, lanes, self.panel, parallel=is_parallel(self.spec, self.cpu))

    def panel(self, panel: PrimExpr, widths: tuple[int, ...]) -> None:
        """All rows of one panel."""
        spec, lanes = self.spec, self.cpu.lanes

        def write(value: PrimExpr, row: PrimExpr, column: PrimExpr) -> None:
            if self.scales is not None and spec.is_scaled_whole:
                value = value * emit.load(self.scales, [panel, 0, column])
            self.write(value, self.first + row, panel * spec.panel + column)

        def product(weights: Callable[[Extent, int], PrimExpr]) -> None:
            Product(
                cpu=self.cpu,
                depth=spec.depth,
                lanes=lanes,
                widths=widths,
                unrolled=self.unrolled,
                left=lambda row, k: emit.load(self.x, [self.first + row, k]),
                right=weights,
                write=write,
                ahead=self.ahead(panel),
                asking=tiles_ahead(whole_rows(self.count, self.tile_rows)),
                before=self.before(panel),
            ).rows(self.count, self.tile_rows)

        def as_they_are() -> None:
            product(lambda k, vector: self.weights(panel, k, vector))

        def widened() -> None:
            floats = self.floats(panel, len(widths))
            product(lambda k, vector: emit.load(floats, [k, vector * lanes], lanes))

        if spec.weight_dtype == "float32":
            as_they_are()
        elif isinstance(spec.rows, int):
            (widened if spec.rows > MOST_ROWS_OF_BYTES else as_they_are)()
        else:
            with T.If(spec.rows > MOST_ROWS_OF_BYTES):
                with T.Then():
                    widened()
                with T.Else():
                    as_they_are()

    def floats(self, panel: PrimExpr, vectors: int) -> Buffer:
        """A panel's weights as floats, in memory of their own."""
        spec, lanes = self.spec, self.cpu.lanes
        floats = emit.workspace((spec.depth, spec.panel))
        with emit.serial(spec.depth) as k:
            for vector in range(vectors):
                emit.store(floats, self.weights(panel, k, vector), [k, vector * lanes], lanes)
        return floats

    @property
    def tile_rows(self) -> int:
        """The most rows of a register tile."""
        return self.spec.decision.tile_rows(tile_rows(self.spec.panel // self.cpu.lanes, self.cpu))

    def ahead(self, panel: PrimExpr) -> Callable[[PrimExpr, PrimExpr], None] | None:
        """Asks for the weights of the next panel while the rows of this one are computed.

        Each tile of rows asks for some lines, from where the tile before left off; what is left in
        the end are lines that were asked for.
        """
        spec = self.spec
        weights = spec.columns * spec.depth * spec.weight_bytes
        few = isinstance(spec.rows, int) and not 2 <= spec.rows <= MOST_ROWS_AHEAD
        if spec.decision.ahead is not None:
            few = not spec.decision.ahead
        if few or weights < BYTES_AHEAD:
            return None
        height, steps = whole_rows(self.count, self.tile_rows), spec.depth // ahead_steps(self.cpu)
        line, size = LINE_BYTES // spec.weight_bytes, spec.panel * spec.depth
        lines = size // line
        at_once = max(1, round(spec.panel * ahead_steps(self.cpu) / line / tiles_ahead(height)))
        flat = emit.view(self.weight, (math.prod(self.weight_shape),))

        def ask(first: PrimExpr, step: PrimExpr) -> None:
            call = tirx.floordiv(first, emit.integer(height)) * steps + step
            for each in range(at_once):
                asked = tirx.min(call * at_once + each, emit.integer(lines - 1))
                emit.prefetch(flat, [(panel + 1) * size + asked * line])

        return ask

    def before(self, panel: PrimExpr) -> Callable[[PrimExpr, int], None] | None:
        """Asks for what the end of a tile reads, while its sums are computed.

        Rows lie far apart, so no cache foresees them.
        """
        spec = self.spec
        asked = [buffer for buffer in self.operands if self.is_alike(buffer)]
        if spec.depth < DEEP or not asked:
            return None

        def ask(first: PrimExpr, height: int) -> None:
            for buffer in asked:
                step = LINE_BYTES // buffer.dtype.itemsize
                for r in range(height):
                    row = emit.unflatten(self.first + first + r, spec.lead)
                    for column in range(0, spec.panel, step):
                        emit.prefetch(buffer, [*row, panel * spec.panel + column], near=True)

        return ask

    def is_alike(self, buffer: Buffer) -> bool:
        """Whether a buffer has an element for each of the results."""
        shape = (*self.spec.lead, self.spec.columns)
        return len(buffer.shape) == len(shape) and all(
            tvm_ffi.structural_equal(emit.integer(own), emit.integer(other))
            for own, other in zip(buffer.shape, shape, strict=True)
        )

    def weights(self, panel: PrimExpr, k: Extent, vector: int) -> PrimExpr:
        """One vector of the weight's row `k`, as floats."""
        lanes = self.cpu.lanes
        value = emit.load(self.weight, [panel, k, vector * lanes], lanes)
        if self.spec.weight_dtype != "float32":
            value = value.astype(f"float32x{lanes}" if lanes > 1 else "float32")
        if self.scales is None or self.spec.is_scaled_whole:
            return value
        block = tirx.floordiv(emit.integer(k), emit.integer(self.spec.block))
        return value * emit.load(self.scales, [panel, block, vector * lanes], lanes)

    def write(self, value: PrimExpr, row: PrimExpr, column: PrimExpr) -> None:
        """Stores one value through bias and epilogue."""
        if self.bias is not None:
            value = value + emit.load(self.bias, [column])
        index = [*emit.unflatten(row, self.spec.lead), column]
        result = self.spec.epilogue.apply(value, index, self.operands)
        T.buffer_store(self.out, result, index)
