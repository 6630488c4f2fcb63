# pyright: standard
"""Products with a weight of bytes, packed and not, against their meaning."""

from __future__ import annotations

import numpy as np
import pytest

import leptonc
from leptonc.backends.cpu.prepare import prepare
from leptonc.ir.blob import Array
from leptonc.ir.diagnostics import LeptonError
from leptonc.ir.interpret import interpret
from leptonc.ir.text import parse_graph
from tests.backends.tvm.kernel_of_row import check_lowering, cpu
from tests.ir.ops.single import one_op

RNG = np.random.default_rng(8)


def f32(*shape: int) -> Array:
    return RNG.standard_normal(shape).astype(np.float32)


WEIGHT = RNG.integers(-128, 128, (50, 37)).astype(np.int8)


def text(*, scaled: bool, rows: str = "n") -> str:
    scales = "  %s = const() {value = random(2)} : f32[4,37]\n" if scaled else ""
    extra = ", scales=%s) {block_size = 16}" if scaled else ")"
    return (
        f"graph @g(%x: f32[{rows},50], %z: f32[37]) -> (y: f32[{rows},37]) {{\n"
        f"  %w = const() {{value = random(1)}} : i8[50,37]\n{scales}"
        f"  %p = linear_bytes(%x, %w{extra} : f32[{rows},37]\n"
        f"  %a = add(%p, %z) : f32[{rows},37]\n"
        f"  %y = relu(%a) : f32[{rows},37]\n  return %y\n}}\n"
    )


def test_without_packed_weights() -> None:
    x = f32(2, 3, 50)
    check_lowering("linear_bytes", [x, WEIGHT, None], [f32(1, 4, 50), WEIGHT, None], symbolic=(0,))
    check_lowering("linear_bytes", [x, WEIGHT, f32(4, 37)], block_size=16)
    check_lowering("linear_bytes", [x, WEIGHT, f32(1, 37)], block_size=50)


@pytest.mark.parametrize("scaled", [False, True])
def test_with_packed_weights(*, scaled: bool) -> None:
    graph = parse_graph(text(scaled=scaled), "test")
    session = leptonc.compile(graph, isolated=False)
    for rows in (1, 3, 20):
        feeds = {"x": f32(rows, 50), "z": f32(37)}
        expected = interpret(parse_graph(text(scaled=scaled), "test"), feeds)["y"]
        near = 1e-5 * float(np.abs(expected).max())
        np.testing.assert_allclose(session.run(feeds)["y"], expected, rtol=1e-5, atol=near)


@pytest.mark.parametrize("rows", ["n", "5", "40"])
@pytest.mark.parametrize("columns", [24, 61])
def test_many_rows_and_scales_of_columns(rows: str, columns: int) -> None:
    """Weights become floats in registers, or once in memory; sums are scaled in the end."""
    text = (
        f"graph @g(%x: f32[{rows},130], %z: f32[{columns}]) -> (y: f32[{rows},{columns}]) {{\n"
        f"  %w = const() {{value = random(1)}} : i8[130,{columns}]\n"
        f"  %s = const() {{value = random(2)}} : f32[1,{columns}]\n"
        f"  %p = linear_bytes(%x, %w, scales=%s) {{block_size = 130}} : f32[{rows},{columns}]\n"
        f"  %y = add(%p, %z) : f32[{rows},{columns}]\n  return %y\n}}\n"
    )
    session = leptonc.compile(parse_graph(text, "test"), isolated=False, threads=2)
    for count in (1, 13, 32, 33, 70) if rows == "n" else (int(rows),):
        feeds = {"x": f32(count, 130), "z": f32(columns)}
        expected = interpret(parse_graph(text, "test"), feeds)["y"]
        near = 1e-5 * float(np.abs(expected).max())
        np.testing.assert_allclose(session.run(feeds)["y"], expected, rtol=1e-5, atol=near)


@pytest.mark.parametrize("scaled", [False, True])
def test_packing_keeps_the_meaning(*, scaled: bool) -> None:
    graph = parse_graph(text(scaled=scaled, rows="4"), "test")
    feeds = {"x": f32(4, 50), "z": f32(37)}
    expected = interpret(graph, feeds)["y"]
    prepare(graph, cpu())
    assert any(op.name == "packed_linear_bytes" for op in graph)
    np.testing.assert_allclose(interpret(graph, feeds)["y"], expected, rtol=1e-6, atol=1e-4)


@pytest.mark.parametrize(
    ("scales", "attrs", "what"),
    [
        (None, {"block_size": 16}, "go together"),
        (f32(4, 37), {}, "go together"),
        (f32(3, 37), {"block_size": 16}, "do not fit blocks of 16"),
    ],
)
def test_scales_that_do_not_fit(scales: Array | None, attrs: dict[str, int], what: str) -> None:
    with pytest.raises(LeptonError, match=what):
        one_op("linear_bytes", [f32(2, 50), WEIGHT, scales], attrs)
