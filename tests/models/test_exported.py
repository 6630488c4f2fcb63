"""Real models imported and exported again give onnxruntime the same numbers."""

from __future__ import annotations

from pathlib import Path

import pytest
from _pytest.mark import ParameterSet

from leptonc.ir.diagnostics import LeptonError
from leptonc.onnx_export import save_model
from leptonc.onnx_import import import_model
from tests.models.reference import check, run_onnxruntime
from tests.models.zoo import MODELS, Model


def parameters(*, exports: bool) -> list[ParameterSet]:
    """The models that can be exported, or the others."""
    return [
        pytest.param(model, id=model.name) for model in MODELS.values() if model.exports is exports
    ]


@pytest.mark.parametrize("model", parameters(exports=True))
def test_an_exported_model_gives_the_same_numbers(model: Model, tmp_path: Path) -> None:
    exported = tmp_path / "exported.onnx"
    save_model(import_model(model.path()), exported)
    for case in range(len(model.cases)):
        feeds = model.feeds(case)
        expected = run_onnxruntime(model.path(), feeds)
        check(model, run_onnxruntime(exported, feeds), expected)


@pytest.mark.parametrize("model", parameters(exports=False))
def test_a_check_at_run_time_is_not_left_out(model: Model, tmp_path: Path) -> None:
    with pytest.raises(LeptonError, match="extents"):
        save_model(import_model(model.path()), tmp_path / "exported.onnx")
