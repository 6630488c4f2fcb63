# pyright: standard
"""The product of rows and a packed weight of bf16, with sums of fp32.

The weight has two neighbours of the depth in each word of 32 bits. Where an instruction multiplies
such pairs, rows are rounded to bf16 too, once for all panels; elsewhere the weight is widened in
registers, and rows stay as they are: half the memory is read.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tvm.tirx import PrimFunc
from tvm.tirx.script import builder as T  # noqa: N812

from leptonc.backends.cpu import emit
from leptonc.backends.cpu.emit import IDENTITY, Epilogue, Extent, Shape
from leptonc.backends.cpu.instructions import as_bf16, pairs_of_bf16, widened, with_bf16
from leptonc.backends.cpu.integer_packing import integer_weight_shape
from leptonc.backends.cpu.matmul import (
    BYTES_AHEAD,
    MOST_ROWS_AHEAD,
    tiles_ahead,
)
from leptonc.backends.cpu.product import Product, Steps, Sums, ahead_steps, each_panel
from leptonc.backends.cpu.sharing import is_worth_sharing
from leptonc.backends.cpu.target import CpuTarget
from leptonc.backends.cpu.tiles import tile_rows, whole_rows, widened_rows
from leptonc.backends.tvm.binding import Buffer, PrimExpr, tirx

# The words of a line of the caches.
LINE = 16
# The elements of a row that are rounded at once, in registers.
ROUNDED = 2


@dataclass(frozen=True)
class Bf16MatmulSpec:
    """`out[*lead, columns] = epilogue(x[*lead, depth] @ weight + bias)`.

    The weight holds the bits of bf16, packed by `integer_packing.pack_integer_weight` in pairs.
    With `rounded`, the elements of x are rounded to bf16 before they are multiplied.
    """

    lead: Shape
    depth: int
    columns: int
    panel: int
    bias: bool = False
    epilogue: Epilogue = IDENTITY
    out_dtype: str = "float32"
    rounded: bool = False

    @property
    def rows(self) -> Extent:
        """The rows of the product, all leading axes together."""
        return emit.product(self.lead)

    @property
    def steps(self) -> int:
        """The pairs in the depth."""
        return -(-self.depth // 2)

    @property
    def weight_shape(self) -> tuple[int, int, int, int]:
        """The shape of the packed weight."""
        return integer_weight_shape(self.depth, self.columns, self.panel, 2)


def bf16_matmul(name: str, spec: Bf16MatmulSpec, cpu: CpuTarget) -> PrimFunc:
    """The kernel (x, weight, bias?, *operands, out)."""
    parameters = [
        ("x", (*spec.lead, spec.depth), "float32"),
        ("weight", spec.weight_shape, "uint16"),
        *([("bias", (spec.columns,), "float32")] if spec.bias else []),
        *spec.epilogue.parameters(),
        ("out", (*spec.lead, spec.columns), spec.out_dtype),
    ]

    def body(*buffers: Buffer) -> None:
        emitter = _Emitter(spec, cpu, buffers)
        if not spec.rounded:
            emitter.emit()
            return
        with with_bf16(cpu):
            emitter.round_rows()
            emitter.emit()

    return emit.function(name, parameters, body)


class _Emitter:
    """Emits one product: panels of columns, inside them tiles of rows, inside them the depth."""

    def __init__(self, spec: Bf16MatmulSpec, cpu: CpuTarget, buffers: Sequence[Buffer]) -> None:
        self.spec, self.cpu = spec, cpu
        x, weight, *rest = buffers
        self.bias = rest.pop(0) if spec.bias else None
        *self.operands, self.out = rest
        self.x = emit.view(x, (spec.rows, spec.depth))
        panels, steps, panel, together = spec.weight_shape
        self.weight = emit.view(weight, (panels, steps, panel * together))
        self.unrolled = not spec.epilogue.is_long(len(spec.lead) + 1)
        most = tile_rows if spec.rounded else widened_rows
        self.height = most(spec.panel // cpu.lanes, cpu)

    def emit(self) -> None:
        """Emits the whole product."""
        columns, width, lanes = self.spec.columns, self.spec.panel, self.cpu.lanes
        each_panel(columns, width, lanes, self.panel, parallel=self.is_parallel)

    @property
    def is_parallel(self) -> bool:
        """Whether the panels are shared by threads; symbolic rows are taken for a few."""
        spec = self.spec
        rows = spec.rows if isinstance(spec.rows, int) else 32
        operations = 2 * spec.columns * spec.depth * rows
        return self.cpu.threads > 1 and is_worth_sharing(operations)

    def round_rows(self) -> None:
        """Puts x as pairs of bf16 into memory of its own, the last one filled up with zero."""
        spec, at_once = self.spec, ROUNDED * self.cpu.lanes
        source = self.x
        self.x = emit.workspace((spec.rows, 2 * spec.steps), "uint16")
        whole, rest = divmod(spec.depth, at_once)
        with emit.outer_loop(spec.rows, parallel=self.is_parallel) as row:
            with emit.serial(whole) as step:
                self.round_some(source, row, step * at_once, at_once)
            with emit.serial(rest) as step:
                self.round_some(source, row, whole * at_once + step, 1)
            if spec.depth % 2:
                emit.store(self.x, tirx.const(0, "uint16"), [row, spec.depth])

    def round_some(self, source: Buffer, row: PrimExpr, start: PrimExpr, count: int) -> None:
        """Rounds neighbours in a row."""
        emit.store(
            self.x, as_bf16(self.cpu, emit.load(source, [row, start], count)), [row, start], count
        )

    def panel(self, panel: PrimExpr, widths: tuple[int, ...]) -> None:
        """All rows of one panel."""
        product = self.of_pairs if self.spec.rounded else self.of_words
        product(panel, widths).rows(self.spec.rows, self.height)

    def of_pairs(self, panel: PrimExpr, widths: tuple[int, ...]) -> Product:
        """A product of pairs of bf16."""
        spec = self.spec
        return Product(
            self.cpu, spec.steps, self.cpu.lanes, widths, self.unrolled, self.pair,
            lambda step, vector: self.words(panel, step, vector), self.writer(panel),
            self.ahead(panel, spec.steps), asking=self.asking, add=self.add_pair,
        )  # fmt: skip

    def of_words(self, panel: PrimExpr, widths: tuple[int, ...]) -> Product:
        """A product that widens each weight where it is multiplied."""
        spec, whole = self.spec, self.spec.depth // 2
        last = Steps(
            1,
            lambda row, _: emit.load(self.x, [row, spec.depth - 1]),
            lambda _, vector: self.last(panel, vector),
        )
        return _Widened(
            self.cpu, whole, self.cpu.lanes, widths, self.unrolled,
            lambda row, k: emit.load(self.x, [row, k]),
            lambda step, vector: self.words(panel, step, vector), self.writer(panel),
            self.ahead(panel, whole), asking=self.asking, more=[last] if spec.depth % 2 else [],
        )  # fmt: skip

    @property
    def asking(self) -> int:
        """The tiles of rows that ask for weights."""
        return tiles_ahead(whole_rows(self.spec.rows, self.height))

    def last(self, panel: PrimExpr, vector: int) -> PrimExpr:
        """The last row of the weight, which has no neighbour where the depth is odd."""
        return widened(self.words(panel, self.spec.depth // 2, vector))[0]

    def words(self, panel: PrimExpr, step: Extent, vector: int) -> PrimExpr:
        """The weights of a vector of columns, two elements of the depth in each word."""
        lanes = self.cpu.lanes
        bits = emit.load(self.weight, [panel, step, vector * 2 * lanes], 2 * lanes)
        return tirx.reinterpret(f"int32x{lanes}", bits)

    def writer(self, panel: PrimExpr) -> Callable[[PrimExpr, PrimExpr, PrimExpr], None]:
        """Stores a value of a panel through bias and epilogue."""
        spec = self.spec

        def write(value: PrimExpr, row: PrimExpr, column: PrimExpr) -> None:
            column = panel * spec.panel + column
            if self.bias is not None:
                value = value + emit.load(self.bias, [column])
            index = [*emit.unflatten(row, spec.lead), column]
            result = spec.epilogue.apply(value, index, self.operands)
            T.buffer_store(self.out, result, index)

        return write

    def pair(self, row: PrimExpr, step: Extent) -> PrimExpr:
        """Two neighbours of a rounded row, as one word."""
        return tirx.reinterpret("int32", emit.load(self.x, [row, emit.integer(step) * 2], 2))

    def add_pair(self, value: PrimExpr, column: PrimExpr, total: PrimExpr) -> PrimExpr:
        """The sums with two products more."""
        return pairs_of_bf16(self.cpu, total, value, column)

    def ahead(self, panel: PrimExpr, steps: int) -> Callable[[PrimExpr, PrimExpr], None] | None:
        """Asks for the weights of the next panel, some in each of so many steps of each tile."""
        spec = self.spec
        few = isinstance(spec.rows, int) and not 2 <= spec.rows <= MOST_ROWS_AHEAD
        height = whole_rows(spec.rows, self.height)
        if few or 4 * spec.steps * spec.columns < BYTES_AHEAD:
            return None
        words = spec.panel * spec.steps
        lines, calls = words // LINE, steps // ahead_steps(self.cpu)
        at_once = max(1, math.ceil(lines / max(calls, 1) / tiles_ahead(height)))
        flat = emit.view(self.weight, (2 * math.prod(spec.weight_shape[:3]),))

        def ask(first: PrimExpr, step: PrimExpr) -> None:
            call = tirx.floordiv(first, emit.integer(height)) * calls + step
            for each in range(at_once):
                line = tirx.min(call * at_once + each, emit.integer(lines - 1))
                emit.prefetch(flat, [(panel + 1) * (2 * words) + line * (2 * LINE)])

        return ask


@dataclass(frozen=True)
class _Widened(Product):
    """A product whose weights are words of two elements of the depth, which it widens."""

    def along(self, steps: Steps) -> Product:
        """What remains of the depth is one element."""
        return Product(
            self.cpu, steps.depth, self.lanes, self.widths, self.unrolled, steps.left, steps.right,
            self.write,
        )  # fmt: skip

    def step(self, first: PrimExpr, k: Extent, sums: Sums) -> None:
        """Adds the products of two elements of the depth."""
        words = [emit.let(self.right(k, vector)) for vector in range(len(self.widths))]
        for half in range(2):
            columns = [emit.let(widened(word)[half]) for word in words]
            for r, row in enumerate(sums):
                value = emit.broadcast(self.left(first + r, emit.integer(k) * 2 + half), self.lanes)
                for register, column in zip(row, columns, strict=True):
                    register.set(self.add(value, column, register.get()))
