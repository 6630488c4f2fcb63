# pyright: standard
"""Walks through decision trees without branches: eight at a time hide each other's latency.

Where there are eight rows, they walk through one tree together, which stays in the cache; what is
left of the rows, or a row alone, walks through eight trees. Measured against gathers over eight
lanes: equal for many rows, slower for one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from leptonc.backends.cpu import emit
from leptonc.backends.cpu.emit import T
from leptonc.backends.tvm.binding import Buffer, PrimFunc, tirx
from leptonc.backends.tvm.lower.opaque import Kernel, kernel
from leptonc.backends.tvm.lowering import KernelRule, LowerCall, Reason, Rule
from leptonc.ir.ops.ml_trees import WALKED

TREE_BYTES = 16 << 10
"""Trees that many rows walk through one after another: half of the smallest first cache."""
ROW_BYTES = 32 << 10
"""Rows that walk through all trees before the next ones do."""
MOST_ROWS = 256
PARALLEL_ROWS = 64
"""With fewer rows, waking the threads costs more than they save."""
STEPS = 4
"""Steps between two looks at whether any walk still moves."""

COMBINE: dict[str, Callable[[Any, Any], Any]] = {
    "sum": lambda a, b: a + b, "min": tirx.min, "max": tirx.max,
}  # fmt: skip
NEUTRAL = {"sum": 0.0, "min": float("inf"), "max": float("-inf")}


@dataclass(frozen=True)
class Layout:
    """How nodes are laid out: what a walk through a tree is made of."""

    trees: int
    depth: Callable[[Any], Any]
    """How many steps a walk through a tree and its seven neighbours takes."""
    root: Callable[[Any], Any]
    """Where a walk through a tree begins."""
    step: Callable[[Any, Any, Any], Any]
    """Where a walk through a tree goes with a row from a place."""
    leaf: Callable[[Any, Any], list[Any]]
    """Where the values of the leaf at a place of a tree stand."""
    is_uneven: bool
    """Whether walks through a tree take different numbers of steps."""


class Forest:
    """The trees of one operation, and walks through them."""

    def __init__(self, job: Kernel, lay_out: Callable[[Forest], Layout]) -> None:
        call = job.call
        self.job, self.call, names = job, call, call.op.operand_names
        self.slot = {name: names.index(name) for name in names}
        self.dtype = call.dtype()
        self.x, self.y = self.buffer("x"), job.outputs[0]
        columns = call.op.results[0].type.shape[1]
        assert isinstance(columns, int)
        self.columns = columns
        self.has_targets = "targets" in self.slot
        self.combine = COMBINE[call.known.str("aggregate")]
        self.neutral = tirx.const(NEUTRAL[call.known.str("aggregate")], self.dtype)
        self.layout = lay_out(self)

    def buffer(self, name: str) -> Buffer:
        """The buffer of an operand."""
        return self.job.inputs[self.call.op.operands[self.slot[name]]]

    def extents(self, name: str) -> tuple[int, ...]:
        """The extents of a constant operand."""
        return self.call.op.operands[self.slot[name]].type.extents

    def goes_on(self, row: Any, feature: Any, threshold_bits: Any) -> Any:
        """1 where the element of a row is at most the threshold, else 0."""
        threshold = tirx.reinterpret(self.dtype, threshold_bits)
        element = emit.load(self.x, [row, feature.astype("int64")])
        return (element <= threshold).astype("int64")

    def walk(self, trees: Sequence[Any], rows: Sequence[Any]) -> list[list[Any]]:
        """Walk from the roots of `trees` with `rows` at once; where their leaves' values stand."""
        walks = list(zip(trees, rows, strict=True))
        places = [emit.Register(1, "int64") for _ in walks]
        for place, (tree, _) in zip(places, walks, strict=True):
            place.set(self.layout.root(tree))
        self._steps(self.layout.depth(trees[0]), walks, places)
        return [
            self.layout.leaf(tree, place.get())
            for place, (tree, _) in zip(places, walks, strict=True)
        ]

    def _steps(
        self, depth: Any, walks: Sequence[tuple[Any, Any]], places: Sequence[emit.Register]
    ) -> None:
        """All steps at once, or until no walk moves any more where trees are not of one depth."""

        def once() -> Any:
            moved: Any = emit.integer(0)
            for place, (tree, row) in zip(places, walks, strict=True):
                before = emit.let(place.get())
                after = emit.let(self.layout.step(tree, row, before))
                moved = moved | (before ^ after)
                place.set(after)
            return moved

        if not self.layout.is_uneven:
            with emit.serial(depth):
                once()
            return
        moving = emit.Register(1, "int64")
        moving.set(emit.integer(1))
        with (
            emit.serial(emit.ceildiv(depth, STEPS)),
            T.If(moving.get() != emit.integer(0)),
            T.Then(),
        ):
            for _ in range(STEPS - 1):
                once()
            moving.set(once())

    def add(self, row: Any, tree: Any, index: list[Any]) -> None:
        """Combine the values of one leaf into the result."""
        values = self.buffer("values")
        if self.has_targets:
            column = self.job.read(self.slot["targets"], [tree]).astype("int64")
            at = [row, emit.let(column)]
            emit.store(self.y, self.combine(emit.load(self.y, at), emit.load(values, index)), at)
            return
        lanes, start = self.job.cpu.lanes, 0
        while start < self.columns:
            width = lanes if self.columns - start >= lanes else 1
            column = emit.integer(start)
            old = emit.load(self.y, [row, column], width)
            new = emit.load(values, [*index, column], width)
            emit.store(self.y, self.combine(old, new), [row, column], width)
            start += width


