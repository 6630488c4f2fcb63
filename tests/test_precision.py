"""Models in bf16: what becomes it, how far they are off, and where that is told."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.parser
import pytest

import leptonc
from leptonc import precision as measuring
from leptonc.api import make_options
from leptonc.backends.cpu.target import LEVELS
from leptonc.driver import CompileReport, compile_model
from leptonc.ir.diagnostics import LeptonBug, LeptonError
from leptonc.ir.text import parse_graph
from leptonc.precision import NoNumbersError, TooLongError, deviation, deviations_of
from tests.commands import run
from tests.peer import onnxruntime_gives

Array = np.ndarray[Any, np.dtype[Any]]

MODEL = """
<ir_version: 10, opset_import: ["" : 20]>
net (float[rows,64] x, float[64,64] m) => (float[rows,64] y, int64[2] shape)
<float[64,256] w, float[256] b, float[256,64] v, float[64,8] u, float[8,64] t>
{
    first = MatMul (x, w)
    biased = Add (first, b)
    act = Relu (biased)
    second = MatMul (act, v)
    mixed = MatMul (second, m)
    narrow = MatMul (mixed, u)
    wide = MatMul (narrow, t)
    y = Softmax (wide)
    shape = Shape (x)
}"""


def model() -> onnx.ModelProto:
    """Two layers, a product of two inputs, and two layers with small weights."""
    return filled(MODEL)


def filled(text: str) -> onnx.ModelProto:
    """A model with random weights."""
    proto = onnx.parser.parse_model(text)
    generator = np.random.default_rng(0)
    for value in proto.graph.value_info:
        dims = [dim.dim_value for dim in value.type.tensor_type.shape.dim]
        data = (generator.standard_normal(dims) / 8).astype(np.float32)
        proto.graph.initializer.append(onnx.numpy_helper.from_array(data, value.name))
    del proto.graph.value_info[:]
    return proto


def feeds(rows: int) -> dict[str, Array]:
    generator = np.random.default_rng(rows)
    shapes = {"x": (rows, 64), "m": (64, 64)}
    return {
        name: (generator.standard_normal(shape) / 8).astype(np.float32)
        for name, shape in shapes.items()
    }


def compiled(folder: Path, **more: Any) -> CompileReport:
    options = make_options(
        more.pop("target", "cpu"), level=2, precision=more.pop("precision", "bf16"), dims={},
        threads=1, cache=False, isolated=False, **more,
    )  # fmt: skip
    return compile_model(model(), folder / "m.lepton", options)


def never(*_: object) -> Any:
    raise AssertionError("it is measured again")


def kept(folder: Path, cache: Path | bool) -> Any:
    """What is told of a compile with this cache."""
    options = make_options(
        "cpu", level=2, precision="bf16", dims={}, threads=1, cache=cache, isolated=False
    )
    return compile_model(model(), folder / "m.lepton", options).precision


def test_what_was_measured_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = kept(tmp_path, tmp_path / "cache")
    artefact = (tmp_path / "m.lepton").read_bytes()
    with monkeypatch.context() as patched:
        patched.setattr(measuring, "deviations_of", never)
        assert kept(tmp_path, tmp_path / "cache") == first
        with pytest.raises(LeptonBug, match="again"):
            kept(tmp_path, cache=False)
        with pytest.raises(LeptonBug, match="again"):
            kept(tmp_path, tmp_path / "another")
    assert first.deviations
    assert (tmp_path / "m.lepton").read_bytes() == artefact


def test_a_measurement_that_took_too_long_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(measuring.time, "monotonic", iter(range(0, 10**6, 100)).__next__)
        found = kept(tmp_path, tmp_path / "cache")
        assert found.unmeasured == "that takes more than 10 s"
    assert kept(tmp_path, tmp_path / "cache").deviations


def test_other_weights_are_measured_by_themselves(tmp_path: Path) -> None:
    """Their graph differs in nothing else."""
    first = kept(tmp_path, tmp_path / "cache").deviations
    proto = model()
    for tensor in proto.graph.initializer:
        tensor.raw_data = (onnx.numpy_helper.to_array(tensor) * np.float32(1.1)).tobytes()
    options = make_options(
        "cpu", level=2, precision="bf16", dims={}, threads=1, cache=tmp_path / "cache",
        isolated=False,
    )  # fmt: skip
    report = compile_model(proto, tmp_path / "other.lepton", options).precision
    assert report is not None
    assert report.deviations.keys() == first.keys()
    assert report.deviations != first


def test_a_model_in_bf16_is_off_by_its_roundings(tmp_path: Path) -> None:
    report = compiled(tmp_path)
    told = report.precision
    assert told is not None
    assert told.lowered == [["MatMul_0", "Add_1"], ["MatMul_3"]]
    assert {reason: len(products) for reason, products in told.kept.items()} == {
        "both operands are computed: no weight becomes smaller": 1,
        "the weight has fewer than 4096 numbers": 2,
    }
    assert list(told.deviations) == ["y"]
    assert 1e-6 < told.deviations["y"].mean < 2**-8
    exact = leptonc.compile(model(), cache=False, isolated=False)
    with leptonc.load(tmp_path / "m.lepton") as session:
        sizes = [spec.size for spec in session.manifest.weights if spec.dtype == "u16"]
        assert sizes == [2 * 64 * 256, 2 * 64 * 256]
        for rows in (1, 5, 12, 150):
            got, want = session.run(feeds(rows)), exact.run(feeds(rows))
            off = deviation(got["y"], want["y"])
            assert 1e-7 < off.mean <= off.largest * 10 < 2**-5
            np.testing.assert_array_equal(got["shape"], want["shape"])


def test_the_report_is_in_the_artefact_and_in_what_commands_print(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, artefact = tmp_path / "m.onnx", tmp_path / "m.lepton"
    source.write_bytes(model().SerializeToString())
    assert run("compile", source, "--precision", "bf16", "--json") == 0
    told = json.loads(capsys.readouterr().out)["precision"]
    assert told["precision"] == "bf16"
    assert len(told["lowered"]) == 2
    assert run("inspect", artefact, "--json") == 0
    assert json.loads(capsys.readouterr().out)["precision"] == told
    assert run("inspect", artefact) == 0
    table = capsys.readouterr().out
    assert "precision: in bf16" in table
    assert "2 products" in table
    words = " ".join(table.replace("│", " ").split())
    assert all(reason in words for reason in told["kept"])
    assert "of the largest" in table


def test_fp32_has_no_report(tmp_path: Path) -> None:
    assert compiled(tmp_path, precision="fp32").precision is None
    with leptonc.load(tmp_path / "m.lepton") as session:
        assert "precision" not in session.manifest.provenance


@pytest.mark.parametrize("level", [0, 1])
def test_every_level_of_optimisation_has_the_pass(tmp_path: Path, level: int) -> None:
    options = make_options(
        "cpu", level=level, precision="bf16", dims={}, threads=1, cache=False, isolated=False
    )
    told = compile_model(model(), tmp_path / "m.lepton", options).precision
    assert told is not None
    assert bool(told.lowered) == (level > 0)


@pytest.mark.parametrize("isa", ["avx2", "sse", "generic"])
def test_every_cpu_has_kernels(tmp_path: Path, isa: str) -> None:
    told = compiled(tmp_path, target=f"cpu:isa={isa}").precision
    assert told is not None
    assert len(told.lowered) == 2


IMAGES = """
<ir_version: 10, opset_import: ["" : 20]>
net (float[1,3,24,20] x) => (float[1,48] y)
<float[64,3,3,3] a, float[64] ab, float[64,64,3,3] b, float[64,1,3,3] d, float[96,64,1,1] e,
 float[96,48,3,3] g, float[48,96] v, float[48] c>
{
    first = Conv <pads = [1, 1, 1, 1]> (x, a, ab)
    act = Relu (first)
    tiles = Conv <pads = [1, 1, 1, 1]> (act, b)
    pooled = MaxPool <kernel_shape = [2, 2], strides = [2, 2]> (tiles)
    deep = Conv <group = 64, pads = [1, 1, 1, 1]> (pooled, d)
    sum = Add (deep, pooled)
    point = Conv <strides = [2, 2]> (sum, e)
    swish = HardSwish (point)
    parts = Conv <group = 2, pads = [1, 1, 1, 1]> (swish, g)
    mean = GlobalAveragePool (parts)
    flat = Flatten (mean)
    y = Gemm <transB = 1> (flat, v, c)
}"""
WIDE = [level.name for level in LEVELS if level.lanes == 16 or "vnni" in level.name]


@pytest.fixture(scope="module")
def images() -> onnx.ModelProto:
    """A convolutional network with layers of every kind that has a kernel of its own."""
    return filled(IMAGES)


@pytest.mark.parametrize("isa", WIDE)
def test_kernels_for_other_cpus_compute_the_same(images: onnx.ModelProto, isa: str) -> None:
    """Spelled out in instructions of AVX2, kernels of every form are run on any machine."""
    x = np.random.default_rng(1).standard_normal((1, 3, 24, 20)).astype(np.float32)
    target = f"cpu:isa={isa},spelled_out=true"
    (want,) = onnxruntime_gives(images, {"x": x})
    limits = {"fp32": 3e-6, **({"bf16": 2**-6} if isa == "avx512-bf16" else {})}
    for precision, most in limits.items():
        with leptonc.compile(
            images, target=target, precision=precision, threads=1, cache=False, isolated=False
        ) as session:
            off = deviation(session.run({"x": x})["y"], want)
        assert off.largest < most
        assert off.mean < most
        told = session.manifest.provenance.get("precision")
        assert told is None or len(told["lowered"]) == 5


def test_options_that_are_true_or_false() -> None:
    with pytest.raises(LeptonError, match="option spelled_out of target cpu is 'yes'"):
        leptonc.compile(model(), target="cpu:spelled_out=yes")


def test_what_is_not_measured_says_why() -> None:
    graph = parse_graph(
        "graph @g(%x: f32[n,2]) -> (y: f32[n,2]) {\n"
        "  %w = const() {value = random(1)} : f32[2,2]\n"
        '  %y = linear(%x, %w) {rounds = "weight"} : f32[n,2]\n'
        "  return %y\n}\n"
    )
    assert deviations_of(graph, 10.0)["y"].mean > 1e-5
    with pytest.raises(TooLongError):
        deviations_of(graph, -1.0)


def test_deviations_count_what_is_no_number() -> None:
    one, nan = np.ones(3, np.float32), np.array([1, np.nan, 1], np.float32)
    assert deviation(nan, one).largest == float("inf")
    assert deviation(nan, nan).largest == 0
    got, want = (np.array([1, 0, last], np.float32) for last in (-2, -4))
    assert deviation(got, want).largest == 0.5


def test_unknown_precisions_are_refused(tmp_path: Path) -> None:
    with pytest.raises(LeptonError, match="precision 'fp8' is not available on target cpu") as e:
        compiled(tmp_path, precision="fp8")
    assert e.value.notes == ["available: fp32, bf16; fp32 leaves the model's own types"]


def test_outputs_without_numbers_are_not_measured() -> None:
    graph = parse_graph(
        "graph @g(%x: f32[2,3]) -> (y: f32[2,3]) {\n"
        "  %z = sub(%x, %x) : f32[2,3]\n  %y = div(%z, %z) : f32[2,3]\n  return %y\n}\n",
        "test",
    )
    with pytest.raises(NoNumbersError), np.errstate(all="ignore"):
        deviations_of(graph, 10)
