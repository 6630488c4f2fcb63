"""Tree classifiers and regressors, whose trees and leaves are told by tree and number."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import numpy as np

from leptonc.ir.blob import Array, Blob
from leptonc.ir.diagnostics import LeptonError, shown
from leptonc.ir.graph import Value
from leptonc.ir.types import DType
from leptonc.onnx_ml_forest import LEAF, MODES, Forest, one_comparison
from leptonc.onnx_ml_layout import walk
from leptonc.onnx_ml_scores import (
    Labels,
    Results,
    Rule,
    above,
    argmax_classified,
    as_f32,
    axis,
    beside,
    labels_of,
    of_both,
    transformed,
)
from leptonc.onnx_scope import Call

_AGGREGATES = {"SUM": "sum", "AVERAGE": "average", "MIN": "min", "MAX": "max"}


def wrong(call: Call, what: str) -> LeptonError:
    """The error for attributes that make no sense."""
    return LeptonError(f"{call.op_type}: {what}", call.location, code="E015")


def operand_of(call: Call) -> Value:
    """The operand in a type that trees are walked with."""
    x = call.required(0)
    if x.type.rank != 2 or not isinstance(x.type.shape[1], int):
        raise LeptonError(
            f"{call.op_type} of {x.type}, should be of rank 2 with a known number of features",
            call.location,
            notes=["give the extent a size (--dim), or declare it in the model"],
            code="E103",
        )
    if x.type.dtype in (DType.F32, DType.F64):
        return x
    return call.build.op("cast", [x], {"to": DType.F32}).result


def integers_of(call: Call, name: str, count: int | None = None) -> Array:
    """A list of integers, of the length it should have."""
    values = np.array(call.take(name, "ints", ()), np.int64)
    if count is not None and len(values) != count:
        raise wrong(call, f"{name} has {len(values)} entries, should have {count}")
    return values


def _numbers(call: Call, name: str) -> Array | None:
    """A list of numbers, given as such or as a tensor; None where there is none."""
    floats = call.take(name, "floats", ())
    tensor = call.take(f"{name}_as_tensor", "blob")
    if isinstance(tensor, Blob) and tensor.size:
        if floats:
            raise wrong(call, f"{name} is given twice, as a tensor and as floats")
        return tensor.array.reshape(-1).astype(np.float64)
    return np.array(floats, np.float32).astype(np.float64) if floats else None


def _numbered(names: Array) -> tuple[Array, Array]:
    """Each name once, and the number of each."""
    return np.unique(names, return_inverse=True)


def _rank(ascending: Array, wanted: Array) -> Array:
    """Where each number stands if it is there, else anywhere."""
    found: Any = np.searchsorted(ascending, wanted)
    return found.clip(max=len(ascending) - 1)


def _places(call: Call, trees: Array, nodes: Array, wanted_trees: Array, wanted: Array) -> Array:
    """Where the nodes called by tree and number stand; raises E015 where one is not there."""
    names, tree = _numbered(trees)
    known = _rank(names, wanted_trees)
    low, span = nodes.min(), int(nodes.max() - nodes.min()) + 1
    keys = tree * span + (nodes - low)
    asked = known * span + (wanted - low)
    order = np.argsort(keys, kind="stable")
    at = order[_rank(keys[order], asked)]
    lost = (names[known] != wanted_trees) | (nodes[at] != wanted) | (trees[at] != wanted_trees)
    if lost.any():
        which = int(np.nonzero(lost)[0][0])
        raise wrong(call, f"tree {wanted_trees[which]} has no node {wanted[which]}")
    if (keys[order][1:] == keys[order][:-1]).any():
        raise wrong(call, "a tree has two nodes of the same number")
    return at


def _old_forest(call: Call, kind: str, targets: int) -> Forest:
    """The trees of a classifier or regressor; `kind` is what its leaves' attributes are called."""
    trees = integers_of(call, "nodes_treeids")
    count = len(trees)
    if not count:
        raise wrong(call, "there are no nodes")
    numbers = integers_of(call, "nodes_nodeids", count)
    modes = np.array(call.take("nodes_modes", "strs", ()))
    unknown = sorted({str(mode) for mode in modes} - {*MODES, LEAF})
    if unknown or len(modes) != count:
        what = f"the modes {', '.join(map(shown, unknown))}" if unknown else f"{len(modes)} modes"
        raise wrong(call, f"{count} nodes have {what}")
    is_leaf = modes == LEAF
    children = [integers_of(call, f"nodes_{which}nodeids", count) for which in ("true", "false")]
    true, false = (np.zeros(count, np.int64) for _ in children)
    inner = np.nonzero(~is_leaf)[0]
    for target, given in ((true, children[0]), (false, children[1])):
        if inner.size:
            target[inner] = _places(call, trees, numbers, trees[inner], given[inner])
    values = _numbers(call, "nodes_values")
    thresholds = np.zeros(count) if values is None else values
    if len(thresholds) != count:
        raise wrong(call, f"nodes_values has {len(thresholds)} entries, should have {count}")
    tracks = integers_of(call, "nodes_missing_value_tracks_true")
    if len(tracks) not in (0, count):
        raise wrong(call, f"{count} nodes have {len(tracks)} ways for missing values")
    tracks = tracks.astype(bool) if len(tracks) else np.zeros(count, bool)
    for name in ("nodes_hitrates", "nodes_hitrates_as_tensor"):
        call.attributes.pop(name, None)
    leaf_trees = integers_of(call, f"{kind}_treeids")
    leaves = integers_of(call, f"{kind}_nodeids", len(leaf_trees))
    columns = integers_of(call, f"{kind}_ids", len(leaf_trees))
    weights = _numbers(call, f"{kind}_weights")
    weights = np.zeros(0) if weights is None else weights
    if len(weights) != len(columns):
        raise wrong(call, f"{len(columns)} leaves have {len(weights)} weights")
    at = _places(call, trees, numbers, leaf_trees, leaves) if len(leaves) else leaves
    forest = Forest(
        integers_of(call, "nodes_featureids", count), thresholds, false, true, tracks, is_leaf,
        np.unique(trees, return_index=True)[1], at, columns, weights, targets=targets,
    )  # fmt: skip
    code = np.array([MODES.get(str(mode), 0) for mode in modes], np.int64)
    return checked(call, one_comparison(forest, code, tracks[:count], {}))


