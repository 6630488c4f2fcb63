# pyright: standard
"""Recurrent layers with packed weights: the inputs of many steps at once, then step by step.

A step adds the recurrent product to what its inputs gave, in tiles of the gates of some units for
some examples, and goes over the gates once more for the activations: a step has few of them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from leptonc.backends.cpu import emit
from leptonc.backends.cpu.emit import Extent
from leptonc.backends.cpu.product import Product
from leptonc.backends.cpu.recurrent_packing import RecurrentWeight, chunk_steps
from leptonc.backends.cpu.recurrent_step import Function, Layer, Memory
from leptonc.backends.cpu.sharing import is_worth_sharing
from leptonc.backends.cpu.target import CpuTarget
from leptonc.backends.cpu.tiles import tile_rows
from leptonc.backends.tvm.binding import Buffer, PrimExpr, tirx

"""Below this many operations, waking the threads costs more than they save."""


@dataclass(frozen=True)
class RecurrentSpec:
    """One layer: its extents, its weights, and for each direction the gates' activations."""

    layer: str
    steps: Extent
    batch: Extent
    weight: RecurrentWeight
    functions: Sequence[Sequence[Function]]
    backward: Sequence[bool]
    batch_first: bool = False


@dataclass(frozen=True)
class RecurrentBuffers:
    """What a layer reads and writes; what is absent or not used is None."""

    x: Buffer
    w: Buffer
    r: Buffer
    bias: Buffer | None
    states: Sequence[Buffer | None]
    outputs: Buffer | None
    last: Sequence[Buffer | None]


def recurrent(spec: RecurrentSpec, cpu: CpuTarget, buffers: RecurrentBuffers) -> None:
    """Emits a whole layer."""
    blocks = _blocks(spec, cpu)
    for direction in range(spec.weight.directions):
        if not isinstance(spec.batch, int):
            Direction(spec, cpu, buffers, direction).emit(emit.integer(0), spec.batch)
            continue
        size = spec.batch // blocks
        with emit.outer_loop(blocks, parallel=blocks > 1) as block:
            Direction(spec, cpu, buffers, direction).emit(block * size, size)


def _blocks(spec: RecurrentSpec, cpu: CpuTarget) -> int:
    """Into how many equal parts the threads share the examples."""
    if not isinstance(spec.batch, int) or spec.batch < 1:
        return 1
    steps = spec.steps if isinstance(spec.steps, int) else 32
    depth = spec.weight.inputs + spec.weight.hidden
    if not is_worth_sharing(2 * steps * spec.batch * spec.weight.columns * depth):
        return 1
    return max(n for n in range(1, max(cpu.threads, 1) + 1) if spec.batch % n == 0)


