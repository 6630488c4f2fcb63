"""Real models imported and exported again give onnxruntime the same numbers."""

from __future__ import annotations

from pathlib import Path

import pytest

from leptonc.onnx_export import save_model
from leptonc.onnx_import import import_model
from tests.models.inputs import notes
from tests.models.reference import check, run_onnxruntime
from tests.models.zoo import MODELS, Model


@pytest.mark.parametrize("model", [pytest.param(each, id=each.name) for each in MODELS.values()])
def test_an_exported_model_gives_the_same_numbers(model: Model, tmp_path: Path) -> None:
    exported = tmp_path / "exported.onnx"
    save_model(import_model(model.path()), exported)
    for case in range(len(model.cases)):
        feeds = model.feeds(case)
        expected = run_onnxruntime(model.path(), feeds)
        check(model, run_onnxruntime(exported, feeds), expected)


def test_a_check_at_run_time_is_not_left_out(tmp_path: Path) -> None:
    model, exported = MODELS["silero_vad_half"], tmp_path / "exported.onnx"
    save_model(import_model(model.path()), exported)
    feeds = model.feeds() | {"input": notes(1, 1600)}  # more than one vector comes of these
    for path, operator in ((model.path(), "LSTM"), (exported, "Squeeze")):
        with pytest.raises(Exception, match=f"running {operator} node"):
            run_onnxruntime(path, feeds)
