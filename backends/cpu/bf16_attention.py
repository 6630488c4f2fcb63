# pyright: standard
"""Attention of bf16: products of pairs, with scores, their powers and all sums in fp32.

Queries are rounded where a tile begins, keys and values where they are packed, weights where they
are kept; the weights of a row are divided by the sum that they had before.
"""

from __future__ import annotations

from leptonc.backends.cpu import emit
from leptonc.backends.cpu.attention_blocks import (
    KEY_VECTORS,
    Copies,
    Load,
    ValuePanels,
)
from leptonc.backends.cpu.attention_tile import AttentionSpec, Rounded, Tile
from leptonc.backends.cpu.emit import Extent, Register
from leptonc.backends.cpu.instructions import as_bf16, pairs_of_bf16
from leptonc.backends.cpu.product import Product, Sums
from leptonc.backends.cpu.target import CpuTarget
from leptonc.backends.cpu.transpose import transposed
from leptonc.backends.tvm.binding import Buffer, PrimExpr, tirx


def rounded_work(spec: AttentionSpec, rows: int, keys: int) -> Rounded:
    """Memory for the bf16 of a tile."""
    queries = emit.workspace((rows, spec.depth), "uint16")
    return Rounded(queries, emit.workspace((rows, keys), "uint16"))


class Bf16Copies(Copies):
    """How keys and values are packed: in words of two neighbours of what is summed over."""

    item = 2

    def keys(self, size: int, depth: int, panel: int) -> Buffer:
        """Memory for so many keys: [panel, pair of the depth, key]."""
        return emit.workspace((size // panel, depth // 2, panel), "int32")

    def values(self, size: int, panels: ValuePanels, lanes: int) -> Buffer:
        """Memory for so many values: [panel, pair of keys, column]."""
        return emit.workspace((panels.count, size // 2, len(panels.widths) * lanes), "int32")

    def pack_keys(self, copy: Buffer, count: Extent, cpu: CpuTarget, load: Load) -> None:
        """Copies keys, as `attention_blocks.pack_keys` does, by words instead of elements."""
        _, pairs, panel = (int(extent) for extent in copy.shape)
        lanes = cpu.lanes

        def words(key: PrimExpr, pair: PrimExpr, some: int) -> PrimExpr:
            bits = as_bf16(cpu, load(key, pair * 2, 2 * some))
            return tirx.reinterpret(f"int32x{some}" if some > 1 else "int32", bits)

        with emit.serial(emit.ceildiv(count, panel)) as step:
            if pairs < lanes:
                with emit.serial(pairs) as k, emit.serial(panel) as key:
                    emit.store(copy, words(step * panel + key, k, 1), [step, k, key])
                return
            with emit.serial(-(-pairs // lanes)) as part:
                k = emit.let(tirx.min(part * lanes, emit.integer(pairs - lanes)))
                for vector in range(panel // lanes):
                    rows = [Register(lanes, "int32") for _ in range(lanes)]
                    for lane, row in enumerate(rows):
                        row.set(words(step * panel + (vector * lanes + lane), k, lanes))
                    for offset, row in enumerate(transposed(rows)):
                        emit.store(copy, row.get(), [step, k + offset, vector * lanes], lanes)

    def pack_values(
        self, copy: Buffer, count: Extent, panels: ValuePanels, cpu: CpuTarget, load: Load
    ) -> None:
        """Copies values; what fills up a vector is zero, and so is a key that fills up a pair."""
        lanes = cpu.lanes
        with emit.serial(panels.count) as panel, emit.serial(emit.ceildiv(count, 2)) as pair:
            first = panels.first + panel * (KEY_VECTORS * lanes)
            exists = pair * 2 + 1 < emit.integer(count)

            def words(column: PrimExpr, some: int) -> PrimExpr:
                halves: list[PrimExpr] = []
                for half in range(2):
                    value = load(pair * 2 + half, column, some)
                    if half:
                        zero = emit.broadcast(emit.const(0.0), some)
                        value = tirx.Select(emit.broadcast(exists, some), value, zero)
                    word = "int32" + (f"x{some}" if some > 1 else "")
                    halves.append(as_bf16(cpu, value).astype(word))
                return halves[0] | (halves[1] << emit.broadcast(tirx.const(16, "int32"), some))

            for vector, width in enumerate(panels.widths):
                if width == lanes:
                    word = words(first + vector * lanes, lanes)
                    emit.store(copy, word, [panel, pair, vector * lanes], lanes)
                    continue
                for at in range(vector * lanes, (vector + 1) * lanes):
                    real = at < vector * lanes + width
                    word = words(first + at, 1) if real else tirx.const(0, "int32")
                    emit.store(copy, word, [panel, pair, at])


class Bf16Tile(Tile):
    """A tile whose products are of pairs of bf16."""

    def emit(self) -> None:
        """Emits the tile."""
        self.round_queries()
        super().emit()

    @property
    def bf16(self) -> Rounded:
        """Where its bf16 are."""
        assert self.work.rounded is not None
        return self.work.rounded

    def round_queries(self) -> None:
        """Rounds the rows of the tile."""
        whole, rest = divmod(self.spec.depth, self.lanes)

        def some(r: int, column: Extent, count: int) -> None:
            index = self.query(self.row + r, column)
            bits = as_bf16(self.cpu, emit.load(self.work.buffers.q, index, count))
            emit.store(self.bf16.queries, bits, [r, column], count)

        for r in range(self.height):
            with emit.serial(whole) as step:
                some(r, step * self.lanes, self.lanes)
            with emit.serial(rest) as step:
                some(r, whole * self.lanes + step, 1)

    def products(self, panel: PrimExpr) -> Sums:
        """Those of the rows and a panel of keys."""
        widths = (self.lanes,) * KEY_VECTORS
        return self.pairs(self.spec.depth // 2, self.bf16.queries, self.block.keys, panel, widths)

    def keep(self, powers: PrimExpr, r: int, column: PrimExpr) -> None:
        """Keeps the weights of a vector of keys."""
        emit.store(self.bf16.weights, as_bf16(self.cpu, powers), [r, column], self.lanes)

    def weighted(self, panel: PrimExpr, widths: tuple[int, ...], copy: Buffer) -> Sums:
        """The weighted sums of a panel of values; the weight of a key that is none is zero."""
        return self.pairs(emit.ceildiv(self.count, 2), self.bf16.weights, copy, panel, widths)

    def pairs(
        self, depth: Extent, left: Buffer, right: Buffer, panel: PrimExpr, widths: tuple[int, ...]
    ) -> Sums:
        """The sums over so many pairs of the rows of the tile and a panel of a copy."""
        lanes = self.lanes

        def words(row: PrimExpr, k: Extent) -> PrimExpr:
            return tirx.reinterpret("int32", emit.load(left, [row, emit.integer(k) * 2], 2))

        def add(value: PrimExpr, column: PrimExpr, total: PrimExpr) -> PrimExpr:
            return pairs_of_bf16(self.cpu, total, value, column)

        return Product(
            self.cpu, depth, lanes, widths, True, words,
            lambda k, v: emit.load(right, [panel, k, v * lanes], lanes),
            lambda value, row, column: None, add=add,
        ).sums(emit.integer(0), self.height)  # fmt: skip
