"""Random tree ensembles, in the form of opset 5 and in that of the older regressor."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from leptonc.ir.blob import Array

ML = "ai.onnx.ml"
LEQ, MEMBER = 0, 6
NAMES = ("LEQ", "LT", "GTE", "GT", "EQ", "NEQ")
SPLITS = (-1.5, -0.5, -0.0, 0.5, 1.0, 3.0)
"""Few numbers, so that elements meet thresholds exactly."""


@dataclass
class Ensemble:
    """Nodes and leaves of random trees."""

    features: int
    targets: int
    modes: list[int] = field(default_factory=list[int])
    feature: list[int] = field(default_factory=list[int])
    split: list[float] = field(default_factory=list[float])
    tracks: list[int] = field(default_factory=list[int])
    children: list[list[tuple[bool, int]]] = field(default_factory=list[list[tuple[bool, int]]])
    """For each node whether its true and false children are leaves, and their numbers."""
    members: list[float] = field(default_factory=list[float])
    target: list[int] = field(default_factory=list[int])
    weight: list[float] = field(default_factory=list[float])
    roots: list[int] = field(default_factory=list[int])

    def attributes(self, dtype: Any) -> dict[str, Any]:
        """The attributes of a TreeEnsemble of opset 5."""
        splits: Array = np.array(self.split, dtype)
        attributes: dict[str, Any] = {
            "n_targets": self.targets,
            "nodes_modes": numpy_helper.from_array(np.array(self.modes, np.uint8)),
            "nodes_featureids": self.feature,
            "nodes_splits": numpy_helper.from_array(splits),
            "nodes_missing_value_tracks_true": self.tracks,
            "leaf_targetids": self.target,
            "leaf_weights": numpy_helper.from_array(np.array(self.weight, dtype)),
            "tree_roots": self.roots,
        }
        for at, which in enumerate(("true", "false")):
            attributes[f"nodes_{which}leafs"] = [int(pair[at][0]) for pair in self.children]
            attributes[f"nodes_{which}nodeids"] = [pair[at][1] for pair in self.children]
        if self.members:
            members = np.array(self.members, dtype)
            attributes["membership_values"] = numpy_helper.from_array(members)
        return attributes


def random_ensemble(
    rng: np.random.Generator, trees: int, depth: int, *, features: int = 4, targets: int = 1,
    modes: int = 7, full: bool = False, mixed: bool = False,
) -> Ensemble:  # fmt: skip
    """Trees of nodes of the first `modes` modes; `mixed` trees add to several targets each."""
    made = Ensemble(features, targets)
    for _ in range(trees):
        column = int(rng.integers(targets))
        made.roots.append(_grow(made, rng, depth, modes, None if mixed else column, full=full)[1])
    made.members += [
        number
        for mode in made.modes
        if mode == MEMBER
        for number in (*rng.choice([-1.5, -0.5, 0.5, 1.0, 3.0], 2, replace=False), np.nan)
    ]
    return made


def _grow(
    made: Ensemble, rng: np.random.Generator, depth: int, modes: int, column: int | None, *,
    full: bool, is_root: bool = True,
) -> tuple[bool, int]:  # fmt: skip
    if depth == 0 or not (is_root or full or rng.random() < 0.8):
        made.target.append(int(rng.integers(made.targets)) if column is None else column)
        made.weight.append(float(np.float32(rng.standard_normal())))
        return True, len(made.weight) - 1
    at = len(made.modes)
    made.modes.append(int(rng.integers(modes)))
    made.feature.append(int(rng.integers(made.features)))
    made.split.append(float(rng.choice(SPLITS)))
    made.tracks.append(int(rng.integers(2)))
    made.children.append([])
    made.children[at] = [
        _grow(made, rng, depth - 1, modes, column, full=full, is_root=False) for _ in range(2)
    ]
    return False, at


def elements(rng: np.random.Generator, rows: int, features: int, dtype: Any) -> Array:
    """Rows that meet thresholds exactly, come right beside them, are infinite or not numbers."""
    near = [np.nextafter(np.array(split, dtype), dtype(way)) for split in SPLITS for way in (-9, 9)]
    choices = np.array([*SPLITS, *near, 0.0, np.inf, -np.inf, np.nan, 0.7, -2.0], dtype)
    return rng.choice(choices, (rows, features))


def ml_node(op_type: str, outputs: list[str], *inputs: str, **attributes: Any) -> onnx.NodeProto:
    """A node of the domain."""
    return helper.make_node(op_type, inputs or ["x"], outputs, domain=ML, **attributes)


def ensemble_node(made: Ensemble, dtype: Any, x: str, y: str, **attributes: Any) -> onnx.NodeProto:
    """A node of opset 5."""
    given: dict[str, Any] = {"aggregate_function": 1, "post_transform": 0, **attributes}
    given |= made.attributes(dtype)
    return ml_node("TreeEnsemble", [y], x, **given)


def ml_model(
    nodes: list[onnx.NodeProto], x: Array, outputs: list[str], *, opset: int = 5,
    types: Sequence[int] | None = None,
) -> onnx.ModelProto:  # fmt: skip
    """A model of such nodes whose number of rows is open."""
    shape = ["rows", *x.shape[1:]]
    given = helper.make_tensor_value_info("x", helper.np_dtype_to_tensor_dtype(x.dtype), shape)
    made = [
        helper.make_empty_tensor_value_info(name)
        if types is None
        else helper.make_tensor_value_info(name, types[at], None)
        for at, name in enumerate(outputs)
    ]
    graph = helper.make_graph(nodes, "ml", [given], made)
    imports = [helper.make_opsetid("", 21), helper.make_opsetid(ML, opset)]
    return helper.make_model(graph, opset_imports=imports, ir_version=10)
