"""Trees as arrays that kernels walk through: of one depth where that costs little, else linked."""

from __future__ import annotations

from typing import Any

import numpy as np

from leptonc.ir.blob import Array
from leptonc.ir.build import Builder
from leptonc.ir.graph import Value
from leptonc.ir.ops.ml_trees import LINKED, NODE_WORDS, PERFECT, WALKED
from leptonc.onnx_ml_forest import Forest, heights, levels, narrowed

DEEPEST_PERFECT = 12
PERFECT_BYTES = 256 << 10
"""Trees of one depth may take so much, or twice what linked ones would."""


def walk(build: Builder, x: Value, forest: Forest) -> Value:
    """What the trees give for each row of `x`; thresholds are as wide as its elements."""
    dtype = x.type.dtype.numpy
    narrowed(forest, dtype)
    forest.weight, forest.base = forest.weight.astype(dtype), forest.base.astype(dtype)
    x = _with_nan_low(build, x, forest)
    found = levels(forest)
    height = heights(forest, found)
    order = np.argsort(height[forest.roots], kind="stable")
    targets = _target_of_trees(forest, found)
    if targets is not None and forest.targets > 1:
        order = order[np.argsort(targets[order], kind="stable")]
    pad = -len(order) % WALKED
    roots = forest.roots[np.concatenate([order, np.zeros(pad, np.int64)]).astype(np.int64)]
    depths = height[roots]
    depths[len(order) :] = 0
    values = _Values(forest, targets)
    arguments: dict[str, Array] = {}
    row = PERFECT if _is_perfect_cheap(forest, depths, values.columns) else LINKED
    real = len(order)
    if row is PERFECT:
        nodes, arguments["values"] = _perfect(forest, roots, real, int(depths.max()), values)
    else:
        nodes, arguments["values"] = _linked(forest, roots, real, found, values)
    arguments["base"] = forest.base
    if row is LINKED:
        arguments["depths"] = depths.reshape(-1, WALKED).max(1).astype(np.int32)
    if targets is not None and forest.targets > 1:
        padded = np.concatenate([targets[order], np.zeros(pad, np.int64)])
        arguments["targets"] = padded.astype(np.int32)
    operands = [x, build.const(nodes), *(build.const(array) for array in arguments.values())]
    looked_at = int(forest.feature.max(initial=0)) + 1
    attrs = {"aggregate": forest.aggregate, "features": looked_at}
    return build.op(row, operands, attrs, names=["x", "nodes", *arguments]).result


def _with_nan_low(build: Builder, x: Value, forest: Forest) -> Value:
    """The operand, beside it a copy for nodes that send NaN to their second child."""
    inner = ~forest.is_leaf
    forest.feature[forest.is_leaf] = 0
    if not forest.nan_second[inner].any():
        return x
    low = build.const(np.array(-np.inf, x.type.dtype.numpy))
    copy = build.where(build.is_nan(x), low, x)
    if forest.nan_second[inner].all():
        return copy
    extent = x.type.shape[1]
    assert isinstance(extent, int)
    forest.feature[forest.nan_second & inner] += extent
    return build.op("concat", [x, copy], {"axis": 1}).result


def _target_of_trees(forest: Forest, found: list[Array]) -> Array | None:
    """The one column that each tree adds to, None where a leaf has several or a tree does."""
    if len(np.unique(forest.weight_leaf)) != len(forest.weight_leaf):
        return None
    low = np.full(len(forest.feature), forest.targets, np.int64)
    high = np.full(len(forest.feature), -1, np.int64)
    low[forest.weight_leaf] = high[forest.weight_leaf] = forest.weight_target
    for at in reversed(found):
        inner = at[~forest.is_leaf[at]]
        for bound, pick in ((low, np.minimum), (high, np.maximum)):
            bound[inner] = pick(bound[forest.first[inner]], bound[forest.second[inner]])
    low, high = low[forest.roots], high[forest.roots]
    return None if (low < high).any() else np.minimum(low, forest.targets - 1)


