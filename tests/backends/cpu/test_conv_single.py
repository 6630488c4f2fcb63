# pyright: standard
"""Convolution to one filter."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from tvm import tirx

from leptonc.backends.cpu import emit
from leptonc.backends.cpu.conv_single import SingleConvSpec, single_conv
from leptonc.backends.cpu.emit import Epilogue
from leptonc.backends.cpu.packing import ConvWeight, channel_blocks, pack_channels, pack_conv_weight
from leptonc.backends.cpu.prepare import prepare
from leptonc.backends.cpu.target import CpuTarget, by_name, with_threads
from leptonc.backends.cpu.tiles import is_single
from leptonc.backends.cpu.window import Window
from leptonc.ir.interpret import interpret
from leptonc.ir.text import parse_graph
from tests.backends.cpu.conv_cases import ConvCase as Case
from tests.backends.cpu.kernels import (
    AVX512,
    EMULATED,
    NATIVE,
    SPELLED,
    Kernel,
    assembly,
    block,
    convolution,
    unblock,
)

LANES = NATIVE.lanes
SQUARE = Window((3, 3), pads=(1, 1, 1, 1))
CASES = {
    "whole blocks": Case(2 * LANES, 1, (7, 11), SQUARE),
    "a pixel at a time": Case(4 * LANES, 1, (5, 6), Window((1, 1)), batch=2),
    "a part of a block": Case(7, 1, (6, 9), Window((5, 5), pads=(2, 2, 2, 2))),
    "blocks and one channel": Case(2 * LANES + 1, 1, (6, 22), SQUARE),
    "strides, dilations, uneven pads": Case(
        LANES + 6, 1, (9, 13), Window((3, 2), (2, 1), (1, 2), (1, 0, 2, 3)), batch=2
    ),
    "more weights than a cache": Case(512, 1, (4, 5), SQUARE),
}


def residual(shape: tuple[emit.Extent, ...], operations: int) -> Epilogue:
    """Adds a tensor of the output's shape, and a half so many times."""

    def apply(
        value: emit.PrimExpr, index: Sequence[emit.PrimExpr], buffers: Sequence[emit.Buffer]
    ) -> emit.PrimExpr:
        value = value + buffers[0][tuple(index)]
        for _ in range(operations):
            value = value + emit.const(0.5)
        return value

    return Epilogue(((shape, "float32"),), apply)


def check(case: Case, symbols: str = "", cpu: CpuTarget = NATIVE, operations: int = 0) -> None:
    rng = np.random.default_rng(0)
    height, width = case.size
    free = {name: tirx.Var(name, "int64") for name in symbols}
    n, h, w = (free.get("n", case.batch), free.get("h", height), free.get("w", width))
    sizes = ConvWeight(case.channels, 1, case.window.kernel)
    known = [case.window.outputs(axis, extent) for axis, extent in enumerate(case.size)]
    extents = (n, 1, case.window.outputs(0, h), case.window.outputs(1, w), cpu.lanes)
    spec = SingleConvSpec(
        n, h, w, sizes, case.window, cpu.lanes, epilogue=residual(extents, operations)
    )
    x = rng.standard_normal((case.batch, case.channels, height, width)).astype(np.float32)
    weight = rng.standard_normal((1, case.channels, *case.window.kernel)).astype(np.float32)
    bias = rng.standard_normal(1).astype(np.float32)
    other = rng.standard_normal((case.batch, 1, *known)).astype(np.float32)
    inputs = [
        block(x, cpu.lanes),
        pack_conv_weight(weight, sizes, 1, cpu.lanes),
        pack_channels(bias, cpu.lanes),
        block(other, cpu.lanes),
    ]
    kernel = Kernel(single_conv("main", spec, cpu), cpu)
    got = kernel(inputs, (case.batch, 1, *known, cpu.lanes))
    want = convolution(x, weight, bias, case.window) + other + 0.5 * operations
    np.testing.assert_allclose(unblock(got, 1), want, atol=5e-6 * np.abs(want).max(), rtol=0)


@pytest.mark.parametrize("name", CASES)
def test_known_sizes(name: str) -> None:
    check(CASES[name])


@pytest.mark.parametrize("name", ["a part of a block", "blocks and one channel"])
@pytest.mark.parametrize("symbols", ["n", "nhw"])
def test_symbolic_sizes(name: str, symbols: str) -> None:
    check(CASES[name], symbols)


@pytest.mark.parametrize("name", ["blocks and one channel", "strides, dilations, uneven pads"])
@pytest.mark.parametrize("cpu", [*SPELLED, EMULATED], ids=lambda cpu: cpu.name)
def test_other_lanes(name: str, cpu: CpuTarget) -> None:
    check(CASES[name], cpu=cpu)


@pytest.mark.parametrize("symbols", ["", "nhw"])
def test_threads_share_rows(symbols: str) -> None:
    large = Case(4 * LANES, 1, (40, 60), SQUARE)
    check(large, symbols, with_threads(NATIVE, 2))


def test_long_epilogues_are_not_unrolled() -> None:
    check(CASES["blocks and one channel"], operations=emit.UNROLLED_OPERATIONS)


def test_whole_vectors_of_channels_are_multiplied() -> None:
    spec = SingleConvSpec(1, 14, 14, ConvWeight(64, 1, (3, 3)), SQUARE, AVX512.lanes)
    lines = assembly(single_conv("main", spec, AVX512), AVX512).splitlines()
    assert [line for line in lines if "vfmadd" in line and "zmm" in line]


@pytest.mark.parametrize(
    ("filters", "channels", "taps", "single"),
    [(1, 8, 25, True), (1, 64, 1, True), (1, 8, 1, False), (2, 64, 9, False)],
)
def test_lanes_of_channels_are_for_one_filter(
    filters: int, channels: int, taps: int, *, single: bool
) -> None:
    assert is_single(filters, channels, taps, AVX512) == single


@pytest.mark.parametrize("channels", [32, 21])
def test_a_packed_weight_keeps_its_meaning(channels: int) -> None:
    """The row that prepare makes computes what the convolution did."""
    cpu = by_name("avx2")
    blocks = channel_blocks(channels, cpu.lanes)
    text = f"""graph @c(%x: f32[1,{blocks},6,7,8]) -> (y: f32[1,1,6,7,8]) {{
  %w = const() {{value = random(3)}} : f32[1,{channels},3,3]
  %y = conv_blocked(%x, %w) {{lanes = 8, pads = [1, 1, 1, 1]}} : f32[1,1,6,7,8]
  return %y
}}
"""
    graph = parse_graph(text, "test")
    x = np.random.default_rng(0).standard_normal(graph.inputs[0].type.extents).astype(np.float32)
    want = interpret(graph, {"x": x})["y"]
    prepare(graph, cpu)
    packed = next(op for op in graph if op.name == "packed_conv")
    assert packed.operands[1].type.extents == (1, 9 * channels, 1)
    np.testing.assert_allclose(interpret(graph, {"x": x})["y"], want, atol=1e-4)
