"""Attention and rotary embedding in ONNX, as one node and spelled out."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from leptonc.ir.blob import Array
from leptonc.ir.graph import Graph
from leptonc.ir.interpret import interpret
from leptonc.ir.text import parse_graph
from leptonc.onnx_export import export_model, save_model
from leptonc.onnx_import import import_model
from tests.models.reference import run_onnxruntime

HEADS = "%q: f32[2,4,3,8], %k: f32[2,2,3,8], %v: f32[2,2,3,6]"
ROWS = "%q: f32[b,s,32], %k: f32[b,s,16], %v: f32[b,s,16]"
CASES: Mapping[str, tuple[str, str]] = {
    "heads": (f"{HEADS}", "attention(%q, %k, %v) {scale = 0.3} : f32[2,4,3,6]"),
    "causal": (f"{HEADS}", "attention(%q, %k, %v) {scale = 0.3, is_causal = 1} : f32[2,4,3,6]"),
    "seen": (
        f"{HEADS}, %m: bool[3,3]",
        "attention(%q, %k, %v, mask=%m) {scale = 0.3} : f32[2,4,3,6]",
    ),
    "added": (
        f"{HEADS}, %m: f32[2,1,1,3]",
        "attention(%q, %k, %v, mask=%m) {scale = 0.3} : f32[2,4,3,6]",
    ),
    "softcap": (
        f"{HEADS}, %m: f32[2,1,3,3]",
        "attention(%q, %k, %v, mask=%m) {scale = 0.3, softcap = 2.0} : f32[2,4,3,6]",
    ),
    "rows": (
        f"{ROWS}",
        "attention(%q, %k, %v) {scale = 1.0, is_causal = 1, q_num_heads = 4, kv_num_heads = 2} "
        ": f32[b,s,32]",
    ),
    "rotary": (
        "%x: f32[2,3,5,8], %c: f32[2,5,3], %s: f32[2,5,3]",
        "rotary_embedding(%x, %c, %s) : f32[2,3,5,8]",
    ),
    "rotary_rows": (
        "%x: f32[2,5,24], %c: f32[2,5,4], %s: f32[2,5,4]",
        "rotary_embedding(%x, %c, %s) {num_heads = 3} : f32[2,5,24]",
    ),
    "neighbours": (
        "%x: f32[2,5,24], %c: f32[1,5,2], %s: f32[1,5,2]",
        "rotary_embedding(%x, %c, %s) {num_heads = 3, interleaved = 1} : f32[2,5,24]",
    ),
    "neighbours_of_heads": (
        "%x: f32[2,3,5,8], %c: f32[2,5,3], %s: f32[2,5,3]",
        "rotary_embedding(%x, %c, %s) {interleaved = 1} : f32[2,3,5,8]",
    ),
}  # fmt: skip

WHOLE = frozenset(
    {"heads", "causal", "seen", "rows", "rotary", "rotary_rows", "neighbours_of_heads"}
)
"""Those that are one node, in opsets that have it."""


def graph_of(case: str) -> Graph:
    inputs, operation = CASES[case]
    type = operation.rpartition(": ")[2]
    text = f"graph @{case}({inputs}) -> (y: {type}) {{\n  %y = {operation}\n  return %y\n}}\n"
    return parse_graph(text, case)


def feeds_of(graph: Graph) -> dict[str, Array]:
    generator = np.random.default_rng(0)
    result: dict[str, Array] = {}
    for value in graph.inputs:
        shape = tuple({"b": 2, "s": 5}.get(str(dim), dim) for dim in value.type.shape)
        data = generator.standard_normal(shape).astype(np.float32)  # pyright: ignore
        if value.type.dtype.is_float:
            result[value.name] = data
        else:
            result[value.name] = np.array([[1, 1, 0], [0, 0, 0], [1, 1, 1]], bool)
    return result


@pytest.mark.parametrize("opset", [None, 21])
@pytest.mark.parametrize("case", CASES)
def test_onnxruntime_computes_the_same(case: str, opset: int | None, tmp_path: Path) -> None:
    graph = graph_of(case)
    feeds = feeds_of(graph)
    want = interpret(graph, feeds)["y"]
    path = tmp_path / "model.onnx"
    save_model(graph, path, opset)
    got = run_onnxruntime(path, feeds)["y"]
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("case", CASES)
def test_one_node_comes_back_as_one_operation(case: str) -> None:
    model = export_model(graph_of(case))
    assert (len(model.graph.node) == 1) is (case in WHOLE)
    if case in WHOLE:
        again = import_model(model)
        names = [op.name for op in again if op.name not in ("const", "return")]
        assert names == ["rotary_embedding" if "x" in again.inputs[0].name else "attention"]


def test_what_gives_nan_is_spelled_out(tmp_path: Path) -> None:
    text = """graph @spelled(%q: f32[1,2,3,4], %m: f32[3,3]) -> (y: f32[1,2,3,4]) {
  %y = attention(%q, %q, %q, mask=%m) {scale = 0.3, guarded = 0} : f32[1,2,3,4]
  return %y
}
"""
    graph = parse_graph(text, "spelled")
    feeds = feeds_of(graph)
    feeds["m"] = np.zeros((3, 3), np.float32)
    feeds["m"][1] = -np.inf
    save_model(graph, tmp_path / "model.onnx")
    got = run_onnxruntime(tmp_path / "model.onnx", feeds)["y"]
    with np.errstate(invalid="ignore"):
        want = interpret(graph, feeds)["y"]
    assert np.isnan(got[:, :, 1]).all()
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-6)


HIDDEN = """graph @g(%q: f32[2,3,32], %k: f32[2,3,32], %v: f32[2,3,32], %c: bool[2,1,1,3]) -> (y: f32[2,3,32]) {
  %zero = const() {value = splat(0.0)} : f32[]
  %low = const() {value = splat(-3.4028235e+38)} : f32[]
  %w = where(%c, %zero, %low) : f32[2,1,1,3]
  %s = const() {value = dense([2, 1, 3, 3])} : i64[4]
  %m = expand(%w, %s) : f32[2,1,3,3]
  %y = attention(%q, %k, %v, mask=%m) {scale = 0.3, q_num_heads = 4, kv_num_heads = 4} : f32[2,3,32]
  return %y
}
"""  # noqa: E501


def test_the_lowest_number_hides_all_keys_alike(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    feeds: dict[str, Array] = {
        name: random.normal(size=(2, 3, 32)).astype(np.float32) for name in "qkv"
    }
    feeds["c"] = np.array([[False] * 3, [True, False, True]]).reshape(2, 1, 1, 3)
    save_model(parse_graph(HIDDEN), tmp_path / "m.onnx")
    expected = interpret(parse_graph(HIDDEN), feeds)["y"]
    mean = np.broadcast_to(feeds["v"][0].mean(0), (3, 32))
    np.testing.assert_allclose(expected[0], mean, rtol=1e-5, atol=1e-6)
    got = run_onnxruntime(tmp_path / "m.onnx", feeds)["y"]
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-6)
