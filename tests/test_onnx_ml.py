"""The operators of classical machine learning mean what onnxruntime says they mean."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from leptonc.ir.blob import Array
from leptonc.ir.diagnostics import LeptonError
from leptonc.ir.interpret import interpret
from leptonc.ir.verify import verify
from leptonc.onnx_import import import_model
from tests.peer import onnxruntime_gives
from tests.trees import ml_model, ml_node

X = np.array([[-4, 2], [0, 0], [1, -3], [-1, -2], [0.5, 0.25]], np.float32)
NANS = np.array([[np.nan, 2], [0, np.nan], [1, -3]], np.float32)
WHOLE = X.astype(np.int64)
WORDS = np.array([["red", "blue"], ["green", "red"], ["?", ""]], object)
PLANES = {"coefficients": [0.2, 0.1, -0.3, 0.4], "intercepts": [0.05, 0.1]}
MACHINE: dict[str, Any] = {
    "kernel_params": [0.5, 0.1, 3.0], "support_vectors": [1.0, 2, -1, 0, 0.5, 0.2, 0.3, -1],
}  # fmt: skip
PAIR = {**MACHINE, "coefficients": [0.3, -0.4, 0.1, 0.2], "rho": [0.1], "classlabels_ints": [5, 7]}
THREE = {
    **MACHINE, "coefficients": [0.3, -0.4, 0.1, 0.2, -0.5, 0.6, 0.2, -0.3],
    "rho": [0.1, -0.2, 0.05], "classlabels_ints": [5, 7, 9], "vectors_per_class": [1, 2, 1],
}  # fmt: skip

Case = tuple[str, Array, dict[str, Any]]
CASES: list[Case] = [
    ("Scaler", X, {"offset": [0.5, -1], "scale": [2.0, 3]}),
    ("Scaler", WHOLE, {"offset": [0.5], "scale": [2.0]}),
    ("Imputer", NANS, {"imputed_value_floats": [7.0, 8], "replaced_value_float": float("nan")}),
    ("Imputer", X, {"imputed_value_floats": [7.0], "replaced_value_float": 0.0}),
    ("Imputer", WHOLE, {"imputed_value_int64s": [7, 8], "replaced_value_int64": -1}),
    ("Binarizer", X, {"threshold": 0.25}),
    ("FeatureVectorizer", X, {"inputdimensions": [2]}),
    ("OneHotEncoder", X, {"cats_int64s": [0, 2, -4], "zeros": 1}),
    ("OneHotEncoder", WHOLE, {"cats_int64s": [0, 1, -1, 2, -4, -3, -2], "zeros": 0}),
    ("OneHotEncoder", WORDS, {"cats_strings": ["red", "blue", "green"], "zeros": 1}),
    ("CategoryMapper", WORDS, {"cats_strings": ["red", "blue"], "cats_int64s": [4, 2]}),
    ("CategoryMapper", WHOLE, {"cats_strings": ["red", "blue"], "cats_int64s": [-4, 2]}),
    ("LabelEncoder", WORDS, {"keys_strings": ["red", "blue"], "values_int64s": [4, 2]}),
    ("LabelEncoder", WORDS, {
        "keys_strings": ["red", "blue"], "values_strings": ["x", "y"], "default_string": "z"}),
    ("LabelEncoder", WHOLE, {"keys_int64s": [2, -4, 0], "values_strings": ["b", "a", "c"]}),
    ("LabelEncoder", WHOLE, {
        "keys_int64s": [2, -4, 0], "values_floats": [0.5, -1, 9], "default_float": 3.0}),
    ("LabelEncoder", X, {"keys_floats": [2.0, -4.0, 0.25], "values_strings": ["7", "8", "9"]}),
    *(("Normalizer", x, {"norm": norm}) for norm in ("MAX", "L1", "L2") for x in (X, WHOLE)),
    ("LinearRegressor", X, {**PLANES, "targets": 2}),
    ("LinearRegressor", X, {"coefficients": [1.0, 2]}),
    *(
        ("LinearClassifier", X, {**PLANES, "classlabels_ints": [5, 7], "post_transform": name})
        for name in ("NONE", "LOGISTIC", "SOFTMAX", "SOFTMAX_ZERO")
    ),
    *(
        ("LinearClassifier", X, {
            "coefficients": [0.2, 0.1], "intercepts": [0.05], "classlabels_strings": ["a", "b"],
            "post_transform": name})
        for name in ("NONE", "LOGISTIC")
    ),
    *(
        ("SVMClassifier", X, {**PAIR, "vectors_per_class": [1, 3], "kernel_type": kind})
        for kind in ("LINEAR", "POLY", "RBF", "SIGMOID")
    ),
    *(
        ("SVMClassifier", X, {**PAIR, "vectors_per_class": [2, 2], "post_transform": name})
        for name in ("LOGISTIC", "SOFTMAX")
    ),
    ("SVMClassifier", X, {
        **PAIR, "vectors_per_class": [2, 2], "prob_a": [-1.2], "prob_b": [0.1]}),
    ("SVMClassifier", X, {**THREE, "kernel_type": "RBF"}),
    ("SVMClassifier", X, {**THREE, "kernel_type": "POLY", "post_transform": "SOFTMAX"}),
    ("SVMClassifier", X, {
        **THREE, "kernel_type": "RBF", "prob_a": [-1.2, -0.7, -2], "prob_b": [0.1, 0.3, -0.2]}),
    ("SVMClassifier", X, {
        "coefficients": [0.3, -0.4, 0.1, 0.2, 1, 0], "rho": [0.1], "classlabels_ints": [5, 7, 9],
        "kernel_params": [0.0, 0, 0]}),
    *(
        ("SVMRegressor", X, {
            **MACHINE, "coefficients": [0.3, -0.4, 0.1, 0.2], "rho": [0.1], "n_supports": 4,
            "kernel_type": kind, "one_class": one_class})
        for kind, one_class in (("LINEAR", 0), ("POLY", 0), ("RBF", 1), ("SIGMOID", 0))
    ),
]  # fmt: skip

KINDS = {"f": TensorProto.FLOAT, "i": TensorProto.INT64, "O": TensorProto.STRING}


@pytest.mark.parametrize("case", CASES, ids=lambda case: case[0])
def test_operator(case: Case) -> None:
    name, x, attributes = case
    outputs = ["label", "scores"] if name.endswith("Classifier") else ["y"]
    model = ml_model([ml_node(name, outputs, **attributes)], x, outputs, opset=3)
    expected = onnxruntime_gives(model, {"x": x})
    graph = import_model(model)
    verify(graph)
    found = list(interpret(graph, {"x": x}).values())
    for mine, theirs in zip(found, expected, strict=True):
        assert mine.shape == theirs.shape
        if theirs.dtype.kind == "O":
            assert mine.tolist() == theirs.tolist()
        else:
            assert mine.dtype == theirs.dtype
            np.testing.assert_allclose(mine, theirs, rtol=3e-5, atol=2e-6)


def test_features_are_picked_along_the_last_axis() -> None:
    nodes = [ml_node("ArrayFeatureExtractor", ["y"], "x", "index")]
    index = numpy_helper.from_array(np.array([[1, 0, 1]]), "index")
    for x in (X, X[0], np.stack([X, -X])):
        model = ml_model(nodes, x, ["y"])
        model.graph.initializer.append(index)
        (expected,) = onnxruntime_gives(model, {"x": x})
        np.testing.assert_array_equal(
            interpret(import_model(model, {"rows": len(x)}), {"x": x})["y"], expected
        )


@pytest.mark.parametrize("opset", [2, 4])
def test_not_a_number_is_a_key_of_late(opset: int) -> None:
    keys, values = [2.0, float("nan"), 0], [7.0, 8, 9]
    node = ml_node(
        "LabelEncoder", ["y"], keys_floats=keys, values_floats=values, default_float=-2.0
    )
    model = ml_model([node], NANS, ["y"], opset=opset)
    (expected,) = onnxruntime_gives(model, {"x": NANS})
    found = interpret(import_model(model), {"x": NANS})["y"]
    np.testing.assert_array_equal(found, expected)
    assert (8 in found) == (opset == 4)


def test_tensors_as_keys_and_values() -> None:
    keys = numpy_helper.from_array(np.array([0.25, 2, -4]), "keys")
    values = numpy_helper.from_array(np.array([5, 7, 9], np.int16), "values")
    default = numpy_helper.from_array(np.array([-3], np.int16), "default")
    node = ml_node(
        "LabelEncoder", ["y"], keys_tensor=keys, values_tensor=values, default_tensor=default
    )
    x = X.astype(np.float64)
    found = interpret(import_model(ml_model([node], x, ["y"])), {"x": x})["y"]
    assert found.dtype == np.int16
    assert found.tolist() == [[9, 7], [-3, -3], [-3, -3], [-3, -3], [-3, 5]]


def test_zip_map_gives_the_scores_and_names_them_in_the_metadata() -> None:
    zip_map = ml_node("ZipMap", ["y"], classlabels_strings=["no", "yes"])
    model = ml_model([zip_map], X, ["y"])
    entry = helper.make_map_type_proto(
        TensorProto.STRING, helper.make_tensor_type_proto(TensorProto.FLOAT, None)
    )
    model.graph.output[0].type.CopyFrom(helper.make_sequence_type_proto(entry))
    graph = import_model(model)
    assert graph.metadata["classes.y"] == '["no", "yes"]'
    np.testing.assert_array_equal(interpret(graph, {"x": X})["y"], X)


@pytest.mark.parametrize(
    ("name", "attributes", "code", "text"),
    [
        ("Scaler", {"offset": [1.0, 2, 3]}, "E015", "3 numbers for 2 features"),
        ("Normalizer", {"norm": "L3"}, "E015", "'L3'"),
        ("LinearRegressor", {"coefficients": [1.0]}, "E015", "1 coefficients"),
        ("LinearRegressor", {"coefficients": [1.0, 2], "post_transform": "X"}, "E015", "'X'"),
        ("LabelEncoder", {"keys_int64s": [1], "values_int64s": [1]}, "E101", "keys of i64"),
        ("LabelEncoder", {"keys_floats": [1.0], "values_int64s": [1, 2]}, "E015", "1 keys"),
        ("OneHotEncoder", {"cats_strings": ["a"]}, "E015", "of another kind"),
        ("SVMRegressor", {"rho": [1.0], "kernel_type": "COSINE"}, "E015", "'COSINE'"),
        ("DictVectorizer", {"string_vocabulary": ["a"]}, "E013", "cannot be imported"),
        ("CastMap", {}, "E013", "cannot be imported"),
    ],
)
def test_what_makes_no_sense_is_refused(
    name: str, attributes: dict[str, Any], code: str, text: str
) -> None:
    with pytest.raises(LeptonError) as raised:
        import_model(ml_model([ml_node(name, ["y"], **attributes)], X, ["y"]))
    assert raised.value.code == code
    assert text in raised.value.message
