"""Older forms of operators mean what onnxruntime says they mean."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from leptonc.ir.blob import Array
from leptonc.ir.diagnostics import LeptonError
from leptonc.ir.interpret import interpret
from leptonc.ir.verify import verify
from leptonc.onnx_import import import_model
from tests.peer import onnxruntime_gives
from tests.robustness.models import const, model, node, untyped, value

CASES: dict[str, tuple[int, tuple[int, ...], str, dict[str, Any], dict[str, Any]]] = {
    "softmax flattens": (11, (2, 3, 4), "Softmax", {"axis": 1}, {}),
    "softmax at the end": (11, (2, 3, 4), "Softmax", {"axis": 2}, {}),
    "softmax by default": (7, (2, 3, 4), "Softmax", {}, {}),
    "softmax over all": (11, (2, 3, 4), "Softmax", {"axis": 0}, {}),
    "softmax before ones": (11, (2, 3, 1, 1), "Softmax", {"axis": 1}, {}),
    "log softmax": (11, (2, 3, 4), "LogSoftmax", {"axis": -2}, {}),
    "hardmax": (11, (2, 3, 4), "Hardmax", {}, {}),
    "clip": (6, (5,), "Clip", {"min": -0.5, "max": 0.25}, {}),
    "clip below": (10, (5,), "Clip", {"min": -0.5}, {}),
    "squeeze": (11, (2, 1, 3, 1), "Squeeze", {"axes": [1]}, {}),
    "squeeze all": (11, (2, 1, 3, 1), "Squeeze", {}, {}),
    "unsqueeze": (11, (2, 3), "Unsqueeze", {"axes": [0, -1]}, {}),
    "reduce": (11, (2, 3, 4), "ReduceSum", {"axes": [0, 2], "keepdims": 0}, {}),
    "reduce all": (17, (2, 3, 4), "ReduceMean", {}, {}),
    "reduce l2": (13, (2, 3, 4), "ReduceL2", {"axes": [-1]}, {}),
    "slice": (9, (5, 6), "Slice", {"starts": [1, -3], "ends": [4, 100], "axes": [0, 1]}, {}),
    "slice in front": (9, (5, 6), "Slice", {"starts": [1], "ends": [4]}, {}),
    "pad": (10, (2, 3), "Pad", {"pads": [1, 0, 0, 2], "value": 2.5}, {}),
    "pad reflecting": (10, (2, 3), "Pad", {"pads": [1, 0, 0, 2], "mode": "reflect"}, {}),
    "top k": (9, (3, 5), "TopK", {"k": 2, "axis": 1}, {}),
    "split": (11, (6, 2), "Split", {"split": [1, 5]}, {}),
    "split evenly": (13, (6, 2), "Split", {}, {}),
    "dropout": (10, (2, 3), "Dropout", {"ratio": 0.9}, {}),
    "upsample 7": (7, (1, 1, 2, 3), "Upsample", {"scales": [1.0, 1.0, 2.0, 3.0]}, {}),
    "upsample 9": (9, (1, 1, 2, 3), "Upsample", {}, {"s": [1, 1, 2, 2.5]}),
    "upsample linear": (9, (1, 1, 2, 3), "Upsample", {"mode": "linear"}, {"s": [1, 1, 2, 2]}),
    "resize 10": (10, (1, 1, 2, 3), "Resize", {}, {"s": [1, 1, 2, 2.5]}),
    "resize 10 linear": (10, (1, 1, 2, 3), "Resize", {"mode": "linear"}, {"s": [1, 1, 2, 2]}),
    "resize 11": (11, (1, 1, 2, 3), "Resize", {}, {"roi": [], "s": [1, 1, 2, 2]}),
    "batch norm": (
        8, (2, 3, 4), "BatchNormalization", {},
        {"scale": [1, 2, 3], "bias": [1, 0, 1], "mean": [0, 1, 0], "var": [1, 2, 3]}),
    "p relu": (7, (2, 3), "PRelu", {}, {"slope": [0.1, 0.2, 0.3]}),
    "average pool": (
        7, (1, 1, 4, 4), "AveragePool", {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}, {}),
    "group norm": (
        18, (2, 4, 3), "GroupNormalization", {"num_groups": 2}, {"scale": [1, 2], "bias": [0, 1]}),
    "dft": (17, (2, 5, 2), "DFT", {"axis": 1}, {}),
    "grid sample": (
        16, (1, 1, 3, 3), "GridSample", {"mode": "bilinear"}, {"grid": [[[[0.3, -0.4], [1, 1]]]]}),
}  # fmt: skip


def old_model(name: str) -> tuple[Any, Array]:
    opset, shape, op, attributes, operands = CASES[name]
    outputs = ["y", "z"] if op in ("Split", "TopK") else ["y"]
    source = model(
        [node(op, ("x", *operands), outputs, **attributes)],
        inputs=[value("x", shape)],
        outputs=[untyped(output) for output in outputs],
        initializers=[const(key, data, np.float32) for key, data in operands.items()],
        opset=opset,
    )
    x = np.random.default_rng(3).standard_normal(shape).astype(np.float32)
    return source, x


@pytest.mark.parametrize("name", CASES)
def test_as_onnxruntime(name: str) -> None:
    source, x = old_model(name)
    graph = import_model(source)
    verify(graph)
    ours = interpret(graph, {"x": x}).values()
    theirs = onnxruntime_gives(source, {"x": x})
    for mine, other in zip(ours, theirs, strict=True):
        assert mine.dtype == other.dtype
        np.testing.assert_allclose(mine, other, rtol=1e-5, atol=1e-6)


def run(source: Any, **feeds: Array) -> Array:
    graph = import_model(source)
    verify(graph)
    return next(iter(interpret(graph, feeds).values()))


def test_axis_of_opset_6_aligns_the_second_operand() -> None:
    source = model(
        [node("Add", ("x", "w"), broadcast=1, axis=1)],
        inputs=[value("x", (2, 3, 2))],
        initializers=[const("w", [1, 2, 3], np.float32)],
        opset=6,
    )
    expected = np.broadcast_to(np.array([1, 2, 3])[:, None], (2, 3, 2))
    assert run(source, x=np.zeros((2, 3, 2), np.float32)).tolist() == expected.tolist()


def test_slopes_of_opset_6_are_per_channel() -> None:
    source = model(
        [node("PRelu", ("x", "w"))],
        inputs=[value("x", (1, 2, 2))],
        initializers=[const("w", [0.5, 0.25], np.float32)],
        opset=6,
    )
    y = run(source, x=np.full((1, 2, 2), -4, np.float32))
    assert y.tolist() == [[[-2, -2], [-1, -1]]]


def test_statistics_for_each_element() -> None:
    rng = np.random.default_rng(0)
    scale, bias, mean, variance = (rng.random((3, 2)).astype(np.float32) for _ in range(4))
    names = ("scale", "bias", "mean", "var")
    source = model(
        [node("BatchNormalization", ("x", *names), spatial=0)],
        inputs=[value("x", (4, 3, 2))],
        initializers=[
            const(name, data, np.float32)
            for name, data in zip(names, (scale, bias, mean, variance), strict=True)
        ],
        opset=7,
    )
    x = rng.random((4, 3, 2)).astype(np.float32)
    expected = (x - mean) / np.sqrt(variance + 1e-5) * scale + bias
    np.testing.assert_allclose(run(source, x=x), expected, rtol=1e-5)


def test_roi_align_moves_its_samples_from_opset_16_on() -> None:
    rois = const("rois", [[0, 0, 3, 3]], np.float32)
    made = [rois, const("which", [0])]
    results: list[Array] = []
    for opset in (10, 16):
        source = model(
            [node("RoiAlign", ("x", "rois", "which"), output_height=2, output_width=2)],
            inputs=[value("x", (1, 1, 4, 4))],
            initializers=made,
            opset=opset,
        )
        x = np.arange(16, dtype=np.float32).reshape(1, 1, 4, 4)
        results.append(run(source, x=x))
        np.testing.assert_allclose(results[-1], onnxruntime_gives(source, {"x": x})[0], rtol=1e-5)
    assert results[0].tolist() != results[1].tolist()


def test_scan_of_opset_8_has_a_batch_axis() -> None:
    from onnx import helper as h

    body = h.make_graph(
        [node("Add", ("s", "e"), ("t",)), node("Identity", ("t",), ("o",))],
        "body",
        [value("s", (2,)), value("e", (2,))],
        [value("t", (2,)), value("o", (2,))],
    )
    scan = h.make_node("Scan", ["", "zero", "x"], ["last", "all"], body=body, num_scan_inputs=1)
    source = model(
        [scan],
        inputs=[value("zero", (2, 2)), value("x", (2, 3, 2))],
        outputs=[value("last", (2, 2)), value("all", (2, 3, 2))],
        opset=8,
    )
    feeds = {
        "zero": np.ones((2, 2), np.float32),
        "x": np.arange(12, dtype=np.float32).reshape(2, 3, 2),
    }
    graph = import_model(source)
    verify(graph)
    ours = interpret(graph, feeds).values()
    for mine, other in zip(ours, onnxruntime_gives(source, feeds), strict=True):
        assert mine.tolist() == other.tolist()


def test_a_training_step_is_refused() -> None:
    with pytest.raises(LeptonError, match="training step"):
        import_model(model([node("Dropout")], opset=6))


def test_an_axis_that_does_not_exist() -> None:
    with pytest.raises(LeptonError, match="axis 5 does not exist"):
        import_model(model([node("Softmax", axis=5)], opset=11))
    source = model(
        [node("Add", ("x", "z"), broadcast=1, axis=2)], inputs=[value("x"), value("z")], opset=6
    )
    with pytest.raises(LeptonError, match="does not fit"):
        import_model(source)
