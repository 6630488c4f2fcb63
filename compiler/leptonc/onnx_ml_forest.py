"""Decision trees as ONNX spells them, brought to one comparison: ``x <= threshold``.

Every other comparison of two numbers is that one with another threshold, or with the children
swapped; membership in a set is a binary search among the numbers of the set and those right below
them. What NaN does is kept apart: each node says to which of its children NaN goes.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from leptonc.ir.blob import Array
from leptonc.ir.diagnostics import LeptonError

LEQ, LT, GTE, GT, EQ, NEQ, MEMBER = range(7)
MODES = {
    "BRANCH_LEQ": LEQ, "BRANCH_LT": LT, "BRANCH_GTE": GTE, "BRANCH_GT": GT,
    "BRANCH_EQ": EQ, "BRANCH_NEQ": NEQ,
}  # fmt: skip
LEAF = "LEAF"


@dataclass
class Forest:
    """Nodes and leaves of all trees in one row of places; a child is a place.

    `second` is where a node's walk goes for ``x <= threshold``, `first` where it goes otherwise.
    """

    feature: Array
    threshold: Array
    first: Array
    second: Array
    nan_second: Array
    """Whether NaN goes to the second child."""
    is_leaf: Array
    roots: Array
    weight_leaf: Array
    """Where each weight belongs: place of the leaf, column of the result."""
    weight_target: Array
    weight: Array
    aggregate: str = "sum"
    targets: int = 1
    base: Array = field(default_factory=lambda: np.zeros(1))


def below(numbers: Array) -> Array:
    """The next smaller number of each."""
    return np.nextafter(numbers, numbers.dtype.type(-np.inf))


def one_comparison(
    forest: Forest, modes: Array, tracks_true: Array, sets: dict[int, Array]
) -> Forest:
    """The forest whose `second` are still the true children, made one of ``x <= threshold``.

    `sets` holds the numbers of each node whose mode is membership.
    """
    true, false = forest.second.copy(), forest.first.copy()
    threshold = forest.threshold.copy()
    inner = ~forest.is_leaf
    strict = (modes == LT) | (modes == GTE)
    swapped = (modes == GTE) | (modes == GT)
    # below minus infinity there is no number, and NaN is at least as hard to be compared with
    ordered = modes <= GT
    never = ordered & inner & (np.isnan(threshold) | (strict & np.isneginf(threshold)))
    is_not = (modes == GTE) & np.isneginf(threshold)  # never below it: always at least it
    threshold[strict] = below(threshold[strict])
    second, first = np.where(swapped, false, true), np.where(swapped, true, false)
    second, first = np.where(never, false, second), np.where(never, true, first)
    second, first = np.where(is_not, true, second), np.where(is_not, false, first)
    threshold[never | is_not] = np.inf
    nan_second: Array = inner & np.equal(second, np.where(tracks_true, true, false))
    nan_second[inner & (true == false)] = False
    forest.threshold, forest.second, forest.first = threshold, second, first
    forest.nan_second = nan_second
    for place in np.nonzero(inner & (modes > GT))[0]:
        numbers = sets.get(int(place), forest.threshold[place : place + 1])
        ends = (true[place], false[place])
        nan_in = bool(tracks_true[place])
        if modes[place] == NEQ:  # NaN is not equal to anything
            ends, nan_in = ends[::-1], False
        _search(forest, int(place), numbers, ends, nan_in=nan_in)
    return forest


def _search(
    forest: Forest, place: int, numbers: Array, ends: tuple[Any, Any], *, nan_in: bool
) -> None:
    """Make the node at `place` the root of a search for `numbers`: found, or not, are the ends."""
    inside, outside = (int(end) for end in ends)
    numbers = np.unique(numbers[~np.isnan(numbers)])
    bounds: list[Any] = []
    goals: list[int] = []
    for number in numbers:
        if not bounds or bounds[-1] != below(number):
            bounds += [below(number)] if not np.isneginf(number) else []
            goals += [outside] if not np.isneginf(number) else []
        bounds.append(number)
        goals.append(inside)
    goals.append(outside)
    if not bounds:
        bounds, goals = [forest.threshold.dtype.type(np.inf)], [outside, inside]
    fresh = [place, *range(len(forest.feature), len(forest.feature) + len(bounds) - 1)]
    _extend(forest, len(bounds) - 1, int(forest.feature[place]))
    nan_goal = max(at for at, goal in enumerate(goals) if goal == (inside if nan_in else outside))
    unused = iter(fresh)
    waiting = [(next(unused), 0, len(bounds))]
    while waiting:
        at, low, high = waiting.pop()
        middle = (low + high - 1) // 2
        forest.threshold[at] = bounds[middle]
        forest.nan_second[at] = low <= nan_goal <= middle
        for children, start, end in (
            (forest.second, low, middle),
            (forest.first, middle + 1, high),
        ):
            if start == end:
                children[at] = goals[start]
            else:
                children[at] = next(unused)
                waiting.append((int(children[at]), start, end))


def _extend(forest: Forest, count: int, feature: int) -> None:
    """Room for `count` more nodes that look at `feature`."""
    for name, value in (
        ("feature", feature), ("threshold", 0), ("first", 0), ("second", 0),
        ("nan_second", False), ("is_leaf", False),
    ):  # fmt: skip
        array: Array = getattr(forest, name)
        setattr(forest, name, np.concatenate([array, np.full(count, value, array.dtype)]))


def levels(forest: Forest) -> list[Array]:
    """The places at each distance from the roots; raises E015 where a walk would not end."""
    found: list[Array] = []
    at = np.unique(forest.roots)
    while at.size:
        found.append(at)
        inner = at[~forest.is_leaf[at]]
        if len(found) > len(forest.feature):
            raise LeptonError("the nodes of a tree are each other's children", code="E015")
        at = np.unique(np.concatenate([forest.first[inner], forest.second[inner]]))
    return found


def heights(forest: Forest, found: list[Array]) -> Array:
    """The steps from each place to the farthest leaf below it."""
    height = np.zeros(len(forest.feature), np.int64)
    for at in reversed(found):
        inner = at[~forest.is_leaf[at]]
        below_it = np.maximum(height[forest.first[inner]], height[forest.second[inner]])
        height[inner] = 1 + below_it
    return height


def narrowed(forest: Forest, dtype: Any) -> None:
    """Thresholds as elements of `dtype` that decide alike for every number of that type."""
    wide = forest.threshold
    with np.errstate(over="ignore"):
        narrow = wide.astype(dtype)
    above = narrow.astype(wide.dtype) > wide
    narrow[above] = below(narrow[above])
    forest.threshold = narrow
