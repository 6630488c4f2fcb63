# pyright: standard
"""A tile of attention: some queries of one head, and the keys of one block."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

from tvm.tirx.script import builder as T  # noqa: N812

from leptonc.backends.cpu import emit
from leptonc.backends.cpu.attention_blocks import KEY_VECTORS, ValuePanels, value_panels
from leptonc.backends.cpu.emit import Extent, Register, Shape
from leptonc.backends.cpu.product import Product, Sums
from leptonc.backends.cpu.target import CpuTarget
from leptonc.backends.tvm import vector_math
from leptonc.backends.tvm.binding import Buffer, PrimExpr, tirx

LOWEST = -math.inf


@dataclass(frozen=True)
class AttentionSpec:
    """`out = softmax(q @ k.T * scale + mask) @ v` for each head.

    Operands are [batch, heads, length, width], or [batch, length, heads * width] if `in_rows`; keys
    and values have `groups` heads. The mask has four axes; of an extent that is the int 1, it has
    one for all. A query that sees nothing gives zeros if `guarded`, else not-a-number.
    """

    batch: Extent
    heads: int
    groups: int
    queries: Extent
    keys: Extent
    depth: int
    width: int
    scale: float
    in_rows: bool
    causal: bool = False
    rounded: bool = False
    """Whether what is multiplied is rounded to bf16: queries, keys, values and their weights."""
    guarded: bool = True
    mask: Shape | None = None


@dataclass(frozen=True)
class AttentionBuffers:
    """What the kernel reads and writes; the mask is of bool, or fp32 to be added."""

    q: Buffer
    k: Buffer
    v: Buffer
    mask: Buffer | None
    out: Buffer


@dataclass(frozen=True)
class Head:
    """One head of queries, among those that share keys."""

    batch: PrimExpr
    head: PrimExpr
    first: PrimExpr
    """The place of its first row among the rows that are kept from block to block."""


@dataclass(frozen=True)
class Block:
    """Some keys: the first, how many, and the copies of their keys and values."""

    first: PrimExpr
    count: Extent
    keys: Buffer
    values: Sequence[Buffer]


def place(
    spec: AttentionSpec, batch: PrimExpr, head: PrimExpr, row: PrimExpr, column: Extent, width: int
) -> list[Extent]:
    """The index of an element of one head, in an operand whose heads are so wide."""
    if spec.in_rows:
        return [batch, row, head * width + column]
    return [batch, head, row, column]


@dataclass(frozen=True)
class Rounded:
    """The bf16 of a tile: its queries, and the weights of the keys of a block."""

    queries: Buffer
    weights: Buffer


@dataclass(frozen=True)
class Work:
    """What a thread has at hand for the heads of a group: scores of a tile, and known rows.

    With several blocks of keys, `tops` and `sums` keep the largest score of each row so far, and
    the sum of its weights.
    """

    spec: AttentionSpec
    cpu: CpuTarget
    buffers: AttentionBuffers
    panel: int
    scores: Buffer
    rounded: Rounded | None
    tops: Buffer | None
    sums: Buffer | None

    def result(self, head: Head, row: PrimExpr, column: Extent) -> list[Extent]:
        """The index of an element of the result."""
        return place(self.spec, head.batch, head.head, row, column, self.spec.width)

    @property
    def scaled_late(self) -> bool:
        """Whether scores are kept as they are summed, and scaled where their powers are taken.

        Not what a mask is added to, nor where the largest score would become the smallest.
        """
        added = self.buffers.mask is not None and self.buffers.mask.dtype != "bool"
        return not added and self.spec.scale > 0

    @property
    def unit(self) -> float:
        """What a score counts in powers of two."""
        return (self.spec.scale if self.scaled_late else 1.0) * vector_math.LOG2_E

    def power(self, score: PrimExpr, base: PrimExpr) -> PrimExpr:
        """The weight of a score, if that of the `base`, in powers of two, is one."""
        return vector_math.exp2_flushed(vector_math.fma(score, emit.const(self.unit), -base))

    def inverse(self, total: PrimExpr) -> PrimExpr:
        """One over a sum of weights; the sum is zero only where no key was seen."""
        quotient = emit.const(1.0) / total
        if not self.spec.guarded or self.spec.mask is None:
            return quotient
        return tirx.Select(total == emit.const(0.0), emit.const(0.0), quotient)


class Tile:
    """Some rows of one head and the `count` keys of a block that they may see."""

    def __init__(
        self,
        work: Work,
        head: Head,
        block: Block,
        row: PrimExpr,
        height: int,
        count: Extent,
    ) -> None:
        self.work, self.spec, self.cpu = work, work.spec, work.cpu
        self.head, self.block, self.row, self.height = head, block, row, height
        self.count, self.lanes = count, work.cpu.lanes
        self.tops = [Register(self.lanes) for _ in range(height)]

    def emit(self) -> None:
        """Emits the tile."""
        for top in self.tops:
            top.set(emit.broadcast(emit.const(LOWEST), self.lanes))
        panel = self.work.panel
        if isinstance(self.count, int):
            whole, rest = self.count // panel, self.count % panel
            guard: AbstractContextManager[object] = nullcontext()
        else:
            whole = emit.let(tirx.floordiv(self.count, panel))
            rest, guard = True, T.If(self.count > whole * panel)
        with emit.serial(whole) as step:
            self.panel_scores(step, last=False)
        if rest:
            with guard, nullcontext() if isinstance(self.count, int) else T.Then():
                self.panel_scores(emit.integer(whole), last=True)
        factors = self.weigh()
        panels = value_panels(self.spec.width, self.lanes)
        for each, copy in zip(panels, self.block.values, strict=True):
            self.add_values(each, copy, factors)

    def panel_scores(self, panel: PrimExpr, *, last: bool) -> None:
        """The scores of a panel of keys, and the largest of them so far."""
        lanes = self.lanes
        for r, row in enumerate(self.products(panel)):
            for v, register in enumerate(row):
                column = panel * self.work.panel + v * lanes
                with emit.vectorized(lanes) as lane:
                    score = self.score(register.lane(lane), r, column + lane, last=last)
                    T.buffer_store(self.work.scores, score, [emit.integer(r), column + lane])
                value = emit.load(self.work.scores, [r, column], lanes)
                self.tops[r].set(tirx.max(self.tops[r].get(), value))

    def products(self, panel: PrimExpr) -> Sums:
        """Those of the rows and a panel of keys."""
        spec, lanes = self.spec, self.lanes
        return Product(
            self.cpu, spec.depth, lanes, (lanes,) * KEY_VECTORS, True,
            lambda row, k: emit.load(self.work.buffers.q, self.query(row, k)),
            lambda k, v: emit.load(self.block.keys, [panel, k, v * lanes], lanes),
            _nothing,
        ).sums(self.row, self.height)  # fmt: skip

    def query(self, row: PrimExpr, column: Extent) -> list[Extent]:
        """The index of an element of a query."""
        return place(
            self.spec, self.head.batch, self.head.head, row, column, self.spec.depth
        )  # fmt: skip

    def score(self, product: PrimExpr, r: int, column: PrimExpr, *, last: bool) -> PrimExpr:
        """What the product of a query and a key counts."""
        spec, hidden = self.spec, emit.const(LOWEST)
        key = self.block.first + column
        mask = self.work.buffers.mask
        score = product if self.work.scaled_late else product * emit.const(spec.scale)
        if mask is not None:
            seen = tirx.min(key, emit.integer(spec.keys) - 1) if last else key
            value = tirx.BufferLoad(mask, self.mask_index(self.row + r, seen))
            if str(value.ty) == "bool":
                score = tirx.Select(value, score, hidden)
            else:
                score = emit.fma(product, emit.const(spec.scale), value)
        if spec.causal:
            score = tirx.Select(key <= self.row + r, score, hidden)
        if last:
            score = tirx.Select(column < emit.integer(self.block.count), score, hidden)
        return score

    def mask_index(self, row: PrimExpr, key: PrimExpr) -> list[PrimExpr]:
        """The index of an element of the mask."""
        assert self.spec.mask is not None
        index = [self.head.batch, self.head.head, row, key]
        return [
            emit.integer(0) if isinstance(extent, int) and extent == 1 else at
            for extent, at in zip(self.spec.mask, index, strict=True)
        ]

    def weigh(self) -> list[tuple[PrimExpr, PrimExpr | None]]:
        """Makes weights of scores; for each row, what its new sums and its old ones count."""
        zero, lowest, known = emit.const(0.0), emit.const(LOWEST), self.work.tops
        bases: list[PrimExpr] = []
        olds: list[PrimExpr] = []
        for r, register in enumerate(self.tops):
            top = emit.reduce_lanes(register.get(), self.lanes, tirx.max)
            if known is not None:
                where = [self.head.first + self.row + r]
                old = emit.let(emit.load(known, where))
                top = emit.let(tirx.max(top, old))
                emit.store(known, top, where)
                olds.append(old)
            lifted = tirx.Select(top == lowest, zero, top * emit.const(self.work.unit))
            bases.append(emit.let(lifted))
        totals = self.powers(bases)
        factors: list[tuple[PrimExpr, PrimExpr | None]] = []
        for r, total in enumerate(totals):
            if self.work.sums is None:
                factors.append((emit.let(self.work.inverse(total)), None))
                continue
            where = [self.head.first + self.row + r]
            shrunk = emit.let(self.work.power(olds[r], bases[r]))
            emit.store(self.work.sums, emit.load(self.work.sums, where) * shrunk + total, where)
            factors.append((emit.const(1.0), shrunk))
        return factors

    def powers(self, bases: Sequence[PrimExpr]) -> list[PrimExpr]:
        """Powers of scores in place of them, and the sum of each row."""
        lanes, scores = self.lanes, self.work.scores
        sums = [Register(lanes) for _ in bases]
        for register in sums:
            register.set(emit.broadcast(emit.const(0.0), lanes))
        panels = emit.ceildiv(self.count, self.work.panel)
        with emit.serial(emit.product((panels, KEY_VECTORS))) as vector:
            for r, base in enumerate(bases):
                power = Register(lanes)
                with emit.vectorized(lanes) as lane:
                    where = [emit.integer(r), vector * lanes + lane]
                    value = self.work.power(tirx.BufferLoad(scores, where), base)
                    T.buffer_store(power.buffer, value, [lane])
                self.keep(power.get(), r, vector * lanes)
                sums[r].set(sums[r].get() + power.get())
        return [emit.reduce_lanes(s.get(), lanes, lambda a, b: a + b) for s in sums]

    def keep(self, powers: PrimExpr, r: int, column: PrimExpr) -> None:
        """Keeps the weights of a vector of keys."""
        emit.store(self.work.scores, powers, [r, column], self.lanes)

    def weighted(self, panel: PrimExpr, widths: tuple[int, ...], copy: Buffer) -> Sums:
        """The weighted sums of a panel of values."""
        return Product(
            self.cpu, self.count, self.lanes, widths, True,
            lambda row, k: emit.load(self.work.scores, [row, k]),
            lambda k, v: emit.load(copy, [panel, k, v * self.lanes], self.lanes),
            _nothing,
        ).sums(emit.integer(0), self.height)  # fmt: skip

    def add_values(
        self,
        panels: ValuePanels,
        copy: Buffer,
        factors: Sequence[tuple[PrimExpr, PrimExpr | None]],
    ) -> None:
        """The weighted sums of the values of some panels."""
        lanes, out = self.lanes, self.work.buffers.out
        with emit.serial(panels.count) as panel:
            start = panels.first + panel * (KEY_VECTORS * lanes)
            sums = self.weighted(panel, panels.widths, copy)
            for r, (row, (new, old)) in enumerate(zip(sums, factors, strict=True)):
                for v, (register, width) in enumerate(zip(row, panels.widths, strict=True)):
                    with emit.vectorized(width) as lane:
                        column = start + v * lanes + lane
                        where = self.work.result(self.head, self.row + r, column)
                        value = register.lane(lane)
                        before = None if old is None else emit.load(out, where) * old
                        emit.store(out, value * new if before is None else before + value, where)


def _nothing(value: PrimExpr, row: PrimExpr, column: PrimExpr) -> None:
    """Sums are taken from their registers."""