def _perfect(forest: Forest) -> Layout:
    """Trees of one depth: the children of place i are 2i and 2i + 1, the root is 1."""
    nodes = forest.buffer("nodes")
    trees, size, _ = forest.extents("nodes")

    def step(tree: Any, row: Any, at: Any) -> Any:
        bits, feature = (emit.load(nodes, [tree, at, word]) for word in range(2))
        return at * emit.integer(2) + forest.goes_on(row, feature, bits)

    return Layout(
        trees,
        depth=lambda tree: size.bit_length() - 1,
        root=lambda tree: emit.integer(1),
        step=step,
        leaf=lambda tree, at: [tree, emit.let(at - emit.integer(size))],
        is_uneven=False,
    )


def _linked(forest: Forest) -> Layout:
    """Trees of any shape: a node says where its children are, by the first of their words."""
    count, words = forest.extents("nodes")
    nodes = emit.view(forest.buffer("nodes"), (count * words,))

    def depth(tree: Any) -> Any:
        group = tirx.floordiv(tree, emit.integer(WALKED))
        return emit.let(forest.job.read(forest.slot["depths"], [group]).astype("int64"))

    def word(at: Any, which: int) -> Any:
        return emit.load(nodes, [at + emit.integer(which)])

    def step(tree: Any, row: Any, at: Any) -> Any:
        further = forest.goes_on(row, word(at, 1), word(at, 0)) * emit.integer(words)
        return word(at, 2).astype("int64") + further

    return Layout(
        forest.extents("depths")[0] * WALKED,
        depth=depth,
        root=lambda tree: tree * emit.integer(words),
        step=step,
        leaf=lambda tree, at: [emit.let(word(at, 3).astype("int64"))],
        is_uneven=True,
    )


def _eight_rows(forest: Forest, row: Any, first: Any, count: Any) -> None:
    """Rows from `row` on through `count` trees from `first` on."""
    rows = [emit.let(row + emit.integer(k)) for k in range(WALKED)]
    alone = forest.columns == 1
    sums = [emit.Register(1, forest.dtype) for _ in rows] if alone else []
    for total, at in zip(sums, rows, strict=False):
        total.set(emit.load(forest.y, [at, 0]))
    with emit.serial(count) as offset:
        tree = emit.let(first + offset)
        found = forest.walk([tree] * WALKED, rows)
        for k, index in enumerate(found):
            if alone:
                value = emit.load(forest.buffer("values"), index)
                sums[k].set(forest.combine(sums[k].get(), value))
            else:
                forest.add(rows[k], tree, index)
    for total, at in zip(sums, rows, strict=False):
        emit.store(forest.y, total.get(), [at, 0])