class Direction:
    """Emits one direction of a layer, for some of the examples."""

    def __init__(
        self, spec: RecurrentSpec, cpu: CpuTarget, buffers: RecurrentBuffers, direction: int
    ) -> None:
        self.spec, self.cpu, self.buffers, self.direction = spec, cpu, buffers, direction
        self.weight, self.lanes = spec.weight, cpu.lanes
        self.layer = Layer(
            spec.layer, cpu, spec.weight, buffers.r, buffers.bias, direction,
            spec.functions[direction],
        )  # fmt: skip
        self.backward = spec.backward[direction]
        batch, steps = (e if isinstance(e, int) else None for e in (spec.batch, spec.steps))
        self.chunk_steps = chunk_steps(steps, batch)

    def emit(self, first: PrimExpr, count: Extent) -> None:
        """All steps of `count` examples from `first` on."""
        self.first, self.count = first, count
        padded = self.weight.padded
        self.memory = memory = Memory(
            count,
            emit.workspace((emit.product((self.chunk_steps, count)), self.weight.columns)),
            emit.workspace((2, count, padded)),
            emit.workspace((count, padded)),
            emit.workspace((count, padded)),
        )
        before = emit.view(memory.h, (emit.product((2, count)), padded))
        for buffer, state in zip((before, memory.c), self.buffers.states, strict=False):
            with emit.serial(count) as row:
                self.begin(buffer, state, row)
        steps = self.spec.steps
        if isinstance(steps, int):
            full, rest = divmod(steps, self.chunk_steps)
            with emit.serial(full) as chunk:
                self.chunk(chunk * self.chunk_steps, self.chunk_steps)
            if rest:
                self.chunk(emit.integer(full * self.chunk_steps), rest)
        else:
            with emit.serial(emit.ceildiv(steps, self.chunk_steps)) as chunk:
                start = chunk * self.chunk_steps
                self.chunk(start, emit.let(tirx.min(steps - start, self.chunk_steps)))
        self.finish()

    def begin(self, buffer: Buffer, state: Buffer | None, row: PrimExpr) -> None:
        """The state of an example before the first step, zeros in what fills up the last panel."""
        padded, hidden = self.weight.padded, self.weight.hidden
        with emit.serial(padded // self.lanes) as block:
            zero = emit.broadcast(emit.const(0.0), self.lanes)
            emit.store(buffer, zero, [row, block * self.lanes], self.lanes)
        if state is not None:
            with emit.serial(hidden) as unit:
                emit.store(buffer, emit.load(state, self.state_index(row, unit)), [row, unit])

    def state_index(self, row: PrimExpr, unit: PrimExpr) -> list[Extent]:
        """Where a state of an example stands in an operand or a result."""
        example = self.first + row
        if self.spec.batch_first:
            return [example, self.direction, unit]
        return [self.direction, example, unit]

    def chunk(self, first: PrimExpr, count: Extent) -> None:
        """Some steps: the product with their inputs, then one after the other."""
        steps = emit.integer(self.spec.steps)
        begin = emit.let(steps - first - count if self.backward else first)
        self.input_product(begin, count)
        with emit.serial(count) as index:
            at = count - 1 - index if self.backward else index
            parity = emit.let(tirx.floormod(first + index, 2))
            self.layer.step(self.memory, emit.let(emit.integer(at)), parity)
            if self.buffers.outputs is not None:
                outputs = self.buffers.outputs
                self.copy(
                    lambda row, unit: emit.load(self.memory.h, [1 - parity, row, unit]),
                    lambda row, unit, value: emit.store(
                        outputs, value, self.output_index(begin + at, row, unit)
                    ),
                )

    def output_index(self, time: PrimExpr, row: PrimExpr, unit: PrimExpr) -> list[Extent]:
        """Where the output of an example at a time stands in the result."""
        example = self.first + row
        if self.spec.batch_first:
            return [example, time, self.direction, unit]
        return [time, self.direction, example, unit]

    def input_product(self, begin: PrimExpr, count: Extent) -> None:
        """What the inputs from a time on give each gate, biases included."""
        weight, lanes, buffers = self.weight, self.lanes, self.buffers
        size = emit.integer(self.count)

        def left(row: PrimExpr, k: Extent) -> PrimExpr:
            time = begin + tirx.floordiv(row, size)
            example = self.first + tirx.floormod(row, size)
            place = [example, time, k] if self.spec.batch_first else [time, example, k]
            return emit.load(buffers.x, place)

        def panel(number: PrimExpr, vectors: int) -> None:
            def write(value: PrimExpr, row: PrimExpr, column: PrimExpr) -> None:
                column = number * weight.panel + column
                if buffers.bias is not None:
                    value = value + emit.load(buffers.bias, [self.direction, column])
                emit.store(self.memory.given, value, [row, column])

            def right(k: Extent, vector: int) -> PrimExpr:
                return emit.load(buffers.w, [self.direction, number, k, vector * lanes], lanes)

            product = Product(
                cpu=self.cpu, depth=weight.inputs, lanes=lanes, widths=(lanes,) * vectors,
                unrolled=True, left=left, right=right, write=write,
            )  # fmt: skip
            rows = tile_rows(weight.panel // lanes, self.cpu)
            product.rows(emit.product((count, self.count)), rows)

        full, rest = divmod(weight.columns, weight.panel)
        with emit.serial(full) as number:
            panel(number, weight.panel // lanes)
        if rest:
            panel(emit.integer(full), rest // lanes)

    def copy(
        self,
        read: Callable[[PrimExpr, PrimExpr], PrimExpr],
        write: Callable[[PrimExpr, PrimExpr, PrimExpr], None],
    ) -> None:
        """Emits a copy of each unit that exists, of each example."""
        hidden, lanes = self.weight.hidden, self.lanes

        with emit.serial(self.memory.count) as row:
            with emit.serial(hidden // lanes) as block, emit.vectorized(lanes) as lane:
                unit = block * lanes + lane
                write(row, unit, read(row, unit))
            with emit.serial(hidden % lanes, hidden // lanes * lanes) as unit:
                write(row, unit, read(row, unit))

    def finish(self) -> None:
        """Stores the states after the last step."""
        parity = tirx.floormod(emit.integer(self.spec.steps), 2)
        sources: tuple[Callable[[Any, Any], PrimExpr], ...] = (
            lambda row, unit: emit.load(self.memory.h, [parity, row, unit]),
            lambda row, unit: emit.load(self.memory.c, [row, unit]),
        )
        for source, target in zip(sources, self.buffers.last, strict=False):
            if target is None:
                continue

            def write(
                row: PrimExpr, unit: PrimExpr, value: PrimExpr, target: Buffer = target
            ) -> None:
                emit.store(target, value, self.state_index(row, unit))

            self.copy(source, write)
