"""Models of scikit-learn, as skl2onnx writes them, give what scikit-learn and onnxruntime give.

Models of one family become one ONNX model, so that each family is compiled once.
"""

from __future__ import annotations

import contextlib
import importlib
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper

import leptonc
from leptonc.ir.blob import Array
from leptonc.runtime.session import Session
from tests.peer import onnxruntime_gives
from tests.trees import ml_model, ml_node

pytestmark = [pytest.mark.needs("sklearn"), pytest.mark.needs("skl2onnx")]

OPSETS = {"": 18, "ai.onnx.ml": 3}
SIZES = (0, 1, 7, 60)
_RNG = np.random.default_rng(0)
X = _RNG.standard_normal((60, 5)).astype(np.float32)
HOLES = np.where(_RNG.random(X.shape) < 0.1, np.nan, X).astype(np.float32)
WHOLE = _RNG.integers(0, 4, X.shape)
NUMBER = (X[:, 0] * X[:, 1] + X[:, 2]).astype(np.float32)
NUMBERS = np.stack([NUMBER, X[:, 3] - NUMBER], 1)
CLASS = np.digitize(NUMBER, [-0.5, 0.5])
HALF = (NUMBER > 0).astype(int)
WORD = np.array(["green", "red", "blue"])[CLASS]

Fit = tuple[str, dict[str, Any], Array | None]
"""A class of scikit-learn, its parameters, and what it learns."""

SEED: dict[str, Any] = {"random_state": 0}
FEW: dict[str, Any] = {"n_estimators": 6, **SEED}

FAMILIES: dict[str, tuple[Array, list[Fit]]] = {
    "trees": (X, [
        ("tree.DecisionTreeRegressor", {"max_depth": 4, **SEED}, NUMBERS),
        ("ensemble.RandomForestClassifier", FEW, WORD),
        ("ensemble.RandomForestClassifier", {**FEW, "max_depth": 3}, HALF),
        ("ensemble.ExtraTreesClassifier", FEW, CLASS),
        ("ensemble.GradientBoostingClassifier", FEW, CLASS),
        ("ensemble.GradientBoostingClassifier", FEW, HALF),
        ("ensemble.IsolationForest", FEW, None),
    ]),
    "linear": (X, [
        ("linear_model.LogisticRegression", {}, WORD),
        ("linear_model.LogisticRegression", {}, HALF),
        ("linear_model.Ridge", {}, NUMBERS),
        ("svm.LinearSVC", SEED, CLASS),
        ("naive_bayes.GaussianNB", {}, CLASS),
        ("neural_network.MLPClassifier", {"hidden_layer_sizes": (6,), **SEED}, CLASS),
        ("discriminant_analysis.LinearDiscriminantAnalysis", {}, CLASS),
    ]),
    "machines": (X, [
        ("svm.SVC", {"kernel": "poly", **SEED}, HALF),
        ("svm.SVC", {"probability": True, **SEED}, WORD),
        ("svm.NuSVC", {"nu": 0.3, **SEED}, CLASS),
        ("svm.SVR", {}, NUMBER),
        ("svm.OneClassSVM", {"nu": 0.2}, None),
    ]),
    "features": (X, [
        ("preprocessing.StandardScaler", {}, None),
        ("preprocessing.MinMaxScaler", {}, None),
        ("preprocessing.Normalizer", {"norm": "l1"}, None),
        ("preprocessing.Binarizer", {"threshold": 0.2}, None),
        ("preprocessing.KBinsDiscretizer",
         {"n_bins": 3, "encode": "onehot-dense", "quantile_method": "averaged_inverted_cdf"}, None),
        ("cluster.KMeans", {"n_clusters": 3, "n_init": 1, **SEED}, None),
        ("decomposition.PCA", {"n_components": 3}, None),
    ]),
    "neighbours": (X, [
        ("neighbors.KNeighborsClassifier", {"n_neighbors": 3}, CLASS),
        ("neighbors.KNeighborsRegressor", {"n_neighbors": 3}, NUMBER),
        ("gaussian_process.GaussianProcessRegressor", {"alpha": 0.1}, NUMBER),
    ]),
    "missing": (HOLES, [("impute.SimpleImputer", {}, None)]),
    "categories": (WHOLE, [
        ("preprocessing.OneHotEncoder", {"handle_unknown": "ignore"}, None),
        ("preprocessing.OrdinalEncoder", {}, None),
    ]),
}  # fmt: skip