def _one_row(forest: Forest, row: Any) -> None:
    """One row through all trees, eight at a time."""
    alone = forest.columns == 1
    sums = [emit.Register(1, forest.dtype) for _ in range(WALKED)] if alone else []
    for total in sums:
        total.set(forest.neutral)
    with emit.serial(forest.layout.trees // WALKED) as group:
        start = emit.let(group * emit.integer(WALKED))
        trees = [emit.let(start + emit.integer(k)) for k in range(WALKED)]
        found = forest.walk(trees, [row] * WALKED)
        for k, index in enumerate(found):
            if alone:
                value = emit.load(forest.buffer("values"), index)
                sums[k].set(forest.combine(sums[k].get(), value))
            else:
                forest.add(row, trees[k], index)
    if alone:
        values = [total.get() for total in sums]
        while len(values) > 1:
            values = [forest.combine(a, b) for a, b in zip(values[::2], values[1::2], strict=True)]
        emit.store(forest.y, forest.combine(emit.load(forest.y, [row, 0]), values[0]), [row, 0])


def _begin(forest: Forest, start: Any, count: Any) -> None:
    """Rows of the result as they are before the first tree."""
    with emit.serial(count) as row, emit.serial(forest.columns) as column:
        base = forest.job.read(forest.slot["base"], [column])
        emit.store(forest.y, base, [start + row, column])


def _block(forest: Forest, start: Any, count: Any, part: int) -> None:
    """Some rows through all trees: eight rows through `part` trees at a time, then the rest."""
    _begin(forest, start, count)
    eights = emit.let(tirx.floordiv(count, emit.integer(WALKED)))
    with (
        emit.serial(emit.ceildiv(forest.layout.trees, part)) as which,
        emit.serial(eights) as eight,
    ):
        first = emit.let(which * emit.integer(part))
        trees = emit.let(tirx.min(emit.integer(part), emit.integer(forest.layout.trees) - first))
        _eight_rows(forest, emit.let(start + eight * emit.integer(WALKED)), first, trees)
    done = emit.let(eights * emit.integer(WALKED))
    with emit.serial(count - done) as rest:
        _one_row(forest, emit.let(start + done + rest))


def _part(forest: Forest) -> int:
    """How many trees fill the cache, a multiple of eight."""
    operands = forest.call.op.operands
    total = sum(
        operands[forest.slot[name]].type.dtype.bits // 8 * _size(forest.extents(name))
        for name in ("nodes", "values")
    )
    return max(1, TREE_BYTES * forest.layout.trees // (total * WALKED)) * WALKED


def _size(extents: Sequence[int]) -> int:
    size = 1
    for extent in extents:
        size *= extent
    return size


def _walked(call: LowerCall, cpu: Any, lay_out: Callable[[Forest], Layout]) -> PrimFunc:
    def body(job: Kernel) -> None:
        forest = Forest(job, lay_out)
        extent, features = job.shape(0)
        assert isinstance(features, int)
        row_bytes = features * call.op.operands[0].type.dtype.bits // 8
        block = max(1, min(MOST_ROWS, ROW_BYTES // row_bytes) // WALKED) * WALKED
        parallel = cpu.threads > 1 and not (isinstance(extent, int) and extent < PARALLEL_ROWS)
        rows, part = call.dim(extent), _part(forest)
        with emit.outer_loop(emit.ceildiv(rows, block), parallel=parallel) as which:
            start = emit.let(which * emit.integer(block))
            count = emit.let(tirx.min(emit.integer(block), rows - start))
            _block(forest, start, count, part)

    return kernel(call, cpu, body)


RULES: dict[str, Rule] = {}
KERNELS: dict[str, KernelRule] = {
    "perfect_trees": lambda call, cpu: _walked(call, cpu, _perfect),
    "linked_trees": lambda call, cpu: _walked(call, cpu, _linked),
}
REASONS: dict[str, Reason] = {}
