"""What exporters spell out is recognised: models of many architectures, by two exporters each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from leptonc.driver import run_passes
from leptonc.ir.blob import Array
from leptonc.ir.dims import Dim, substitute
from leptonc.ir.graph import Graph
from leptonc.onnx_export import save_model
from leptonc.onnx_import import import_model
from leptonc.pipelines import DEFAULT_LEVEL, OPTIMIZE, WRITE
from leptonc.tools.materialize import write_materialized
from tests.models.reference import deviation, run_onnxruntime

FOLDER = Path(__file__).parents[1] / "data" / "exports"

WHOLE = (
    "attention", "rotary_embedding", "layer_normalization", "rms_normalization",
    "group_normalization", "gelu", "swish", "hard_swish", "hard_sigmoid",
)  # fmt: skip
"""Operations that exporters spell out, and that are counted."""

PIECES = (
    "softmax", "erf", "tanh", "exp", "pow", "sqrt", "reciprocal", "is_nan", "einsum",
    "batch_normalization", "instance_normalization",
)  # fmt: skip
"""What is left where one of them was not recognised."""

Counts = Mapping[str, int]

EXPECTED: Mapping[str, Counts] = {
    "bert": {"attention": 2, "layer_normalization": 5, "gelu": 2},
    "gpt2": {"attention": 2, "layer_normalization": 5, "gelu": 2},
    "llama": {"attention": 2, "rotary_embedding": 4, "rms_normalization": 5, "swish": 2},
    "gemma2": {"attention": 2, "rotary_embedding": 4, "rms_normalization": 9, "gelu": 2},
    "gpt_neox": {"attention": 2, "rotary_embedding": 4, "layer_normalization": 5, "gelu": 2},
    "gptj": {"attention": 2, "rotary_embedding": 4, "layer_normalization": 3, "gelu": 2},
    "t5": {"attention": 6, "rms_normalization": 12, "gelu": 4},
    "bart": {"attention": 6, "layer_normalization": 12, "gelu": 4},
    "whisper": {"attention": 6, "layer_normalization": 12, "gelu": 6},
    "vit": {"attention": 2, "layer_normalization": 5, "gelu": 2},
    "clip": {"attention": 2, "layer_normalization": 5, "swish": 2},
    "timm_vit": {"attention": 2, "layer_normalization": 5, "gelu": 2},
    "swin": {"attention": 4, "layer_normalization": 11, "gelu": 4},
    "convnext": {"layer_normalization": 9, "gelu": 4},
    "mixer": {"layer_normalization": 5, "gelu": 4},
    "mobilenet_v3": {"hard_swish": 6, "hard_sigmoid": 3},
    "efficientnet": {"swish": 11},
    "resnet": {},
    "unet": {"attention": 1, "group_normalization": 5, "swish": 5},
    "mistral": {"attention": 2, "rotary_embedding": 4, "rms_normalization": 5, "swish": 2},
    "gemma3": {"attention": 2, "rotary_embedding": 4, "rms_normalization": 13, "gelu": 2},
    "bloom": {"attention": 2, "layer_normalization": 6, "gelu": 2},
    "deberta": {"attention": 2, "layer_normalization": 5, "gelu": 2},
    "modernbert": {"attention": 2, "rotary_embedding": 4, "layer_normalization": 5, "gelu": 2},
    "conformer": {"attention": 2, "layer_normalization": 12, "gelu": 8},
    "sam": {"attention": 2, "layer_normalization": 6, "gelu": 2},
    "detr": {"attention": 5, "layer_normalization": 11},
    "suppressed": {},
    "complex_rotary": {"attention": 1, "rotary_embedding": 2, "rms_normalization": 1},
    "llama_half": {"attention": 2, "rotary_embedding": 4, "rms_normalization": 5, "swish": 2},
    "mobilevit": {"attention": 9, "layer_normalization": 21, "swish": 34},
    "seresnet": {},
    "xcit": {"attention": 4, "layer_normalization": 11, "gelu": 9},
    "swinv2": {"attention": 2, "layer_normalization": 7, "gelu": 2},
}
"""By architecture, what its models have of each."""

APART: Mapping[str, Counts] = {
    "gpt_neox_eager_script": {**EXPECTED["gpt_neox"], "layer_normalization": 3}
}
"""Two layers whose normalisation before a scale is the same, and made once."""

ALONE: Mapping[str, Counts] = {"conformer": {"instance_normalization": 1}}
"""What looks like a piece, and is all of what the model has."""

ROUNDING: Mapping[str, float] = {"llama_half": 2e-2}
"""How far results may be off, where it is not what f32 explains."""

FILES = sorted(FOLDER.glob("*.onnx"))


def feeds(graph: Graph) -> dict[str, Array]:
    """Seeded inputs; the last places of the last text are hidden."""
    generator = np.random.default_rng(0)
    result: dict[str, Array] = {}
    for value in graph.inputs:
        sizes: dict[str, Dim] = {"batch": 2, "length": 7}
        shape = value.type.with_shape(*(substitute(dim, sizes) for dim in value.type.shape)).extents
        if value.type.dtype.is_float:
            result[value.name] = generator.standard_normal(shape).astype(np.float32)
        elif "mask" in value.name:
            result[value.name] = np.ones(shape, np.int64)
            result[value.name][-1, -2:] = 0
        else:
            result[value.name] = generator.integers(3, 90, shape)
    return result


def test_each_architecture_is_there_in_two_ways() -> None:
    ways = Counter(path.stem.rsplit("_", 2)[0] for path in FILES)
    assert set(ways) == set(EXPECTED)
    assert min(ways.values()) >= 2


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_nothing_is_left_in_pieces(path: Path, tmp_path: Path) -> None:
    source = tmp_path / "source.onnx"
    write_materialized(path, source)
    graph = import_model(source)
    data = feeds(graph)
    run_passes(graph, OPTIMIZE[DEFAULT_LEVEL])
    found = Counter(op.name for op in graph.walk())
    architecture = path.stem.rsplit("_", 2)[0]
    expected = APART.get(path.stem) or EXPECTED[architecture]
    assert {name: found[name] for name in WHOLE if found[name]} == expected
    left = {name: found[name] for name in PIECES if found[name]}
    assert left == ALONE.get(architecture, {})
    run_passes(graph, WRITE[DEFAULT_LEVEL])
    target = tmp_path / "target.onnx"
    save_model(graph, target)
    results = run_onnxruntime(target, data)
    for name, want in run_onnxruntime(source, data).items():
        assert deviation(results[name], want) < ROUNDING.get(architecture, 2e-5)


@pytest.mark.parametrize("exporter", ["script", "dynamo"])
def test_selected_boxes_are_gathered_by_one_row(exporter: str, tmp_path: Path) -> None:
    source = tmp_path / "source.onnx"
    write_materialized(FOLDER / f"suppressed_eager_{exporter}.onnx", source)
    graph = import_model(source)
    run_passes(graph, f"{OPTIMIZE[DEFAULT_LEVEL]},{WRITE[DEFAULT_LEVEL]}")
    (selected,) = (op.results[0] for op in graph.walk() if op.name == "non_max_suppression")
    (column,) = selected.users
    assert (column.name, column.result.type.rank) == ("gather", 1)
    assert {reader.name for reader in column.result.users} == {"gather"}
    assert len(column.result.users) == 3