class _Values:
    """What each leaf gives: one number where its tree has one column, else one for each."""

    def __init__(self, forest: Forest, targets: Array | None) -> None:
        self.columns = 1 if targets is not None or forest.targets == 1 else forest.targets
        neutral = {"sum": 0, "min": np.inf, "max": -np.inf}[forest.aggregate]
        self.neutral, self.dtype = neutral, forest.weight.dtype
        self.row = np.zeros(len(forest.feature), np.int64)
        leaves = np.nonzero(forest.is_leaf)[0]
        self.row[leaves] = np.arange(1, len(leaves) + 1)
        self.table = np.full((len(leaves) + 1, self.columns), neutral, self.dtype)
        column = forest.weight_target if self.columns > 1 else np.zeros_like(forest.weight_target)
        combine: Any = {"sum": np.add, "min": np.minimum, "max": np.maximum}[forest.aggregate]
        combine.at(self.table, (self.row[forest.weight_leaf], column), forest.weight)

    def shaped(self, table: Array) -> Array:
        """Values without an axis for their one column."""
        return np.ascontiguousarray(table[..., 0] if self.columns == 1 else table)


def _is_perfect_cheap(forest: Forest, depths: Array, columns: int) -> bool:
    depth = int(depths.max())
    if depth > DEEPEST_PERFECT:
        return False
    item = forest.weight.dtype.itemsize
    perfect = len(depths) * 2**depth * (2 + columns) * item
    leaves = int(forest.is_leaf.sum())
    linked = (2 * len(forest.feature) * NODE_WORDS + leaves * columns) * item
    return perfect <= max(PERFECT_BYTES, 2 * linked)


def _words(forest: Forest, places: Array, count: int) -> Array:
    """Thresholds, as their bits, and features; the threshold of a leaf is NaN: nothing is below."""
    word = np.dtype(f"i{forest.threshold.dtype.itemsize}")
    words = np.zeros((*places.shape, count), word)
    threshold = np.where(forest.is_leaf, np.nan, forest.threshold).astype(forest.threshold.dtype)
    words[..., 0] = threshold.view(word)[places]
    words[..., 1] = forest.feature[places]
    return words


def _perfect(
    forest: Forest, roots: Array, real: int, depth: int, values: _Values
) -> tuple[Array, Array]:
    """Nodes level by level; below a leaf it stands again, and the walk goes to its first copy."""
    at = roots.reshape(-1, 1)
    layers = [at[:, :1]]  # place 0 is not used
    for _ in range(depth):
        layers.append(at)
        first = np.where(forest.is_leaf[at], at, forest.first[at])
        second = np.where(forest.is_leaf[at], at, forest.second[at])
        at = np.stack([first, second], axis=2).reshape(len(roots), -1)
    nodes = _words(forest, np.concatenate(layers, axis=1), 2)
    rows = values.row[at]
    rows[real:] = 0
    return nodes, values.shaped(values.table[rows])


def _linked(
    forest: Forest, roots: Array, real: int, found: list[Array], values: _Values
) -> tuple[Array, Array]:
    """Roots, then the pairs of children; a node that stands in two places has one pair."""
    inner = _tree_by_tree(forest, roots[:real], found)
    pair = np.zeros(len(forest.feature), np.int64)
    pair[inner] = len(roots) + 2 * np.arange(len(inner))
    children = np.stack([forest.first[inner], forest.second[inner]], axis=1).reshape(-1)
    places = np.concatenate([roots, children]).astype(np.int64)
    nodes = _words(forest, places, NODE_WORDS)
    own = np.arange(len(places))
    nodes[:, 2] = NODE_WORDS * np.where(forest.is_leaf[places], own, pair[places])
    nodes[:, 3] = values.row[places]
    padding = np.arange(real, len(roots))
    nodes[padding] = 0
    nodes[padding, 0] = np.array(np.nan, forest.threshold.dtype).view(nodes.dtype)
    nodes[padding, 2] = NODE_WORDS * padding
    return nodes, values.shaped(values.table)


def _tree_by_tree(forest: Forest, roots: Array, found: list[Array]) -> Array:
    """The inner places, those of one tree beside each other and those near its root first."""
    tree = np.full(len(forest.feature), len(roots), np.int64)
    level = np.zeros(len(forest.feature), np.int64)
    tree[roots[::-1]] = np.arange(len(roots))[::-1]
    for depth, at in enumerate(found):
        inner = at[~forest.is_leaf[at]]
        level[inner] = depth
        for children in (forest.first[inner], forest.second[inner]):
            np.minimum.at(tree, children, tree[inner])
    reached = np.unique(np.concatenate(found))
    reached = reached[~forest.is_leaf[reached]]
    return reached[np.lexsort((level[reached], tree[reached]))]