def fitted(fit: Fit, x: Array) -> Any:
    """The trained model."""
    path, parameters, target = fit
    module, _, name = path.partition(".")
    made = getattr(importlib.import_module(f"sklearn.{module}"), name)(**parameters)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # few steps do not converge
        return made.fit(x) if target is None else made.fit(x, target)


def exported(model: Any, x: Array) -> onnx.ModelProto:
    """The ONNX form, with the number of rows open and scores as tensors."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        to_onnx: Any = importlib.import_module("skl2onnx").to_onnx
        if hasattr(model, "classes_"):
            # not every classifier has maps of scores to leave out, and the others say so
            with contextlib.suppress(NameError):
                return to_onnx(model, x[:1], options={"zipmap": False}, target_opset=OPSETS)
        return to_onnx(model, x[:1], target_opset=OPSETS)


def together(models: Mapping[str, onnx.ModelProto], x: Array) -> onnx.ModelProto:
    """One model with the outputs of all, each under the name of its model."""
    dtype = helper.np_dtype_to_tensor_dtype(x.dtype)
    given = helper.make_tensor_value_info("x", dtype, ["rows", x.shape[1]])
    graph = helper.make_graph([], "family", [given], [])
    for name, model in models.items():
        part = onnx.compose.add_prefix(model, f"{name}/").graph
        graph.node.add(op_type="Identity", input=["x"], output=[part.input[0].name])
        graph.node.extend(part.node)
        graph.initializer.extend(part.initializer)
        # shapes are left out, since those of several targets are declared as of one
        graph.output.extend(
            helper.make_tensor_value_info(item.name, item.type.tensor_type.elem_type, None)
            for item in part.output
        )
    imports = [helper.make_opsetid(domain, version) for domain, version in OPSETS.items()]
    return helper.make_model(graph, opset_imports=imports, ir_version=9)


def near(mine: Array, theirs: Any, what: str) -> None:
    """Text and whole numbers are equal, others near."""
    theirs = np.asarray(theirs)
    assert mine.shape == theirs.shape, what
    if theirs.dtype.kind in "OUi":
        assert mine.tolist() == theirs.tolist(), what
    else:
        np.testing.assert_allclose(mine, theirs, rtol=2e-4, atol=2e-5, err_msg=what)


def check_sizes(session: Session, model: onnx.ModelProto, x: Array) -> None:
    """One artefact gives for any number of rows what onnxruntime gives for them all."""
    expected = onnxruntime_gives(model, {"x": x})
    for rows in SIZES:
        found = session.run({"x": x[:rows]})
        for (name, mine), theirs in zip(found.items(), expected, strict=True):
            near(mine, theirs[:rows], f"{name} of {rows} rows")


@pytest.mark.parametrize("family", FAMILIES)
def test_family(family: str) -> None:
    x, fits = FAMILIES[family]
    trained = {f"m{at}": fitted(fit, x) for at, fit in enumerate(fits)}
    model = together({name: exported(one, x) for name, one in trained.items()}, x)
    session = leptonc.compile(model, threads=1, isolated=False)
    check_sizes(session, model, x)
    found = session.run({"x": x})
    for name, one in trained.items():
        mine = [array for key, array in found.items() if key.startswith(f"{name}/")]
        check_against_sklearn(one, x, mine, f"{name} {type(one).__name__}")


def check_against_sklearn(model: Any, x: Array, found: list[Array], what: str) -> None:
    """Labels, probabilities and numbers are those of scikit-learn itself."""
    methods: list[Callable[[Array], Any]]
    if hasattr(model, "predict_proba"):
        methods = [model.predict, model.predict_proba]
    else:
        methods = [model.predict if hasattr(model, "predict") else model.transform]
    for method, mine in zip(methods, found, strict=False):
        given = method(x)
        theirs = np.asarray(given.toarray() if hasattr(given, "toarray") else given)
        near(mine.reshape(theirs.shape), theirs.astype(mine.dtype), what)


def boosted(model: Any) -> onnx.ModelProto:
    """The ONNX form of histogram gradient boosting for numbers.

    skl2onnx writes its node numbers in a type that newer versions of onnx refuse.
    """
    keys = ("treeids", "nodeids", "featureids", "values", "modes", "truenodeids", "falsenodeids")
    nodes: dict[str, list[Any]] = {key: [] for key in (*keys, "missing_value_tracks_true")}
    leaves: dict[str, list[Any]] = {key: [] for key in ("treeids", "nodeids", "ids", "weights")}
    for tree, (predictor,) in enumerate(model._predictors):
        for number, node in enumerate(predictor.nodes):
            is_leaf = bool(node["is_leaf"])
            values = (
                tree, number, int(node["feature_idx"]), float(node["num_threshold"]),
                "LEAF" if is_leaf else "BRANCH_LEQ", int(node["left"]), int(node["right"]),
                int(node["missing_go_to_left"]),
            )  # fmt: skip
            for column, item in zip(nodes.values(), values, strict=True):
                column.append(item)
            if is_leaf:
                leaf = (tree, number, 0, float(node["value"]))
                for column, item in zip(leaves.values(), leaf, strict=True):
                    column.append(item)
    attributes: dict[str, Any] = {f"nodes_{key}": items for key, items in nodes.items()}
    attributes |= {f"target_{key}": items for key, items in leaves.items()}
    base = [float(model._baseline_prediction[0, 0])]
    node = ml_node("TreeEnsembleRegressor", ["y"], base_values=base, n_targets=1, **attributes)
    return ml_model([node], HOLES, ["y"], opset=3, types=[onnx.TensorProto.FLOAT])


def test_missing_values_go_where_trees_send_them() -> None:
    parameters = {"max_iter": 8, "min_samples_leaf": 5, **SEED}
    trained = fitted(("ensemble.HistGradientBoostingRegressor", parameters, NUMBER), HOLES)
    model = boosted(trained)
    session = leptonc.compile(model, threads=1, isolated=False)
    check_sizes(session, model, HOLES)
    found = session.run({"x": HOLES})["y"]
    np.testing.assert_allclose(found[:, 0], trained.predict(HOLES), rtol=1e-4, atol=1e-5)


def test_a_pipeline_from_holes_to_words() -> None:
    """Features filled in, scaled and multiplied, then classified; with names of the classes."""
    pipeline: Any = importlib.import_module("sklearn.pipeline")
    steps = [
        fitted(("impute.SimpleImputer", {}, None), HOLES),
        fitted(("preprocessing.StandardScaler", {}, None), X),
        fitted(("preprocessing.PolynomialFeatures", {}, None), X),
        fitted(("linear_model.LogisticRegression", {}, WORD), X),
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trained = pipeline.make_pipeline(*steps).fit(HOLES, WORD)
        to_onnx: Any = importlib.import_module("skl2onnx").to_onnx
        model = to_onnx(trained, HOLES[:1], target_opset=OPSETS)
    session = leptonc.compile(model, threads=1, isolated=False)
    label, scores = session.run({model.graph.input[0].name: HOLES}).values()
    assert label.tolist() == trained.predict(HOLES).tolist()
    np.testing.assert_allclose(scores, trained.predict_proba(HOLES), rtol=1e-4, atol=1e-5)
    (names,) = (
        text for key, text in session.manifest.provenance.items() if key.startswith("classes.")
    )
    assert names == '["blue", "green", "red"]'
