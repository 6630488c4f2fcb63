"""Real models come out of `leptonc optimize` smaller, and computing the same."""

from __future__ import annotations

from pathlib import Path

import pytest

from leptonc.onnx_compare import Comparison
from leptonc.onnx_optimize import OptimizeOptions, optimize_model
from tests.models.reference import check, run_onnxruntime
from tests.models.zoo import MODELS

NAMES = ("basic_pitch", "magika", "ppocr_cls", "silero_vad_16k_op15", "silero_vad_op18_ifless")


@pytest.mark.parametrize("name", NAMES)
def test_a_model_gets_smaller_and_stays_what_it_is(name: str, tmp_path: Path) -> None:
    """The comparison that --check makes agrees with the one on the model's own inputs."""
    model, path = MODELS[name], tmp_path / "better.onnx"
    report = optimize_model(model.path(), path, OptimizeOptions(comparison=Comparison()))
    before, after = report.nodes
    assert after < before
    assert report.verdict is not None
    assert report.verdict.is_fine
    feeds = model.feeds(0)
    check(model, run_onnxruntime(path, feeds), run_onnxruntime(model.path(), feeds))


@pytest.mark.parametrize("name", ["magika", "silero_vad_op18_ifless"])
def test_a_model_written_for_an_older_opset_is_the_same(name: str, tmp_path: Path) -> None:
    model, path = MODELS[name], tmp_path / "older.onnx"
    options = OptimizeOptions(opset=15, comparison=Comparison())
    assert optimize_model(model.path(), path, options).opsets[""] == 15
    feeds = model.feeds(0)
    check(model, run_onnxruntime(path, feeds), run_onnxruntime(model.path(), feeds))
