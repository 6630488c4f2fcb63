"""Models of classical machine learning are optimised into ONNX of no more nodes, and give the same.

Their operators stay what they are; what stands around them is rewritten like anything else.
"""

from __future__ import annotations

import importlib
import warnings
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto

from leptonc.ir.blob import Array
from leptonc.onnx_kept import node_counts
from leptonc.onnx_optimize import OptimizeOptions, optimize_model
from tests.robustness.models import model, node, value

pytestmark = [pytest.mark.needs("sklearn"), pytest.mark.needs("skl2onnx")]

_RNG = np.random.default_rng(3)
X = np.concatenate([_RNG.standard_normal((60, 4)), _RNG.integers(0, 4, (60, 2))], axis=1).astype(
    np.float32
)
NUMBER: Array = X[:, 0] * X[:, 1] + X[:, 2]
CLASS = np.digitize(NUMBER, [-0.5, 0.5])
WORD = np.array(["green", "red", "blue"])[CLASS]
SEED: dict[str, Any] = {"random_state": 0}
FEW: dict[str, Any] = {"n_estimators": 5, **SEED}


def _made(name: str) -> Any:
    """A fitted model, and what skl2onnx is told of it."""
    ensemble, linear_model, svm, compose, pipeline, scaling = (
        importlib.import_module(f"sklearn.{part}")
        for part in ("ensemble", "linear_model", "svm", "compose", "pipeline", "preprocessing")
    )
    mixed = compose.ColumnTransformer(
        [
            ("scaled", scaling.StandardScaler(), [0, 1, 2, 3]),
            ("encoded", scaling.OneHotEncoder(handle_unknown="ignore"), [4, 5]),
        ]
    )
    models: dict[str, tuple[Any, Array]] = {
        "linear": (linear_model.LinearRegression(), NUMBER),
        "logistic": (linear_model.LogisticRegression(max_iter=500), WORD),
        "forest": (ensemble.RandomForestClassifier(**FEW), WORD),
        "forest_numbers": (ensemble.RandomForestRegressor(**FEW), NUMBER),
        "boosting": (ensemble.GradientBoostingClassifier(**FEW), CLASS),
        "boosting_numbers": (ensemble.GradientBoostingRegressor(**FEW), NUMBER),
        "vectors": (svm.SVC(), CLASS),
        "vectors_numbers": (svm.SVR(), NUMBER),
        "pipeline": (
            pipeline.Pipeline([("mixed", mixed), ("last", linear_model.LogisticRegression())]),
            CLASS,
        ),
    }  # fmt: skip
    fitted, target = models[name]
    return fitted.fit(X, target)


KINDS = (
    "linear", "logistic", "forest", "forest_numbers", "boosting", "boosting_numbers", "vectors",
    "vectors_numbers", "pipeline",
)  # fmt: skip


def _exported(name: str, *, zipmap: bool) -> onnx.ModelProto:
    made = _made(name)
    options = {id(made): {"zipmap": zipmap}} if hasattr(made, "predict_proba") else None
    convert: Any = importlib.import_module("skl2onnx")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what skl2onnx reads of scikit-learn
        return convert.to_onnx(made, X[:1], options=options, target_opset={"": 18, "ai.onnx.ml": 3})


def _run(proto: onnx.ModelProto) -> Any:
    session: Any = importlib.import_module("onnxruntime").InferenceSession(
        proto.SerializeToString()
    )
    return session.run(None, {proto.graph.input[0].name: X})


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("zipmap", [False, True])
def test_no_more_nodes_and_the_same_results(name: str, zipmap: bool) -> None:
    source = _exported(name, zipmap=zipmap)
    result = optimize_model(source, None, OptimizeOptions(verify_numbers=not zipmap)).model
    onnx.checker.check_model(result)  # pyright: ignore[reportUnknownMemberType]
    assert sum(node_counts(result).values()) <= sum(node_counts(source).values())
    assert [item.name for item in result.graph.output] == [
        item.name for item in source.graph.output
    ]
    for got, want in zip(_run(result), _run(source), strict=True):
        if not hasattr(want, "dtype"):  # ZipMap's maps
            for scores, expected in zip(got, want, strict=True):
                assert scores == pytest.approx(expected, rel=1e-5, abs=1e-6)
        elif want.dtype.kind == "f":
            np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-6)
        else:
            np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize(
    ("operator", "inputs", "attributes"),
    [
        ("RandomNormal", [], {"shape": [2, 3], "seed": 1.0}),
        ("RandomUniformLike", ["x"], {"seed": 1.0}),
        ("Bernoulli", ["x"], {"seed": 1.0}),
    ],
)
def test_random_numbers_stay_one_node(
    operator: str, inputs: list[str], attributes: dict[str, Any]
) -> None:
    source = model(
        [node(operator, tuple(inputs), ("r",), **attributes), node("Add", ("x", "r"), ("y",))],
        inputs=[value("x", (2, 3))],
    )
    result = optimize_model(source, None).model
    assert node_counts(result) == {operator: 1, "Add": 1}


def test_text_stays_one_node() -> None:
    source = model(
        [node("StringNormalizer", ("x",), ("y",), case_change_action="LOWER")],
        inputs=[value("x", (2,), TensorProto.STRING)],
    )
    result = optimize_model(source, None).model
    assert node_counts(result) == {"StringNormalizer": 1}
