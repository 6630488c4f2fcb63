"""Tree ensembles of all forms mean what ONNX's reference and onnxruntime say they mean."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper
from onnx.reference import ReferenceEvaluator

import leptonc
from leptonc import onnx_ml_layout
from leptonc.ir.blob import Array
from leptonc.ir.diagnostics import LeptonError
from leptonc.ir.interpret import interpret
from leptonc.ir.verify import verify
from leptonc.onnx_import import import_model
from tests.peer import onnxruntime_gives
from tests.trees import NAMES, elements, ensemble_node, ml_model, ml_node, random_ensemble

STUMPS: dict[str, Any] = {
    "nodes_treeids": [0] * 5 + [7] * 3,
    "nodes_nodeids": [0, 1, 2, 3, 4, 0, 1, 2],
    "nodes_featureids": [0, 0, 1, 0, 0, 1, 0, 0],
    "nodes_values": [-0.5, 0, 0.5, 0, 0, 0.25, 0, 0],
    "nodes_modes": ["BRANCH_LEQ", "LEAF", "BRANCH_LT", "LEAF", "LEAF", "BRANCH_GT", "LEAF", "LEAF"],
    "nodes_truenodeids": [1, 0, 3, 0, 0, 1, 0, 0],
    "nodes_falsenodeids": [2, 0, 4, 0, 0, 2, 0, 0],
}
LEAVES = {"treeids": [0, 0, 0, 7, 7], "nodeids": [1, 3, 4, 1, 2]}
X = np.array(
    [[-1, 0], [-0.5, 1], [0, 0.5], [0, 0.25], [1, 1], [0.3, -2], [2, 0.4]], np.float32
)  # fmt: skip


def meaning(model: onnx.ModelProto, x: Array) -> list[Array]:
    """What the imported graph gives when it is interpreted."""
    graph = import_model(model)
    verify(graph)
    return list(interpret(graph, {"x": x}).values())


def reference(model: onnx.ModelProto, x: Array) -> Any:
    """What ONNX's reference gives."""
    results: Any = ReferenceEvaluator(model).run(None, {"x": x})  # pyright: ignore[reportUnknownMemberType]
    return results[0]


