# pyright: standard
"""The product of a matrix and a packed weight, fp32, with its epilogue in the register tile."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tvm import tirx
from tvm.ir import Expr as PrimExpr
from tvm.tirx import Buffer, PrimFunc
from tvm.tirx.script import builder as T  # noqa: N812

from leptonc.backends.cpu import emit
from leptonc.backends.cpu.emit import IDENTITY, Epilogue, Extent, Register, Shape
from leptonc.backends.cpu.packing import matmul_weight_shape
from leptonc.backends.cpu.target import CpuTarget
from leptonc.backends.cpu.tiles import Tile, split_depth, split_rows

# Below this many operations, waking the threads costs more than they save.
PARALLEL_OPERATIONS = 1_000_000
# Weights above this size are not in the second-level cache when their turn comes.
PREFETCHED_BYTES = 256 * 1024


@dataclass(frozen=True)
class MatmulSpec:
    """`out[*lead, columns] = epilogue(x[*lead, depth] @ weight + bias)`.

    The weight is packed in panels of `panel` columns: `packing.pack_matmul_weight`.
    """

    lead: Shape
    depth: int
    columns: int
    panel: int
    bias: bool = False
    epilogue: Epilogue = IDENTITY
    out_dtype: str = "float32"

    @property
    def rows(self) -> Extent:
        """The rows of the product, all leading axes together."""
        return emit.product(self.lead)


def matmul(name: str, spec: MatmulSpec, cpu: CpuTarget) -> PrimFunc:
    """The kernel (x, weight, bias?, *operands, out)."""
    weight_shape = matmul_weight_shape(spec.depth, spec.columns, spec.panel)
    parameters = [
        ("x", (*spec.lead, spec.depth), "float32"),
        ("weight", weight_shape, "float32"),
        *([("bias", (spec.columns,), "float32")] if spec.bias else []),
        *spec.epilogue.parameters(),
        ("out", (*spec.lead, spec.columns), spec.out_dtype),
    ]
    return emit.function(name, parameters, lambda *buffers: Emitter(spec, cpu, buffers).product())


class Emitter:
    """Emits one product: panels of columns, inside them tiles of rows, inside them the depth."""

    def __init__(self, spec: MatmulSpec, cpu: CpuTarget, buffers: Sequence[Buffer]) -> None:
        self.spec, self.cpu = spec, cpu
        x, self.weight, *rest = buffers
        self.x = emit.view(x, (spec.rows, spec.depth))
        self.bias = rest.pop(0) if spec.bias else None
        *self.operands, self.out = rest
        vectors = spec.panel // cpu.lanes
        rows = spec.rows if isinstance(spec.rows, int) else None
        most = (cpu.registers - 1) // vectors - 1 if vectors > 1 else cpu.registers - 3
        self.tile_rows = most if rows is None else min(most, rows)
        self.long = spec.epilogue.is_long(len(spec.lead) + 1)

    def product(self) -> None:
        """Emits the whole product."""
        spec = self.spec
        full, rest = divmod(spec.columns, spec.panel)
        if full:
            with emit.outer_loop(full, parallel=self.parallel) as panel:
                self.rows(panel, [self.cpu.lanes] * (spec.panel // self.cpu.lanes))
        if rest:
            whole, part = divmod(rest, self.cpu.lanes)
            self.rows(emit.integer(full), [self.cpu.lanes] * whole + [part] * bool(part))

    @property
    def parallel(self) -> bool:
        """Whether the panels are shared by threads."""
        rows = self.spec.rows
        operations = (
            2 * self.spec.columns * self.spec.depth * (rows if isinstance(rows, int) else 32)
        )
        return self.cpu.threads > 1 and operations > PARALLEL_OPERATIONS

    def rows(self, panel: PrimExpr, widths: list[int]) -> None:
        """All row tiles of a panel of which the vectors have so many valid lanes."""
        rows = self.spec.rows
        if isinstance(rows, int):
            start = 0
            for height, count in split_rows(rows, self.tile_rows):
                with emit.serial(count) as step:
                    self.tile(panel, step * height + start, height, widths)
                start += height * count
            return
        full = emit.let(tirx.floordiv(rows, self.tile_rows))
        with emit.serial(full) as step:
            self.tile(panel, step * self.tile_rows, self.tile_rows, widths)
        rest = emit.let(rows - full * self.tile_rows)
        for height in range(1, self.tile_rows):
            with T.If(rest == height), T.Then():
                self.tile(panel, full * self.tile_rows, height, widths)

    def tile(self, panel: PrimExpr, first: PrimExpr, height: int, widths: list[int]) -> None:
        """One register tile: `height` rows from `first` on."""
        lanes, depth = self.cpu.lanes, self.spec.depth
        split = min(split_depth(Tile(height, len(widths)), self.cpu), depth)
        sums = [[[Register(lanes) for _ in widths] for _ in range(height)] for _ in range(split)]
        for register in (r for part in sums for row in part for r in row):
            register.set(emit.broadcast(emit.const(0.0), lanes))

        def step(k: Extent, part: list[list[Register]]) -> None:
            columns = [
                emit.load(self.weight, [panel, k, v * lanes], lanes) for v in range(len(widths))
            ]
            for r, row in enumerate(part):
                value = emit.broadcast(emit.load(self.x, [first + r, k]), lanes)
                for register, column in zip(row, columns, strict=True):
                    register.set(emit.fma(value, column, register.get()))

        with emit.serial(depth // split) as k:
            for s in range(split):
                step(k * split + s, sums[s])
        for k in range(depth // split * split, depth):
            step(k, sums[0])
        for part in sums[1:]:
            for row, others in zip(sums[0], part, strict=True):
                for register, other in zip(row, others, strict=True):
                    register.set(register.get() + other.get())
        self.finish(panel, first, sums[0], widths)

    def finish(
        self, panel: PrimExpr, first: PrimExpr, sums: list[list[Register]], widths: list[int]
    ) -> None:
        """Stores a tile through the epilogue."""
        lanes, height = self.cpu.lanes, len(sums)
        column = panel * self.spec.panel
        if not self.long or height * len(widths) < 2:
            for r, row in enumerate(sums):
                for v, (register, width) in enumerate(zip(row, widths, strict=True)):
                    with emit.vectorized(width) as lane:
                        self.write(register.lane(lane), first + r, column + (v * lanes + lane))
            return
        staged = [Register(lanes * height) for _ in widths]
        for r, row in enumerate(sums):
            for register, stage in zip(row, staged, strict=True):
                emit.store(stage.buffer, register.get(), [r * lanes], lanes)
        with emit.serial(height) as r:
            for v, (stage, width) in enumerate(zip(staged, widths, strict=True)):
                with emit.vectorized(width) as lane:
                    self.write(stage.lane(r * lanes + lane), first + r, column + (v * lanes + lane))

    def write(self, value: PrimExpr, row: PrimExpr, column: PrimExpr) -> None:
        """Stores one value through bias and epilogue."""
        if self.bias is not None:
            value = value + emit.load(self.bias, [column])
        index = [*emit.unflatten(row, self.spec.lead), column]
        result = self.spec.epilogue.apply(value, index, self.operands)
        T.buffer_store(self.out, result, index)
