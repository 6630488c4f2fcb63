# pyright: standard
"""One step of a recurrent layer: the product with the state before, and the gates' activations.

The sums of a step go through memory once between the two: a step has few of them, and the code of
the activations is there once, not once for each register of a tile.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain

from leptonc.backends.cpu import emit
from leptonc.backends.cpu.emit import Extent, Register
from leptonc.backends.cpu.product import each_tile
from leptonc.backends.cpu.recurrent_packing import RecurrentWeight
from leptonc.backends.cpu.target import CpuTarget
from leptonc.backends.cpu.tiles import recurrent_rows
from leptonc.backends.tvm.binding import Buffer, PrimExpr, let
from leptonc.ir.ops.recurrent_packed import Phase

UNROLLED = 4
"""So many elements of the state are taken in before the loop over them goes on."""

Function = Callable[[PrimExpr], PrimExpr]
Given = Callable[[int], PrimExpr]


@dataclass(frozen=True)
class Memory:
    """What the steps of one direction work on, for `count` examples.

    `given` has a row for each step of a chunk and each example: what the inputs give the gates, to
    which a step adds. `h` holds two states, read and written by turns; `c` the cells, or a gate
    that is needed later; `spare` what a second product reads, or a gate that stays apart.
    """

    count: Extent
    given: Buffer
    h: Buffer
    c: Buffer
    spare: Buffer


@dataclass(frozen=True)
class Layer:
    """The constants of one direction."""

    name: str
    cpu: CpuTarget
    weight: RecurrentWeight
    r: Buffer
    bias: Buffer | None
    direction: int
    functions: Sequence[Function]

    def step(self, memory: Memory, at: PrimExpr, parity: PrimExpr) -> None:
        """Emits step `at` of a chunk, from the state of `parity` to the other one."""
        column = start = 0
        for number, phase in enumerate(self.weight.phases):
            Step(self, memory, phase, number, (column, start), (at, parity)).emit()
            width = phase.panels(self.weight.hidden) * phase.width
            column, start = column + width, start + width * self.weight.hidden


class Step:
    """Emits one recurrent product of a step, and what is done with it."""

    def __init__(
        self, layer: Layer, memory: Memory, phase: Phase, number: int,
        offsets: tuple[int, int], time: tuple[PrimExpr, PrimExpr],
    ) -> None:  # fmt: skip
        self.layer, self.memory, self.phase, self.number = layer, memory, phase, number
        self.weight, self.lanes = layer.weight, layer.cpu.lanes
        self.column, self.start = offsets
        self.at, self.parity = time
        self.vectors = phase.width // self.lanes
        self.panels = phase.panels(self.weight.hidden)

    def emit(self) -> None:
        """The product, then the gates."""
        rows = recurrent_rows(self.vectors, self.layer.cpu)
        if self.is_linear:
            self.begin_apart()
        part = self.part(rows)
        full, rest = divmod(self.weight.hidden, part)
        with emit.serial(self.panels) as panel:
            with emit.serial(full) as number:
                start = emit.let(number * part)
                each_tile(self.memory.count, rows, lambda *at: self.tile(panel, (start, part), *at))
            if rest:
                start = emit.integer(full * part)
                each_tile(self.memory.count, rows, lambda *at: self.tile(panel, (start, rest), *at))
        {"lstm": self.lstm, "gru": self.gru, "rnn": self.rnn}[self.layer.name]()

    def part(self, rows: int) -> int:
        """How much of the depth all tiles go over before the next, so that they share a cache."""
        count, hidden = self.memory.count, self.weight.hidden
        fitting = self.layer.cpu.l1_bytes // 2 // (4 * self.phase.width)
        alone = isinstance(count, int) and count <= rows
        return hidden if alone or hidden <= 2 * fitting else max(fitting // UNROLLED * UNROLLED, 1)

    def begin_apart(self) -> None:
        """The recurrent bias of the gate that stays apart."""
        blocks = self.weight.padded // self.lanes
        with emit.serial(self.memory.count) as row, emit.serial(blocks) as block:
            unit = block * self.lanes
            value = emit.broadcast(emit.const(0.0), self.lanes)
            if self.layer.bias is not None:
                place = [self.layer.direction, self.weight.columns + unit]
                value = emit.load(self.layer.bias, place, self.lanes)
            emit.store(self.memory.spare, value, [row, unit], self.lanes)

    def tile(
        self, panel: PrimExpr, part: tuple[PrimExpr, int], first: PrimExpr, height: int
    ) -> None:
        """Adds the product of a part of one panel and `height` examples to their sums."""
        lanes, hidden, width = self.lanes, self.weight.hidden, self.phase.width
        begin, depth = part
        places = [
            [self.place(panel, first + row, vector) for vector in range(self.vectors)]
            for row in range(height)
        ]
        sums = [[Register(lanes) for _ in row] for row in places]
        for register, (memory, place) in zip(chain(*sums), chain(*places), strict=True):
            register.set(emit.load(memory, place, lanes))
        weight = emit.view(self.layer.r, (emit.product(self.layer.r.shape),))
        offset = self.layer.direction * self.weight.recurrent_shape[1] + self.start
        base = emit.let((panel * hidden + begin) * width + offset)

        def add(k: PrimExpr) -> None:
            columns = [
                emit.load(weight, [base + k * width + v * lanes], lanes)
                for v in range(self.vectors)
            ]
            for row, registers in enumerate(sums):
                value = emit.broadcast(self.source(first + row, begin + k), lanes)
                for register, column in zip(registers, columns, strict=True):
                    register.set(emit.fma(value, column, register.get()))

        with emit.serial(depth // UNROLLED) as group:
            for index in range(UNROLLED):
                add(group * UNROLLED + index)
        with emit.serial(depth % UNROLLED, depth // UNROLLED * UNROLLED) as k:
            add(k)
        for register, (memory, place) in zip(chain(*sums), chain(*places), strict=True):
            emit.store(memory, register.get(), place, lanes)

    @property
    def is_linear(self) -> bool:
        """Whether the last gate's product stays apart from what its inputs gave."""
        return self.weight.linear

    def place(self, panel: PrimExpr, row: PrimExpr, vector: int) -> tuple[Buffer, list[Extent]]:
        """Where the sums of a panel's vector are kept until the gates are computed."""
        lanes, units = self.lanes, self.phase.units
        if self.is_linear and vector * lanes >= 2 * units:
            return self.memory.spare, [row, panel * units + (vector * lanes - 2 * units)]
        column = panel * self.phase.width + (self.column + vector * lanes)
        return self.memory.given, [self.at * emit.integer(self.memory.count) + row, column]

    def source(self, row: PrimExpr, k: PrimExpr) -> PrimExpr:
        """An element of what the recurrent weight is multiplied with."""
        if self.number:
            return emit.load(self.memory.spare, [row, k])
        return emit.load(self.memory.h, [self.parity, row, k])

    def each_unit(
        self, body: Callable[[PrimExpr, PrimExpr, Callable[[int], PrimExpr]], None]
    ) -> None:
        """Emits `body(row, unit, gate)` for each unit of each example, a vector at once."""
        lanes, units = self.lanes, self.phase.units
        with (
            emit.serial(self.memory.count) as row,
            emit.serial(self.panels) as panel,
            emit.serial(units // lanes) as block,
        ):
            at = emit.let(self.at * emit.integer(self.memory.count) + row)
            first = emit.let(panel * units + block * lanes)
            column = emit.let(panel * self.phase.width + block * lanes + self.column)
            with emit.vectorized(lanes) as lane:
                body(
                    row,
                    first + lane,
                    lambda gate: emit.load(self.memory.given, [at, column + gate * units + lane]),
                )

    def lstm(self) -> None:
        """The new cells and states."""
        gate, candidate, output = self.layer.functions

        def cells(row: PrimExpr, unit: PrimExpr, given: Callable[[int], PrimExpr]) -> None:
            kept = gate(given(2)) * emit.load(self.memory.c, [row, unit])
            emit.store(self.memory.c, kept + gate(given(0)) * candidate(given(3)), [row, unit])

        def states(row: PrimExpr, unit: PrimExpr, given: Callable[[int], PrimExpr]) -> None:
            value = gate(given(1)) * output(emit.load(self.memory.c, [row, unit]))
            emit.store(self.memory.h, value, [1 - self.parity, row, unit])

        self.each_unit(cells)
        self.each_unit(states)

    def rnn(self) -> None:
        """The new states."""
        (function,) = self.layer.functions

        def states(row: PrimExpr, unit: PrimExpr, given: Callable[[int], PrimExpr]) -> None:
            emit.store(self.memory.h, function(given(0)), [1 - self.parity, row, unit])

        self.each_unit(states)

    def gru(self) -> None:
        """The new states, or what the second product needs."""
        gate, candidate = self.layer.functions

        def mixed(row: PrimExpr, unit: PrimExpr, keep: PrimExpr, fresh: PrimExpr) -> None:
            held = emit.load(self.memory.h, [self.parity, row, unit])
            value = let(fresh, lambda fresh: fresh + keep * (held - fresh))
            emit.store(self.memory.h, value, [1 - self.parity, row, unit])

        def linear(row: PrimExpr, unit: PrimExpr, given: Callable[[int], PrimExpr]) -> None:
            recalled = gate(given(1)) * emit.load(self.memory.spare, [row, unit])
            mixed(row, unit, gate(given(0)), candidate(given(2) + recalled))

        def gates(row: PrimExpr, unit: PrimExpr, given: Callable[[int], PrimExpr]) -> None:
            held = emit.load(self.memory.h, [self.parity, row, unit])
            emit.store(self.memory.c, gate(given(0)), [row, unit])
            emit.store(self.memory.spare, gate(given(1)) * held, [row, unit])

        def last(row: PrimExpr, unit: PrimExpr, given: Callable[[int], PrimExpr]) -> None:
            mixed(row, unit, emit.load(self.memory.c, [row, unit]), candidate(given(0)))

        self.each_unit(linear if self.is_linear else last if self.number else gates)