def checked(call: Call, forest: Forest) -> Forest:
    """The forest, once what it reads and writes is there."""
    (_, extent), columns = call.required(0).type.shape, forest.weight_target
    assert isinstance(extent, int)
    features = forest.feature[~forest.is_leaf]
    if features.size and not 0 <= features.min() <= features.max() < extent:
        which = features.min() if features.min() < 0 else features.max()
        raise wrong(call, f"a node asks for feature {which} of {extent}")
    if columns.size and not 0 <= columns.min() <= columns.max() < forest.targets:
        which = columns.min() if columns.min() < 0 else columns.max()
        raise wrong(call, f"a leaf adds to column {which} of {forest.targets}")
    keep = forest.is_leaf[forest.weight_leaf]
    for name in ("weight_leaf", "weight_target", "weight"):
        setattr(forest, name, getattr(forest, name)[keep])
    return forest


def aggregated(call: Call, x: Value, forest: Forest, aggregate: str, base: Array | None) -> Value:
    """What the leaves give together, with the base values."""
    build, dtype = call.build, x.type.dtype.numpy
    if aggregate == "average":
        forest.weight = forest.weight / len(forest.roots)
    forest.aggregate = "sum" if aggregate == "average" else aggregate
    if base is not None and len(base) not in (1, forest.targets):
        raise wrong(call, f"{len(base)} base values for {forest.targets} columns")
    shift = np.broadcast_to(np.zeros(1) if base is None else base, (forest.targets,))
    if forest.aggregate == "sum":
        forest.base = shift
        return walk(build, x, forest)
    if not np.isfinite(forest.weight).all():
        raise wrong(call, f"a leaf is not finite, which {aggregate} cannot tell from none")
    forest.base = np.full(forest.targets, np.inf if aggregate == "min" else -np.inf)
    found = walk(build, x, forest)
    found = build.where(build.is_inf(found), build.const(np.zeros((), dtype)), found)
    return build.add(found, build.const(shift.astype(dtype))) if shift.any() else found


def _regressor(call: Call) -> Results:
    x, targets = operand_of(call), call.take("n_targets", "int", 1)
    if targets < 1:
        raise wrong(call, f"n_targets is {targets}, should be at least 1")
    named = call.take("aggregate_function", "str", "SUM")
    if named not in _AGGREGATES:
        raise wrong(call, f"aggregate_function is {shown(named)}, should be in {_AGGREGATES}")
    base, transform = _numbers(call, "base_values"), call.take("post_transform", "str", "NONE")
    forest = _old_forest(call, "target", targets)
    scores = aggregated(call, x, forest, _AGGREGATES[named], base)
    return [as_f32(call.build, transformed(call, scores, transform))]


def _classifier(call: Call) -> Results:
    x, labels = operand_of(call), labels_of(call, "classlabels_int64s")
    base, transform = _numbers(call, "base_values"), call.take("post_transform", "str", "NONE")
    forest = _old_forest(call, "class", max(labels.count, 1))
    columns = np.unique(forest.weight_target)
    threshold = 0.5 if labels.count == 2 and (forest.weight >= 0).all() else 0
    if labels.count < 2 or (labels.count == 2 and not columns.any()):
        forest.targets = 1
        scores = aggregated(call, x, forest, "sum", None if base is None else base[:1])
        label = above(call.build, scores, threshold, labels)
        return [label, as_f32(call.build, _both(call, scores, labels, transform, threshold))]
    scores = aggregated(call, x, forest, "sum", base)
    if labels.count > 2 or len(columns) == 2:
        return argmax_classified(call, scores, labels, transform)
    second = call.build.gather(scores, axis(call.build, 1), axis=1)
    label = above(call.build, second, threshold, labels)
    return [label, as_f32(call.build, transformed(call, scores, transform))]


def _both(call: Call, score: Value, labels: Labels, transform: str, threshold: float) -> Value:
    """The scores of both classes where trees give that of the second only.

    What is no logistic score is a probability where no weight is negative, and goes to both
    classes with opposite signs elsewhere: so it is understood by those who write such models.
    """
    if labels.count < 2:
        return transformed(call, score, transform) if transform == "PROBIT" else score
    if transform in ("LOGISTIC", "PROBIT") or threshold:
        return of_both(call, score, transform)
    return beside(call.build, call.build.neg(score), score)


TREES: Mapping[str, Rule] = MappingProxyType({
    "TreeEnsembleClassifier": _classifier,
    "TreeEnsembleRegressor": _regressor,
})  # fmt: skip
"""Operators by name, and what takes them apart."""
