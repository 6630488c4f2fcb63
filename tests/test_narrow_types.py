"""Models whose inputs, weights and outputs are of types below 16 bits, through artefacts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import onnx
import onnx.parser
import pytest
from onnx import numpy_helper
from onnx.reference import ReferenceEvaluator

import leptonc
from leptonc.artifact import Artifact
from leptonc.cli.main import main
from leptonc.runtime import load

MODEL = """
<ir_version: 11, opset_import: ["" : 25]>
narrow (float[n,32] x, int4[n,4] codes)
    => (int4[n,32] quantized, int4[4,n] turned, float8e8m0[4,n] powers, float8e5m2[k,16] shaped,
        uint2[5] stored, float4e2m1[n,32] short, bool[n,32] endless)
{
    wide = DequantizeLinear<axis: int = 0, block_size: int = 8>(weight, scales)
    other = Cast<to: int = 1>(factors)
    inner = MatMul(x, wide)
    product = MatMul(inner, other)
    quantized = QuantizeLinear(product, scale, zero_point)
    turned = Transpose<perm: ints = [1, 0]>(codes)
    real = DequantizeLinear(turned, scale, zero_point)
    powers = Cast<to: int = 24, round_mode: string = "nearest">(real)
    byte = Cast<to: int = 19, saturate: int = 0>(product)
    shaped = Reshape(byte, extents)
    stored = Identity(pairs)
    short = Cast<to: int = 23>(product)
    endless = IsInf(byte)
}"""


def narrow_model() -> onnx.ModelProto:
    """A model with weights that ONNX packs two or four a byte, and exact sums."""
    rng = np.random.default_rng(0)
    weights = {
        "weight": rng.integers(-8, 8, (32, 6)).astype(ml_dtypes.int4),
        "scales": 2.0 ** rng.integers(-2, 3, (4, 6)).astype(np.float32),
        "factors": rng.standard_normal((6, 32)).astype(ml_dtypes.float4_e2m1fn),
        "pairs": np.array([3, 1, 2, 0, 1]).astype(ml_dtypes.uint2),
        "scale": np.array(0.25, np.float32),
        "zero_point": np.array(-3).astype(ml_dtypes.int4),
        "extents": np.array([-1, 16]),
    }
    model = onnx.parser.parse_model(MODEL)
    model.graph.initializer.extend(numpy_helper.from_array(a, name) for name, a in weights.items())
    return model


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model as an artefact."""
    path = tmp_path_factory.mktemp("narrow") / "narrow.lepton"
    with leptonc.compile(narrow_model(), output=path):
        return path


@pytest.mark.parametrize("rows", [3, 6])
def test_a_model_of_narrow_types_gives_what_the_reference_gives(artifact: Path, rows: int) -> None:
    rng = np.random.default_rng(rows)
    feeds = {
        "x": rng.integers(-999, 999, (rows, 32)).astype(np.float32),
        "codes": rng.integers(-8, 8, (rows, 4)).astype(ml_dtypes.int4),
    }
    evaluator: Any = ReferenceEvaluator(narrow_model())
    theirs = evaluator.run(None, feeds)
    with load(artifact) as session:
        mine = session.run(feeds)
    for (name, found), expected in zip(mine.items(), theirs, strict=True):
        assert found.dtype == expected.dtype, name
        np.testing.assert_array_equal(found.view(np.uint8), expected.view(np.uint8), err_msg=name)
    assert mine["endless"].any()


def test_weights_take_one_byte_an_element(artifact: Path) -> None:
    weights = {weight.name: weight for weight in Artifact.open(artifact).manifest.weights}
    assert weights["pairs"].dtype == "u2"
    assert weights["pairs"].size == 5


def test_the_command_line_reads_and_writes_narrow_types(artifact: Path, tmp_path: Path) -> None:
    codes = np.array([[-8, 7, 0, 1]]).astype(ml_dtypes.int4)
    np.save(tmp_path / "codes.npy", codes)
    given = ["--input", f"codes={tmp_path / 'codes.npy'}", "--random", "0", "--dim", "n=1"]
    main(["run", str(artifact), *given, "--output-dir", str(tmp_path / "out")])
    turned = np.load(tmp_path / "out" / "output_1.npy").view(ml_dtypes.int4)
    np.testing.assert_array_equal(turned, codes.T)
    shaped = np.load(tmp_path / "out" / "output_3.npy")
    assert shaped.dtype.itemsize == 1
