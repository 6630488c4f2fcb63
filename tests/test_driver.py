"""The whole way at every level, from every kind of source, at fixed and open extents."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.parser
import pytest

import leptonc
from leptonc.api import make_options
from leptonc.driver import compile_model
from leptonc.ir.diagnostics import LeptonError
from tests.peer import onnxruntime_gives

MODEL = """
<ir_version: 10, opset_import: ["" : 20]>
net (float[batch,3,height,8] x) => (float[batch,10] y, int64[4] shape)
<float[6,3,3,3] w, float[6] b, float[10,6] v, float[10] c>
{
    conv = Conv <pads = [1, 1, 1, 1]> (x, w, b)
    act = HardSwish(conv)
    both = Add(act, act)
    mean = GlobalAveragePool(both)
    flat = Flatten(mean)
    logits = Gemm <transB = 1> (flat, v, c)
    y = Softmax(logits)
    shape = Shape(x)
}"""


def model() -> onnx.ModelProto:
    """A small convolutional network with random weights, open in two extents."""
    proto = onnx.parser.parse_model(MODEL)
    generator = np.random.default_rng(0)
    for value in proto.graph.value_info:
        dims = [dim.dim_value for dim in value.type.tensor_type.shape.dim]
        data = generator.standard_normal(dims).astype(np.float32)
        proto.graph.initializer.append(onnx.numpy_helper.from_array(data, value.name))
    del proto.graph.value_info[:]
    return proto


def feeds(batch: int, height: int) -> dict[str, np.ndarray[Any, np.dtype[Any]]]:
    """An image of the given size."""
    data = np.random.default_rng(height).standard_normal((batch, 3, height, 8))
    return {"x": data.astype(np.float32)}


def check(session: leptonc.Session, batch: int, height: int) -> None:
    """The session agrees with onnxruntime on one size."""
    given = feeds(batch, height)
    expected = dict(zip(("y", "shape"), onnxruntime_gives(model(), given), strict=True))
    found = session.run(given)
    np.testing.assert_allclose(found["y"], expected["y"], rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(found["shape"], expected["shape"])


@pytest.mark.parametrize("level", [0, 1, 2, 3])
def test_every_level_gives_the_same_numbers(level: int) -> None:
    """Levels differ in speed, not in what comes out; one artefact serves all sizes."""
    with leptonc.compile(model(), level=level, threads=1, isolated=False) as session:
        for batch, height in ((1, 8), (2, 5), (3, 1)):
            check(session, batch, height)


def test_fixed_extents_are_checked_by_the_artefact() -> None:
    """A size that was fixed is part of the signature; its memory is planned ahead."""
    with leptonc.compile(
        model(), dims={"batch": 2, "height": 4}, threads=1, isolated=False
    ) as session:
        check(session, 2, 4)
        assert session.signature.inputs[0].shape == (2, 3, 4, 8)
        assert session.manifest.plan["peak"] > 0
        with pytest.raises(LeptonError, match="axis 0 is 1, should be 2"):
            session.run(feeds(1, 4))


def test_every_kind_of_source_gives_the_same_artefact(tmp_path: Path) -> None:
    """A path, bytes, a ModelProto and a Graph are one model."""
    from leptonc.onnx_import import import_model

    path = tmp_path / "net.onnx"
    path.write_bytes(model().SerializeToString())
    sources: list[Any] = [path, str(path), path.read_bytes(), model(), import_model(model())]
    results: list[bytes] = []
    for number, source in enumerate(sources):
        output = tmp_path / f"{number}.lepton"
        leptonc.compile(source, threads=1, output=output, isolated=False).close()
        results.append(output.read_bytes())
    assert all(result == results[0] for result in results)


def test_passes_can_be_chosen_and_seen(tmp_path: Path) -> None:
    """Other passes give the same numbers, and the report says which rules applied."""
    options = make_options(
        "cpu", level=2, precision="fp32", dims={}, threads=1, cache=False, isolated=False,
        pipeline="simplify,form-linear",
    )  # fmt: skip
    report = compile_model(model(), tmp_path / "net.lepton", options)
    assert report.context is not None
    assert report.context.counts["group-operations"] >= report.kernels > 0
    assert report.weight_bytes > 0
    assert set(report.seconds) == {"import", "passes", "prepare", "kernels", "artifact"}
    with leptonc.load(tmp_path / "net.lepton") as session:
        check(session, 2, 3)


def test_a_failed_compilation_leaves_no_file(tmp_path: Path) -> None:
    """Neither half a file nor a temporary one, and an older artefact stays."""
    output = tmp_path / "net.lepton"
    output.write_bytes(b"older")
    broken = onnx.parser.parse_model(MODEL.replace("HardSwish", "NoSuchThing"))
    with pytest.raises(LeptonError, match="NoSuchThing"):
        leptonc.compile(broken, output=output)
    assert [path.name for path in tmp_path.iterdir()] == ["net.lepton"]
    assert output.read_bytes() == b"older"


@pytest.mark.parametrize(
    ("options", "message", "code"),
    [
        ({"level": 4}, "no optimisation level 4", "E804"),
        ({"threads": -1}, "-1 threads", "E705"),
        ({"target": "gpu"}, "no target 'gpu'", "E801"),
        ({"precision": "fp64"}, "precision 'fp64' is not available", "E803"),
        ({"dims": {"bach": 1}}, "bach", None),
    ],
)
def test_options_that_do_not_exist_are_refused(
    options: dict[str, Any], message: str, code: str | None
) -> None:
    """The error names what was asked for."""
    with pytest.raises(LeptonError, match=message) as error:
        leptonc.compile(model(), **options)
    assert code in (None, error.value.code)
