"""Real models quantised by onnxruntime's tools give what onnxruntime computes with them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import leptonc
from leptonc.ir.blob import Array
from tests.models.quantised import VARIANTS, Variant
from tests.models.reference import run_onnxruntime, spread

NEAR = 1e-3
"""Nearer than this are numbers that went through the same integers; in spreads of the output."""
SAME = 0.7
"""The least share of such numbers: where a step falls the other way, what follows differs too."""
STEP = 0.15
"""No number is further off: a few steps of quantisation, as they spread to the output."""


def check(variant: Variant, name: str, ours: Array, theirs: Array) -> None:
    assert ours.dtype == theirs.dtype
    assert ours.shape == theirs.shape
    difference = np.abs(ours.astype(np.float64) - theirs) / max(spread(theirs), 1e-30)
    assert difference.max() <= STEP, name
    assert (difference <= NEAR).mean() >= SAME, name
    if variant.model.classifies:
        np.testing.assert_array_equal(ours.argmax(-1), theirs.argmax(-1))


@pytest.mark.parametrize("variant", [pytest.param(v, id=v.name) for v in VARIANTS])
def test_a_quantised_model_gives_the_reference_numbers(variant: Variant, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    variant.write(path)
    session = leptonc.compile(path, isolated=False)
    for case in range(len(variant.model.cases)):
        feeds = variant.model.feeds(case)
        expected = run_onnxruntime(path, feeds)
        for name, ours in session.run(feeds).items():
            check(variant, name, ours, expected[name])
