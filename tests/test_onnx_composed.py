"""Operators that import takes apart: random numbers, optimisers, n-grams, dropout that trains."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator

import leptonc
from leptonc.ir.blob import Array
from leptonc.ir.diagnostics import LeptonError
from leptonc.ir.interpret import interpret
from leptonc.onnx_import import import_model
from tests.peer import onnxruntime_gives
from tests.robustness.models import F32, model, node, untyped, value

F64, I32, BOOL = TensorProto.DOUBLE, TensorProto.INT32, TensorProto.BOOL


def compiled(proto: Any, threads: int = 1) -> Any:
    """The model ready to run."""
    return leptonc.compile(proto, target="cpu", threads=threads, cache=False, isolated=False)


def random_model(op: str, feed: Array, **attrs: Any) -> Any:
    """A model of one random operator."""
    x = value("x", feed.shape, helper.np_dtype_to_tensor_dtype(feed.dtype))
    return model([node(op, ["x"], ["y"], **attrs)], inputs=[x], opset=22)


P = np.linspace(0, 1, 5, dtype=np.float32).repeat(2000).reshape(5, 2000)


def test_seeds_decide() -> None:
    both = [
        node("RandomNormal", [], ["a"], shape=[300], seed=1.5),
        node("RandomNormal", [], ["b"], shape=[300], seed=1.5),
        node("RandomNormal", [], ["c"], shape=[300], seed=2.5),
        node("RandomUniform", [], ["d"], shape=[9000], low=2.0, high=4.0),
        node("RandomUniform", [], ["e"], shape=[9000], low=2.0, high=4.0),
    ]
    proto = model(both, inputs=[], outputs=[untyped(name) for name in "abcde"], opset=22)
    one, two = compiled(proto), compiled(proto, threads=2)
    first, second, third = one.run({}), one.run({}), two.run({})
    assert (first["a"] == first["b"]).all()
    assert (first["a"] != first["c"]).any()
    for name in "abc":
        assert (first[name] == second[name]).all()
        np.testing.assert_allclose(first[name], third[name], 1e-5, 1e-6)
    for run in (first, second, third):
        assert (run["d"] != run["e"]).any()
        assert run["d"].min() >= 2
        assert run["d"].max() < 4
        assert abs(run["d"].mean() - 3) < 0.05
    assert (first["d"] != second["d"]).any()


def test_like_another_tensor() -> None:
    x = np.zeros((3, 5), np.float64)
    y = compiled(random_model("RandomNormalLike", x)).run({"x": x})["y"]
    assert (y.dtype, y.shape) == (np.float64, (3, 5))
    y = compiled(random_model("RandomUniformLike", x.astype(np.int32), dtype=F32, seed=1.0))
    assert y.run({"x": x.astype(np.int32)})["y"].dtype == np.float32
    with pytest.raises(LeptonError, match="of i32 is not defined"):
        import_model(random_model("RandomUniformLike", x.astype(np.int32)))


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16])
def test_bernoulli(dtype: Any) -> None:
    p = P.astype(dtype)
    run = compiled(random_model("Bernoulli", p, dtype=BOOL)).run
    y = run({"x": p})["y"]
    assert y.dtype == np.bool_
    assert not y[0].any()
    assert y[4].all()
    np.testing.assert_allclose(y.mean(1), [0, 0.25, 0.5, 0.75, 1], atol=0.05)
    assert (run({"x": p})["y"] != y).any()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_multinomial(dtype: Any) -> None:
    shares = np.array([[0.1, 0.0, 0.6, 0.3], [0.25, 0.25, 0.5, 0.0]])
    with np.errstate(divide="ignore"):
        x = (np.log(shares) + 3).astype(dtype)
    y = compiled(random_model("Multinomial", x, sample_size=8000, dtype=I32)).run({"x": x})["y"]
    assert (y.dtype, y.shape) == (np.int32, (2, 8000))
    found = [np.bincount(row, minlength=4) / 8000 for row in y]
    np.testing.assert_allclose(found, shares, atol=0.025)
    assert found[0][1] == found[1][3] == 0


@pytest.mark.parametrize("seed", [None, 3])
def test_dropout_in_training(seed: int | None) -> None:
    attrs = {} if seed is None else {"seed": seed}
    proto = model(
        [node("Dropout", ["x", "r", "t"], ["y", "m"], **attrs)],
        inputs=[value("x", ("n", 50)), value("r", ()), value("t", (), BOOL)],
        outputs=[untyped("y"), untyped("m")], opset=22,
    )  # fmt: skip
    run = compiled(proto).run
    x = np.random.default_rng(0).standard_normal((40, 50)).astype(np.float32) + 5
    ratio, yes, no = np.array(0.25, np.float32), np.array(True), np.array(False)
    found = run({"x": x, "r": ratio, "t": yes})
    assert abs(found["m"].mean() - 0.75) < 0.05
    np.testing.assert_allclose(found["y"], np.where(found["m"], x / 0.75, 0), 1e-6)
    if seed is not None:
        expected = np.random.RandomState(seed).uniform(0, 1, x.shape) >= 0.25
        assert (found["m"] == expected).all()
    quiet = run({"x": x, "r": ratio, "t": no})
    assert quiet["m"].all()
    assert (quiet["y"] == x).all()
    assert run({"x": x, "r": np.array(0, np.float32), "t": yes})["m"].all()


OPTIMIZERS: Mapping[str, tuple[int, dict[str, Any]]] = {
    "Adagrad": (3, {"decay_factor": 0.1, "epsilon": 1e-3, "norm_coefficient": 0.01}),
    "Adam": (4, {"norm_coefficient": 0.01, "norm_coefficient_post": 0.02, "alpha": 0.8}),
    "Momentum": (
        3, {"norm_coefficient": 0.01, "alpha": 0.9, "beta": 0.7, "mode": "nesterov"},
    ),
}  # fmt: skip


@pytest.mark.parametrize("step", [0, 5])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_optimizers(name: str, step: int) -> None:
    kinds, attrs = OPTIMIZERS[name]
    domain, generator = "ai.onnx.preview.training", np.random.default_rng(1)
    names = [f"t{i}" for i in range(2 * kinds)]
    outputs = [f"o{i}" for i in range(2 * (kinds - 1))]
    proto = model(
        [helper.make_node(name, ["r", "t", *names], outputs, domain=domain, **attrs)],
        inputs=[value("r", ()), value("t", (), TensorProto.INT64),
                *(value(n, (3,) if i % 2 else (2, 2)) for i, n in enumerate(names))],
        outputs=[untyped(output) for output in outputs], domains=[domain],
    )  # fmt: skip
    feeds: dict[str, Any] = {"r": np.array(0.1, np.float32), "t": np.array(step)}
    for i, tensor in enumerate(names):
        feeds[tensor] = generator.random((3,) if i % 2 else (2, 2)).astype(np.float32)
    evaluator: Any = ReferenceEvaluator(proto)
    expected = evaluator.run(None, feeds)
    for mine, theirs in zip(compiled(proto).run(feeds).values(), expected, strict=True):
        assert mine.dtype == np.float32
        np.testing.assert_allclose(mine, theirs, 1e-5, 1e-6)


NGRAMS: dict[str, Any] = {
    "ngram_counts": [0, 3, 11], "ngram_indexes": [2, 0, 1, 6, 3, 4, 5, 7],
    "pool_int64s": [7, 5, 6, 5, 6, 7, 5, 5, 5, 9, 1, 5, 6, 7],
    "min_gram_length": 1, "max_gram_length": 3, "max_skip_count": 2,
}  # fmt: skip


@pytest.mark.parametrize("mode", ["TF", "IDF", "TFIDF"])
def test_ngrams(mode: str) -> None:
    attrs = NGRAMS | {"mode": mode, "weights": [0.5, 1.5, 2.0, 3.0, 0.25, 7.0, 1.0, 4.0]}
    proto = model(
        [node("TfIdfVectorizer", ["x"], ["y"], **attrs)],
        inputs=[value("x", ("n", "c"), I32)], opset=9,
    )  # fmt: skip
    proto.ir_version = 8
    run = compiled(proto).run
    for shape in ((3, 12), (1, 1), (2, 40)):
        x = np.random.default_rng(2).integers(5, 8, shape).astype(np.int32)
        (expected,) = onnxruntime_gives(proto, {"x": x})
        np.testing.assert_array_equal(run({"x": x})["y"], expected)
        np.testing.assert_array_equal(interpret(import_model(proto), {"x": x})["y"], expected)
    assert run({"x": np.zeros((0, 4), np.int32)})["y"].shape == (0, 8)
    assert not run({"x": np.zeros((2, 0), np.int32)})["y"].any()


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"mode": "BM25"}, "should be TF, IDF or TFIDF"),
        ({"pool_strings": ["a"], "pool_int64s": None}, "of strings is not supported"),
        ({"ngram_counts": [0, 3, 6]}, "do not part a pool"),
        ({"mode": "IDF", "weights": [1.0]}, "1 weights, should have 8"),
    ],
)
def test_ngrams_that_cannot_be(change: dict[str, Any], text: str) -> None:
    attrs = {"mode": "TF", **NGRAMS, **change}
    given = {name: item for name, item in attrs.items() if item is not None}
    proto = model(
        [node("TfIdfVectorizer", ["x"], ["y"], **given)],
        inputs=[value("x", (4,), TensorProto.INT64)],
    )
    with pytest.raises(LeptonError, match=text):
        import_model(proto)
