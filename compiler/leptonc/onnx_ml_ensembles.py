"""Tree ensembles as of opset 5: inner nodes and leaves are numbered apart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np

from leptonc.ir.blob import Array, Blob
from leptonc.onnx_ml_forest import MEMBER, Forest, one_comparison
from leptonc.onnx_ml_scores import Results, Rule, transformed
from leptonc.onnx_ml_trees import aggregated, checked, integers_of, operand_of, wrong
from leptonc.onnx_scope import Call

_AGGREGATES_5 = ("average", "sum", "min", "max")
_TRANSFORMS_5 = ("NONE", "SOFTMAX", "LOGISTIC", "SOFTMAX_ZERO", "PROBIT")


def _ensemble(call: Call) -> Results:
    given = call.required(0).type.dtype
    x, targets = operand_of(call), call.take("n_targets", "int", 1)
    aggregate: int = call.take("aggregate_function", "int", 1)
    transform: int = call.take("post_transform", "int", 0)
    if not (0 <= aggregate < 4 and 0 <= transform < 5):
        raise wrong(call, f"aggregate_function {aggregate} or post_transform {transform} unknown")
    forest = _forest_5(call, targets)
    scores = aggregated(call, x, forest, _AGGREGATES_5[aggregate], None)
    result = transformed(call, scores, _TRANSFORMS_5[transform])
    if result.type.dtype is not given:
        result = call.build.op("cast", [result], {"to": given}).result
    return [result]


def _tensor(call: Call, name: str) -> Array:
    found = call.take(name, "blob")
    return found.array.reshape(-1) if isinstance(found, Blob) else np.zeros(0)


def _forest_5(call: Call, targets: int) -> Forest:
    modes = _tensor(call, "nodes_modes").astype(np.int64)
    count, splits = len(modes), _tensor(call, "nodes_splits").astype(np.float64)
    if not count or len(splits) != count or modes.min() < 0 or modes.max() > MEMBER:
        raise wrong(call, f"{len(splits)} splits of {count} nodes, or a mode that is none")
    leaf_columns = integers_of(call, "leaf_targetids")
    weights = _tensor(call, "leaf_weights").astype(np.float64)
    leaves = len(weights)
    if len(leaf_columns) != leaves or not leaves:
        raise wrong(call, f"{leaves} leaves have {len(leaf_columns)} targets")
    children: list[Array] = []
    for which in ("true", "false"):
        at = integers_of(call, f"nodes_{which}nodeids", count)
        to_leaf = integers_of(call, f"nodes_{which}leafs", count).astype(bool)
        if ((at < 0) | (at >= np.where(to_leaf, leaves, count))).any():
            raise wrong(call, f"nodes_{which}nodeids has a number that no node or leaf has")
        children.append(np.concatenate([at + np.where(to_leaf, count, 0), np.zeros(leaves)]))
    true, false = (child.astype(np.int64) for child in children)
    tracks = integers_of(call, "nodes_missing_value_tracks_true")
    tracks = np.resize(tracks.astype(bool) if len(tracks) else np.zeros(1, bool), count)
    tail = np.zeros(leaves, np.int64)
    call.attributes.pop("nodes_hitrates", None)
    roots = integers_of(call, "tree_roots")
    if not len(roots) or roots.min() < 0 or roots.max() >= count:
        raise wrong(call, "tree_roots has a number that no node has, or none at all")
    same = (true[roots] == false[roots]) & (true[roots] >= count)
    roots = np.where(same, true[roots], roots)  # a tree that is a leaf
    is_leaf = np.arange(count + leaves) >= count
    sets = _sets(call, modes)
    forest = Forest(
        np.concatenate([integers_of(call, "nodes_featureids", count), tail]),
        np.concatenate([splits, tail]), false, true, np.concatenate([tracks, tail != 0]), is_leaf,
        roots, count + np.arange(leaves), leaf_columns, weights, targets=targets,
    )  # fmt: skip
    tracked = np.concatenate([tracks, tail != 0])
    return checked(call, one_comparison(forest, np.concatenate([modes, tail]), tracked, sets))


def _sets(call: Call, modes: Array) -> dict[int, Array]:
    """The numbers of each node that asks for membership: one after another, NaN behind each."""
    members = np.nonzero(modes == MEMBER)[0]
    values = _tensor(call, "membership_values").astype(np.float64)
    ends = np.nonzero(np.isnan(values))[0]
    if len(ends) != len(members):
        raise wrong(call, f"{len(members)} nodes ask for {len(ends)} sets of membership_values")
    starts: Sequence[Any] = [0, *(ends + 1)]
    return {
        int(node): values[start:end]
        for node, start, end in zip(members, starts, ends, strict=False)
    }


ENSEMBLES: Mapping[str, Rule] = MappingProxyType({"TreeEnsemble": _ensemble})
"""Operators by name, and what takes them apart."""
