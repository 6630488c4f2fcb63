# pyright: standard
"""Convolution by tiles: its numbers, its tables, and where it is chosen."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from tvm import tirx

from leptonc.backends.cpu import emit
from leptonc.backends.cpu.emit import Epilogue
from leptonc.backends.cpu.packing import channel_blocks, pack_channels
from leptonc.backends.cpu.prepare import prepare
from leptonc.backends.cpu.target import CpuTarget, by_name, with_threads
from leptonc.backends.cpu.tiles import conv_panel
from leptonc.backends.cpu.window import Window
from leptonc.backends.cpu.winograd import WinogradSpec, winograd
from leptonc.backends.cpu.winograd_strided import strided_winograd
from leptonc.backends.cpu.winograd_tables import pack_winograd_weight, transform_of
from leptonc.ir.interpret import interpret
from leptonc.ir.text import parse_graph
from tests.backends.cpu.conv_cases import TileCase as Case
from tests.backends.cpu.conv_cases import tile_cases
from tests.backends.cpu.kernels import (
    AVX512,
    NATIVE,
    Kernel,
    assembly,
    block,
    convolution,
    unblock,
)

LANES = NATIVE.lanes
ROUNDING = {0: 5e-6, 2: 5e-6, 4: 1e-5}
"""Parts of the largest output: larger tiles double the rounding of a direct sum."""


CASES = tile_cases(LANES, 3)


def residual(shape: tuple[emit.Extent, ...], *, long: bool) -> Epilogue:
    """Adds a tensor of the output's shape; a long one takes more operations than are unrolled."""

    def apply(
        value: emit.PrimExpr, index: Sequence[emit.PrimExpr], buffers: Sequence[emit.Buffer]
    ) -> emit.PrimExpr:
        value = value + buffers[0][tuple(index)]
        for _ in range(emit.UNROLLED_OPERATIONS if long else 0):
            value = value + emit.const(0.5)
        return tirx.max(value, emit.const(0.0))

    return Epilogue(((shape, "float32"),), apply)


def check(
    case: Case,
    outputs: int,
    symbols: str = "",
    cpu: CpuTarget = NATIVE,
    *,
    long: bool = False,
    stride: int = 1,
) -> None:
    rng = np.random.default_rng(len(symbols))
    window, (height, width) = Window((3, 3), (stride, stride), pads=case.pads), case.size
    free = {name: tirx.Var(name, "int64") for name in symbols}
    n, h, w = (free.get("n", case.batch), free.get("h", height), free.get("w", width))
    blocks, panel = channel_blocks(case.filters, LANES), conv_panel(case.filters, 20, cpu)
    extents = (n, blocks, window.outputs(0, h), window.outputs(1, w), LANES)
    known = [window.outputs(axis, extent) for axis, extent in enumerate(case.size)]
    spec = WinogradSpec(
        n, case.channels, case.filters, h, w, case.pads, outputs, panel,
        epilogue=residual(extents, long=long), stride=stride,
    )  # fmt: skip
    x = rng.standard_normal((case.batch, case.channels, height, width)).astype(np.float32)
    weight = rng.standard_normal((case.filters, case.channels, 3, 3)).astype(np.float32)
    bias = rng.standard_normal(case.filters).astype(np.float32)
    other = rng.standard_normal((case.batch, case.filters, *known)).astype(np.float32)
    inputs = [
        block(x),
        pack_winograd_weight(weight, outputs, panel, stride),
        pack_channels(bias, LANES),
        block(other),
    ]
    kernel = (winograd if stride == 1 else strided_winograd)("main", spec, cpu)
    got = Kernel(kernel, cpu)(inputs, (case.batch, blocks, *known, LANES))
    more = 0.5 * emit.UNROLLED_OPERATIONS if long else 0
    want = np.maximum(convolution(x, weight, bias, window) + other + more, 0)
    np.testing.assert_allclose(
        unblock(got, case.filters), want, atol=ROUNDING[outputs] * want.max(), rtol=0
    )


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("outputs", [2, 4])
@pytest.mark.parametrize("name", CASES)
def test_known_sizes(name: str, outputs: int, stride: int) -> None:
    check(CASES[name], outputs, stride=stride)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("outputs", [2, 4])
@pytest.mark.parametrize(
    ("name", "symbols"),
    [("odd extents, ragged channels", "n"), ("odd extents, ragged channels", "nhw"),
     ("one output", "hw"), ("several bands", "hw"), ("uneven pads", "w")],
)  # fmt: skip
def test_symbolic_sizes(name: str, symbols: str, outputs: int, stride: int) -> None:
    check(CASES[name], outputs, symbols, stride=stride)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("symbols", ["", "nhw"])
