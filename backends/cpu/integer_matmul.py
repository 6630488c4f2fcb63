# pyright: standard
"""The product of rows of integers of 8 or 16 bits and a packed weight, exact in 32 bits.

Instructions multiply neighbours of the depth and add their products: two of 16 bits at once, or
four bytes. Where none does the latter, the products of two bytes are added in 16 bits first, and
weights must be small enough for that (`largest_neighbours`).
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import reduce

from tvm.tirx import PrimFunc
from tvm.tirx.script import builder as T  # noqa: N812

from leptonc.backends.cpu import emit
from leptonc.backends.cpu.decision import UNDECIDED, Decision
from leptonc.backends.cpu.emit import IDENTITY, Epilogue, Extent, Shape
from leptonc.backends.cpu.integer_packing import integer_weight_shape
from leptonc.backends.cpu.integer_steps import IntegerProducts
from leptonc.backends.cpu.matmul import (
    BYTES_AHEAD,
    MOST_ROWS_AHEAD,
    tiles_ahead,
)
from leptonc.backends.cpu.product import Product, Steps, Sums, ahead_steps, each_panel
from leptonc.backends.cpu.sharing import is_worth_sharing
from leptonc.backends.cpu.target import CpuTarget
from leptonc.backends.cpu.tiles import integer_tile_rows, whole_rows
from leptonc.backends.tvm.binding import Buffer, PrimExpr, tirx

# The bytes of a line of the caches.
LINE_BYTES = 64


@dataclass(frozen=True)
class IntegerMatmulSpec:
    """`out[*lead, columns] = epilogue(x[*lead, depth] @ weight)`, the sums in 32 bits.

    Rows are uint8 or int16. The weight is packed in panels of `panel` columns, `together` elements
    of the depth side by side: `integer_packing.pack_integer_weight`. What is too large for those
    is added by so many `extra` steps: `integer_packing.ByteWeight`.
    """

    lead: Shape
    depth: int
    columns: int
    panel: int
    epilogue: Epilogue = IDENTITY
    out_dtype: str = "int32"
    dtype: str = "int16"
    weight_dtype: str = "int8"
    extra: int = 0
    folds: int = 1
    decision: Decision = UNDECIDED

    @property
    def together(self) -> int:
        """The elements of the depth in one step."""
        return 4 if self.dtype == "uint8" else 2

    @property
    def weight_shape(self) -> tuple[int, int, int, int]:
        """The shape of the packed weight."""
        return integer_weight_shape(self.depth, self.columns, self.panel, self.together)


def integer_matmul(name: str, spec: IntegerMatmulSpec, cpu: CpuTarget) -> PrimFunc:
    """The kernel (x, weight, extra weight?, places?, starts?, *operands, out)."""
    panels, _, panel, together = spec.weight_shape
    extra = [
        ("extra", (spec.extra, panel, together), spec.weight_dtype),
        ("places", (spec.extra,), "int32"),
        ("starts", (panels + 1,), "int32"),
    ]
    parameters = [
        ("x", (*spec.lead, spec.depth), spec.dtype),
        ("weight", spec.weight_shape, spec.weight_dtype),
        *(extra if spec.extra else ()),
        *spec.epilogue.parameters(),
        ("out", (*spec.lead, spec.columns), spec.out_dtype),
    ]
    return emit.function(name, parameters, lambda *buffers: _Emitter(spec, cpu, buffers).emit())


class _Emitter:
    """Emits one product: panels of columns, inside them tiles of rows, inside them the depth."""

    def __init__(self, spec: IntegerMatmulSpec, cpu: CpuTarget, buffers: Sequence[Buffer]) -> None:
        self.spec, self.cpu, self.products = spec, cpu, IntegerProducts(cpu)
        x, weight, *rest = buffers
        self.extra = [rest.pop(0) for _ in range(3)] if spec.extra else []
        *self.operands, self.out = rest
        self.rows = emit.product(spec.lead)
        self.x = emit.view(x, (self.rows, spec.depth))
        panels, steps, panel, together = spec.weight_shape
        self.weight = emit.view(weight, (panels, steps, panel * together))
        self.unrolled = not spec.epilogue.is_long(len(spec.lead) + 1, "int32")

    def emit(self) -> None:
        """Emits the whole product."""
        columns, width, lanes = self.spec.columns, self.spec.panel, self.cpu.lanes
        each_panel(columns, width, lanes, self.panel, parallel=self.is_parallel)

    @property
    def is_parallel(self) -> bool:
        """Whether the panels are shared by threads; symbolic rows are taken for a few."""
        rows = self.rows if isinstance(self.rows, int) else 32
        operations = self.spec.columns * self.spec.depth * rows
        enough = is_worth_sharing(operations, self.spec.columns * self.spec.depth)
        return self.spec.decision.is_shared(self.cpu.threads, otherwise=enough)

    def panel(self, panel: PrimExpr, widths: tuple[int, ...]) -> None:
        """All rows of one panel."""
        spec = self.spec

        def write(value: PrimExpr, row: PrimExpr, column: PrimExpr) -> None:
            index = [*emit.unflatten(row, spec.lead), panel * spec.panel + column]
            result = spec.epilogue.apply(value, index, self.operands)
            T.buffer_store(self.out, result, index)

        _Folded(
            cpu=self.cpu,
            depth=spec.depth // (spec.together * spec.folds),
            lanes=self.cpu.lanes,
            widths=widths,
            unrolled=self.unrolled,
            left=lambda row, step: self.neighbours(row, emit.integer(step) * spec.together),
            right=lambda step, vector: self.weights(panel, step, vector),
            write=write,
            dtype="int32",
            add=self.products.add_bytes if spec.dtype == "uint8" else self.products.add_pairs,
            more=self.more(panel),
            ahead=self.ahead(panel),
            asking=tiles_ahead(whole_rows(self.rows, self.tile_rows)),
            folds=spec.folds,
            multiply=self.products.multiply_bytes,
            widen=self.products.widen,
        ).rows(self.rows, self.tile_rows)

    @property
    def tile_rows(self) -> int:
        """The most rows of a register tile."""
        spec = self.spec
        most = integer_tile_rows(spec.panel // self.cpu.lanes, spec.together, self.cpu)
        return spec.decision.tile_rows(most)

    def ahead(self, panel: PrimExpr) -> Callable[[PrimExpr, PrimExpr], None] | None:
        """Asks for the weights of the next panel, some of them in each tile of rows."""
        spec = self.spec
        size = math.prod(spec.weight_shape) * (2 if spec.weight_dtype == "int16" else 1)
        few = isinstance(self.rows, int) and not 2 <= self.rows <= MOST_ROWS_AHEAD
        lines = size // spec.weight_shape[0] // LINE_BYTES
        if spec.decision.ahead is not None:
            few = not spec.decision.ahead
        if few or size < BYTES_AHEAD or not lines:
            return None
        height = whole_rows(self.rows, self.tile_rows)
        calls = spec.depth // (spec.together * spec.folds) // ahead_steps(self.cpu)
        at_once = max(1, math.ceil(lines / max(calls, 1) / tiles_ahead(height)))
        elements = math.prod(spec.weight_shape[1:])
        flat = emit.view(self.weight, (spec.weight_shape[0] * elements,))

        def ask(first: PrimExpr, step: PrimExpr) -> None:
            call = tirx.floordiv(first, emit.integer(height)) * calls + step
            for each in range(at_once):
                line = tirx.min(call * at_once + each, emit.integer(lines - 1))
                emit.prefetch(flat, [(panel + 1) * elements + line * (elements // lines)])

        return ask

    def neighbours(self, row: PrimExpr, start: PrimExpr) -> PrimExpr:
        """Elements of a row, as the parts of one number."""
        return tirx.reinterpret("int32", emit.load(self.x, [row, start], self.spec.together))

    def more(self, panel: PrimExpr) -> list[Steps]:
        """What remains behind the whole steps of the depth, and what no byte of a weight holds."""
        spec, steps = self.spec, list[Steps]()
        whole, rest = divmod(spec.depth, spec.together)
        if whole % spec.folds:
            start = whole - whole % spec.folds
            steps.append(
                Steps(
                    whole - start,
                    lambda row, k: self.neighbours(row, (start + k) * spec.together),
                    lambda k, vector: self.weights(panel, start + k, vector),
                )
            )
        if rest:
            steps.append(
                Steps(
                    1,
                    lambda row, _: self.last(row),
                    lambda _, vector: self.weights(panel, whole, vector),
                )
            )
        if self.extra:
            weights, places, starts = self.extra
            lanes = self.cpu.lanes * spec.together
            flat = emit.view(weights, (spec.extra, spec.panel * spec.together))
            first, end = (emit.load(starts, [panel + at]).astype("int64") for at in (0, 1))
            steps.append(
                Steps(
                    end - first,
                    lambda row, k: self.neighbours(row, emit.load(places, [first + k])),
                    lambda k, vector: emit.load(flat, [first + k, vector * lanes], lanes),
                )
            )
        return steps

    def last(self, row: PrimExpr) -> PrimExpr:
        """What remains of a row, as the parts of a number that is filled with zeros."""
        spec, total = self.spec, tirx.const(0, "int32")
        rest, bits = spec.depth % spec.together, 32 // spec.together
        for part in range(rest):
            value = emit.load(self.x, [row, spec.depth - rest + part])
            total = total | (
                tirx.reinterpret(f"uint{bits}", value).astype("int32") << (bits * part)
            )
        return total

    def weights(self, panel: PrimExpr, step: Extent, vector: int) -> PrimExpr:
        """The weights of one vector of columns."""
        spec, lanes = self.spec, self.cpu.lanes * self.spec.together
        value = emit.load(self.weight, [panel, step, vector * lanes], lanes)
        wide = f"int16x{lanes}"
        return value.astype(wide) if (spec.dtype, spec.weight_dtype) == ("int16", "int8") else value


@dataclass(frozen=True)
class _Folded(Product):
    """A product of which the products of `folds` steps are added before they are widened."""

    folds: int = 1
    multiply: Callable[[PrimExpr, PrimExpr], PrimExpr] = operator.mul
    widen: Callable[[PrimExpr], PrimExpr] = operator.pos

    def along(self, steps: Steps) -> Product:
        """Other stretches are not folded."""
        return replace(self, left=steps.left, right=steps.right, folds=1)

    def step(self, first: PrimExpr, k: Extent, sums: Sums) -> None:
        """Adds the products of `folds` steps."""
        if self.folds == 1:
            super().step(first, k, sums)
            return
        steps = [emit.integer(k) * self.folds + fold for fold in range(self.folds)]
        columns = [[self.right(s, vector) for s in steps] for vector in range(len(self.widths))]
        for r, row in enumerate(sums):
            values = [emit.broadcast(self.left(first + r, s), self.lanes) for s in steps]
            for register, column in zip(row, columns, strict=True):
                parts = [self.multiply(v, c) for v, c in zip(values, column, strict=True)]
                register.set(register.get() + self.widen(reduce(operator.add, parts)))
