"""Weights of realistic scales, changed by what is folded into them: nothing is lost on the way."""

from __future__ import annotations

import tracemalloc
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from leptonc.ir.blob import Array, Blob
from leptonc.ir.build import Builder
from leptonc.ir.graph import Graph, Op, Value
from leptonc.ir.interpret import interpret
from leptonc.ir.types import DType, TensorType
from leptonc.passes.base import parse_pipeline
from leptonc.passes.fusion.weights import multiplied
from leptonc.passes.manager import PassManager
from leptonc.passes.observers import VerifyEach
from leptonc.passes.pattern import Match, NoMatchError
from leptonc.passes.registry import Registry

FOLD = "fold-batch-norm,fold-scale,eliminate-dead-code"
CHANNELS = 16


def block(dtype: DType, statistics: dict[str, Array], *, before: bool = False) -> Graph:
    """A convolution with a batch normalisation behind or before it."""
    generator = np.random.default_rng(7)
    x = Value(TensorType(dtype, (2, CHANNELS, 5, 5)), "x")
    graph = Graph("block", [x], ["y"])
    build = Builder(graph)
    weight = generator.normal(0, 0.08, (CHANNELS, CHANNELS, 3, 3))
    constants = [build.const(Blob.of(weight.astype(dtype.numpy)))]
    rows = (statistics[name] for name in ("gamma", "beta", "mean", "variance"))
    constants += [build.const(Blob.of(row.astype(dtype.numpy))) for row in rows]
    if before:
        normal = build.op("batch_normalization", [x, *constants[1:]]).results[0]
        build.return_(build.conv(normal, constants[0]))
    else:
        product = build.conv(x, constants[0])
        build.return_(build.op("batch_normalization", [product, *constants[1:]]).results[0])
    return graph


def trained(seed: int = 3) -> dict[str, Array]:
    """Statistics as training leaves them, channels that died among them."""
    generator = np.random.default_rng(seed)
    gamma = generator.lognormal(-0.5, 0.6, CHANNELS)
    gamma[:3] = 1e-41, 0.0, -3e-8
    variance = generator.lognormal(-1.0, 1.5, CHANNELS)
    variance[:4] = 1e-12, 5.6e-45, 0.0, 3e2
    mean = generator.normal(0, 1, CHANNELS)
    return {
        "gamma": gamma, "beta": generator.normal(0, 0.5, CHANNELS), "mean": mean,
        "variance": variance,
    }  # fmt: skip


def folded(graph: Graph) -> list[Op]:
    PassManager(parse_pipeline(FOLD, Registry([])), [VerifyEach()]).run(graph)
    return [op for op in graph if op.name not in ("const", "return")]


def image(dtype: DType) -> dict[str, Array]:
    data = np.random.default_rng(1).normal(0, 1, (2, CHANNELS, 5, 5))
    return {"x": data.astype(dtype.numpy)}


@pytest.mark.parametrize("before", [False, True])
@pytest.mark.parametrize("dtype", [DType.F64, DType.F32, DType.F16, DType.BF16])
def test_a_trained_normalisation_is_folded_about_as_precisely(
    dtype: DType, *, before: bool
) -> None:
    statistics = trained()
    graph = block(dtype, statistics, before=before)
    kept = {op.name: op for op in graph}
    wide = {
        name: array.astype(dtype.numpy).astype(np.float64) for name, array in statistics.items()
    }
    blob = kept["conv"].operands[1].blob
    assert blob is not None
    feeds = image(dtype)
    plain = interpret(graph, feeds)["y"].astype(np.float64)
    truth = reference(feeds["x"].astype(np.float64), blob.array, wide, before=before)
    assert [op.name for op in folded(graph)] == ["conv"]
    result = interpret(graph, feeds)["y"].astype(np.float64)
    was, is_now = (float(np.abs(each - truth).max()) for each in (plain, result))
    finfo: Any = ml_dtypes.finfo
    epsilon = float(finfo(dtype.numpy).eps)
    assert is_now <= 2 * was + 4 * epsilon * float(np.abs(truth).max())


def reference(x: Array, weight: Array, rows: dict[str, Array], *, before: bool) -> Array:
    """The block in float64, written down without the operations of leptonc."""
    gamma, beta, mean, variance = (
        rows[name][:, None, None] for name in ("gamma", "beta", "mean", "variance")
    )
    factor = gamma / np.sqrt(variance + np.float64(np.float32(1e-5)))
    if before:
        x = (x - mean) * factor + beta
    windows = np.lib.stride_tricks.sliding_window_view(x, (3, 3), axis=(2, 3))
    y = np.einsum("nchwij,ocij->nohw", windows, weight.astype(np.float64))
    return y if before else (y - mean) * factor + beta


def test_a_factor_that_is_not_finite_is_not_folded() -> None:
    statistics = {**trained(), "variance": np.full(CHANNELS, -1.0)}
    names = [op.name for op in folded(block(DType.F32, statistics))]
    assert names == ["conv", "batch_normalization"]


def test_large_weights_are_scaled_without_a_wide_copy() -> None:
    data = np.ones((1 << 10, 1 << 14), np.float32)
    root = block(DType.F32, trained()).outputs[0].producer
    assert root is not None
    tracemalloc.start()
    result = multiplied(Match(root), data, np.full(1 << 14, 0.5))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1.5 * data.nbytes
    assert (result == 0.5).all()


@pytest.mark.parametrize(
    ("factor", "reason"), [(1e38, "not be finite"), (1e-40, "too small for its element type")]
)
def test_factors_that_ruin_a_weight_are_refused(factor: float, reason: str) -> None:
    graph = block(DType.F32, trained())
    root = graph.outputs[0].producer
    assert root is not None
    with pytest.raises(NoMatchError, match=reason):
        multiplied(Match(root), np.full((2, 3), 10.0, np.float32), np.array(factor))
