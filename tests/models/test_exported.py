"""Real models imported and exported again give onnxruntime the same numbers."""

from __future__ import annotations

from pathlib import Path

import pytest

from leptonc.onnx_export import save_model
from leptonc.onnx_import import import_model
from tests.models.reference import check, run_onnxruntime
from tests.models.zoo import SUPPORTED, Model


@pytest.mark.parametrize("model", [pytest.param(model, id=model.name) for model in SUPPORTED])
def test_an_exported_model_gives_the_same_numbers(model: Model, tmp_path: Path) -> None:
    exported = tmp_path / "exported.onnx"
    save_model(import_model(model.path()), exported)
    for case in range(len(model.cases)):
        feeds = model.feeds(case)
        expected = run_onnxruntime(model.path(), feeds)
        check(model, run_onnxruntime(exported, feeds), expected)