@pytest.mark.parametrize("layout", ["perfect", "linked"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_all_comparisons(layout: str, dtype: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx_ml_layout, "DEEPEST_PERFECT", 99 if layout == "perfect" else -1)
    monkeypatch.setattr(onnx_ml_layout, "PERFECT_BYTES", 1 << 30)
    rng = np.random.default_rng(3)
    for targets, mixed in ((1, False), (3, False), (3, True)):
        made = random_ensemble(rng, 11, 3, targets=targets, mixed=mixed)
        x = elements(rng, 60, made.features, dtype)
        model = ml_model([ensemble_node(made, dtype, "x", "y")], x, ["y"])
        expected = reference(model, x)
        (found,) = meaning(model, x)
        assert found.dtype == dtype
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("mode", range(7))
def test_each_comparison_alone(mode: int) -> None:
    rng = np.random.default_rng(mode)
    made = random_ensemble(rng, 5, 2)
    made.modes = [mode] * len(made.modes)
    made.members = [1.0, -0.5, np.nan] * len(made.modes) if mode == 6 else []
    x = elements(rng, 80, made.features, np.float32)
    model = ml_model([ensemble_node(made, np.float32, "x", "y")], x, ["y"])
    expected = reference(model, x)
    np.testing.assert_allclose(meaning(model, x)[0], expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("mode", range(4))
@pytest.mark.parametrize("split", [np.inf, -np.inf, np.nan, np.finfo(np.float32).max])
def test_thresholds_at_the_ends(mode: int, split: float) -> None:
    rng = np.random.default_rng(1)
    made = random_ensemble(rng, 6, 1, features=1)
    made.modes, made.members = [mode] * 6, []
    made.split, made.tracks = [split] * 6, [0, 1, 0, 1, 0, 1]
    x = np.array([[0], [np.inf], [-np.inf], [np.nan], [split]], np.float32)
    model = ml_model([ensemble_node(made, np.float32, "x", "y")], x, ["y"])
    expected = reference(model, x)
    np.testing.assert_allclose(meaning(model, x)[0], expected, rtol=1e-5, atol=1e-6)


def test_compiled_for_any_number_of_rows() -> None:
    """One artefact: both layouts and types, one and more columns, many trees and one, all ways."""
    rng = np.random.default_rng(9)
    shapes: list[tuple[int, int, dict[str, Any]]] = [
        (40, 5, {}), (3, 14, {}), (9, 3, {"targets": 3}), (5, 13, {"targets": 9, "mixed": True}),
    ]  # fmt: skip
    made = [random_ensemble(rng, trees, depth, **more) for trees, depth, more in shapes]
    nodes = [ensemble_node(one, np.float32, "x", f"y{at}") for at, one in enumerate(made)]
    nodes += [
        ensemble_node(one, np.float32, "x", f"z{at}{how}", aggregate_function=how)
        for at, one, how in ((1, made[1], 2), (2, made[2], 0))
    ]
    nodes.append(helper.make_node("Cast", ["x"], ["wide"], to=onnx.TensorProto.DOUBLE))
    nodes += [ensemble_node(one, np.float64, "wide", f"w{at}") for at, one in enumerate(made[1:2])]
    outputs = [node.output[0] for node in nodes if node.op_type != "Cast"]
    x = elements(rng, 300, 4, np.float32)
    model = ml_model(nodes, x, outputs)
    graph = import_model(model)
    session = leptonc.compile(model, threads=1, isolated=False)
    for rows in (0, 1, 7, 8, 9, 300):
        expected = interpret(graph, {"x": x[:rows]})
        for name, found in session.run({"x": x[:rows]}).items():
            assert found.shape == expected[name].shape
            np.testing.assert_allclose(found, expected[name], rtol=1e-4, atol=1e-4, err_msg=name)


def classifier(ids: list[int], weights: list[float], labels: list[int], **more: Any) -> Any:
    """A model of the two stumps; weights go to their leaves in turns."""
    per_leaf = len(ids) // 5
    leaves = {
        f"class_{key}": [item for item in items for _ in range(per_leaf)]
        for key, items in LEAVES.items()
    }
    node = ml_node(
        "TreeEnsembleClassifier", ["label", "scores"], **STUMPS, **leaves,
        class_ids=ids, class_weights=weights, classlabels_int64s=labels, **more,
    )  # fmt: skip
    types = [onnx.TensorProto.INT64, onnx.TensorProto.FLOAT]
    return ml_model([node], X, ["label", "scores"], opset=3, types=types)


UP, BOTH = [0.1, 0.25, 0.3, 0.15, 0.4], [-0.3, 0.2, 0.6, 0.1, -0.5]


CLASSIFIERS: dict[str, tuple[list[int], list[float], list[int], dict[str, Any]]] = {
    "one side, no negative weight": ([0] * 5, UP, [5, 7], {}),
    "one side": ([0] * 5, BOTH, [5, 7], {}),
    "one side and a base": ([0] * 5, BOTH, [5, 7], {"base_values": [0.15]}),
    "other side, no negative weight": ([1] * 5, UP, [5, 7], {}),
    "other side": ([1] * 5, BOTH, [5, 7], {}),
    "three": ([0, 2, 1, 0, 1], UP, [5, 7, 8], {}),
    "three and bases": ([0, 2, 1, 0, 1], UP, [8, 7, 5], {"base_values": [0.1, 0.3, 0.2]}),
}


@pytest.mark.parametrize(
    ("case", "transform"),
    [
        (case, transform)
        for case, (_, _, labels, _) in CLASSIFIERS.items()
        for transform in ("NONE", "LOGISTIC", "SOFTMAX", "SOFTMAX_ZERO", "PROBIT")
        # of two classes onnxruntime gives what was in memory there
        if transform != "PROBIT" or len(labels) == 3
    ],
)
def test_classifiers(case: str, transform: str) -> None:
    ids, weights, labels, more = CLASSIFIERS[case]
    model = classifier(ids, weights, labels, post_transform=transform, **more)
    expected = onnxruntime_gives(model, {"x": X})
    for mine, theirs in zip(meaning(model, X), expected, strict=True):
        assert mine.dtype == theirs.dtype
        np.testing.assert_allclose(mine, theirs, rtol=2e-5, atol=2e-6)


def test_two_classes_with_scores_each_are_compared() -> None:
    ids, weights = [0, 1] * 5, [0.6, 0.1, 0.2, 0.4, 0.1, 0.9, 0.3, 0.1, 0.2, 0.5]
    label, scores = meaning(classifier(ids, weights, [5, 7]), X)
    assert label.tolist() == [(5, 7)[index] for index in scores.argmax(1)]
    assert len(set(label.tolist())) == 2


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_tensors_instead_of_numbers(dtype: Any) -> None:
    """Doubles decide where floats cannot tell a threshold from an element right above it."""
    leaves = {f"target_{key}": items for key, items in LEAVES.items()}
    rest = {key: items for key, items in STUMPS.items() if key != "nodes_values"}
    splits = np.array([np.nextafter(-0.5, -1), 0, 0.5 + 1e-12, 0, 0, 0.25, 0, 0])
    tensors = {
        "nodes_values": splits, "target_weights": np.array(BOTH), "base_values": np.array([0.1])
    }  # fmt: skip
    node = ml_node(
        "TreeEnsembleRegressor", ["y"], **rest, **leaves, target_ids=[0] * 5, n_targets=1,
        **{f"{key}_as_tensor": numpy_helper.from_array(items) for key, items in tensors.items()},
    )  # fmt: skip
    x = X.astype(dtype)
    model = ml_model([node], x, ["y"], opset=3, types=[onnx.TensorProto.FLOAT])
    wide = ml_model([node], X.astype(np.float64), ["y"], opset=3, types=[onnx.TensorProto.FLOAT])
    (expected,) = onnxruntime_gives(wide, {"x": X.astype(np.float64)})
    np.testing.assert_allclose(meaning(model, x)[0], expected, rtol=1e-6)


def test_numbers_of_nodes_are_names() -> None:
    model = classifier([0] * 5, BOTH, [5, 7])
    expected = meaning(model, X)
    renamed = {0: 3, 1: 2, 2: 9}
    (node,) = model.graph.node
    by_name = {item.name: item for item in node.attribute}
    for name in ("nodes_nodeids", "nodes_truenodeids", "nodes_falsenodeids", "class_nodeids"):
        trees = by_name["class_treeids" if name == "class_nodeids" else "nodes_treeids"].ints
        for at, tree in enumerate(trees):
            if tree == 7:
                by_name[name].ints[at] = renamed[by_name[name].ints[at]]
    for mine, theirs in zip(meaning(model, X), expected, strict=True):
        np.testing.assert_array_equal(mine, theirs)


@pytest.mark.parametrize("aggregate", ["SUM", "AVERAGE", "MIN", "MAX"])
@pytest.mark.parametrize("mode", NAMES)
def test_regressors(aggregate: str, mode: str) -> None:
    modes = [f"BRANCH_{mode}" if name != "LEAF" else name for name in STUMPS["nodes_modes"]]
    leaves = {f"target_{key}": [*items, *items] for key, items in LEAVES.items()}
    node = ml_node(
        "TreeEnsembleRegressor", ["y"], **{**STUMPS, "nodes_modes": modes}, **leaves,
        target_ids=[0] * 5 + [1] * 5, target_weights=BOTH + UP, n_targets=2,
        base_values=[0.5, 0.25], aggregate_function=aggregate,
    )  # fmt: skip
    model = ml_model([node], X, ["y"], opset=3, types=[onnx.TensorProto.FLOAT])
    (expected,) = onnxruntime_gives(model, {"x": X})
    np.testing.assert_allclose(meaning(model, X)[0], expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"nodes_modes": ["BRANCH_LEQ"] * 7 + ["WHAT"]}, "'WHAT'"),
        ({"nodes_truenodeids": [1, 0, 0, 0, 0, 1, 0, 0]}, "each other's children"),
        ({"nodes_truenodeids": [1, 0, 8, 0, 0, 1, 0, 0]}, "tree 0 has no node 8"),
        ({"nodes_featureids": [0, 0, 2, 0, 0, 1, 0, 0]}, "feature 2 of 2"),
        ({"class_ids": [0, 5, 0, 0, 0]}, "column 5 of 2"),
        ({"nodes_values": [1.0]}, "nodes_values has 1 entries"),
    ],
)
def test_what_makes_no_sense_is_refused(changes: dict[str, Any], text: str) -> None:
    model = classifier([0] * 5, UP, [5, 7])
    (node,) = model.graph.node
    kept = [item for item in node.attribute if item.name not in changes]
    del node.attribute[:]
    node.attribute.extend(kept)
    node.attribute.extend(helper.make_attribute(name, item) for name, item in changes.items())
    with pytest.raises(LeptonError) as raised:
        import_model(model)
    assert raised.value.code == "E015"
    assert text in raised.value.message
