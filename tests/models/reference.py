# pyright: standard
"""What a model must give, and how near to it a correct answer is."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import cast

import numpy as np
import onnxruntime

from tests.models.inputs import Array, Feeds
from tests.models.zoo import Model

GROWTH = Path(__file__).with_name("error_growth.json")
ALLOWANCE = 5
"""A correct result may be off by this many times what equally right results differ by."""
FLOOR = 2e-6
"""Nearer than this nothing is compared; in units of the output's root mean square."""


def run_onnxruntime(path: Path, feeds: Feeds, *, optimise: bool = False) -> dict[str, Array]:
    """The outputs by onnxruntime on one thread, its graph optimisation off unless asked for."""
    options = onnxruntime.SessionOptions()
    levels = onnxruntime.GraphOptimizationLevel
    options.graph_optimization_level = levels.ORT_ENABLE_ALL if optimise else levels.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, cast(list[Array], session.run(names, feeds)), strict=True))


def spread(array: Array) -> float:
    """The root mean square."""
    return float(np.sqrt(np.mean(np.square(array, dtype=np.float64))))


def deviation(got: Array, expected: Array) -> float:
    """The largest difference, in units of the expected root mean square."""
    difference = np.abs(np.asarray(got, np.float64) - np.asarray(expected, np.float64))
    return float(difference.max()) / max(spread(expected), 1e-30)


def read_growth() -> dict[str, dict[str, float]]:
    """By model and output: how much results differ that are equally right, in spreads."""
    if not GROWTH.exists():
        return {}
    return json.loads(GROWTH.read_text(encoding="utf-8"))


def tolerance(model: Model, output: str) -> float:
    """The deviation from onnxruntime's output that float32 rounding explains."""
    return max(ALLOWANCE * read_growth()[model.name][output], FLOOR)


def check(model: Model, outputs: Mapping[str, Array], expected: Mapping[str, Array]) -> None:
    """Raise AssertionError where an output is further off than rounding explains."""
    assert list(outputs) == list(expected)
    for name, theirs in expected.items():
        ours = outputs[name]
        assert ours.shape == theirs.shape, f"{name} is {ours.shape}, should be {theirs.shape}"
        assert ours.dtype == theirs.dtype, f"{name} is {ours.dtype}, should be {theirs.dtype}"
        assert np.isfinite(ours).all(), f"{name} has values that are not finite"
        off, limit = deviation(ours, theirs), tolerance(model, name)
        assert off <= limit, f"{name} is off by {off:.3g} of its spread, at most {limit:.3g}"
        if model.classifies:
            agreement = np.mean(ours.argmax(-1) == theirs.argmax(-1))
            assert agreement == 1, f"{name} names {agreement:.1%} of the classes right"