def test_threads_share_bands(symbols: str, stride: int) -> None:
    check(CASES["several bands"], 4, symbols, with_threads(NATIVE, 2), stride=stride)


@pytest.mark.parametrize("batch", [1, 2])
def test_bands_of_two_heights_are_shared_at_once(batch: int) -> None:
    """Seven rows of tiles are four and three."""
    check(Case(2 * LANES, 4 * LANES, (28, 30), batch=batch), 4, "", with_threads(NATIVE, 2))


@pytest.mark.parametrize("stride", [1, 2])
def test_long_epilogues_are_not_unrolled(stride: int) -> None:
    check(CASES["odd extents, ragged channels"], 4, long=True, stride=stride)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("outputs", [2, 4])
def test_the_transforms_compute_a_convolution(outputs: int, stride: int) -> None:
    tables, rng = transform_of(outputs, stride), np.random.default_rng(0)
    signal, taps = rng.standard_normal(tables.reach), rng.standard_normal(3)
    products = (tables.weight_matrix() @ taps) * (tables.input_matrix() @ signal)
    want = np.correlate(signal, taps, "valid")[::stride]
    np.testing.assert_allclose(tables.output_matrix() @ products, want, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("outputs", [2, 4])
def test_rounding_stays_near_that_of_a_direct_sum(outputs: int, stride: int) -> None:
    """A chain of 1152 products in fp32 is off by about 4e-7 of the outputs' root mean square."""
    rng = np.random.default_rng(1)
    x = np.maximum(rng.standard_normal((1, 128, 12, 12)), 0).astype(np.float32)
    weight = rng.standard_normal((LANES, 128, 3, 3)).astype(np.float32)
    panel = conv_panel(LANES, 20, NATIVE)
    window, across = Window((3, 3), (stride, stride), pads=(1, 1, 1, 1)), 12 // stride
    spec = WinogradSpec(
        1, 128, LANES, 12, 12, window.pads, outputs, panel, bias=False, stride=stride
    )
    inputs = [block(x), pack_winograd_weight(weight, outputs, panel, stride)]
    kernel = (winograd if stride == 1 else strided_winograd)("main", spec, NATIVE)
    got = Kernel(kernel)(inputs, (1, 1, across, across, LANES))
    want = convolution(x, weight, np.zeros(LANES), window)
    off = np.sqrt(np.mean((unblock(got, LANES) - want) ** 2) / np.mean(want**2))
    assert off < {2: 6e-7, 4: 1.2e-6}[outputs]


@pytest.mark.parametrize("tile", [2, 4])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("size", [(7, 64, 64, 56), (64, 40, 40, 15)])
def test_a_packed_weight_keeps_its_meaning(
    size: tuple[int, int, int, int], stride: int, tile: int
) -> None:
    """The row that prepare makes computes what the convolution did."""
    channels, filters, height, width = size
    across = f"{-(-height // stride)},{-(-width // stride)}"
    cpu = by_name("avx2")
    blocks = channel_blocks(filters, cpu.lanes)
    x_type = f"f32[1,{channel_blocks(channels, cpu.lanes)},{height},{width},{cpu.lanes}]"
    text = f"""graph @c(%x: {x_type}) -> (y: f32[1,{blocks},{across},{cpu.lanes}]) {{
  %w = const() {{value = random(3)}} : f32[{filters},{channels},3,3]
  %b = const() {{value = random(4)}} : f32[{filters}]
  %y = conv_blocked(%x, %w, bias=%b) {{lanes = {cpu.lanes}, pads = [1, 1, 1, 1], strides = [{stride}, {stride}], tile = {tile}}} : f32[1,{blocks},{across},{cpu.lanes}]
  return %y
}}
"""  # noqa: E501
    graph = parse_graph(text, "test")
    x = np.random.default_rng(0).standard_normal(graph.inputs[0].type.extents).astype(np.float32)
    want = interpret(graph, {"x": x})["y"]
    prepare(graph, cpu)
    assert "packed_winograd" in [op.name for op in graph]
    got = interpret(graph, {"x": x})["y"]
    np.testing.assert_allclose(got, want, atol=1e-4)


def test_avx512_multiplies_whole_vectors() -> None:
    spec = WinogradSpec(1, 64, 64, 14, 14, (1, 1, 1, 1), 4, conv_panel(64, 16, AVX512))
    text = assembly(winograd("main", spec, AVX512), AVX512)
    lines = [line for line in text.splitlines() if "vfmadd" in line]
    assert lines
    assert all("zmm" in line for line in lines)
