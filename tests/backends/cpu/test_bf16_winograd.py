# pyright: standard
"""Convolution by tiles of bf16: against float64 sums of what the points are rounded to."""

from __future__ import annotations

import numpy as np
import pytest
from tvm import tirx

from leptonc.backends.cpu import emit
from leptonc.backends.cpu.bf16_packing import pack_bf16_winograd_weight
from leptonc.backends.cpu.bf16_winograd import bf16_winograd
from leptonc.backends.cpu.emit import Epilogue
from leptonc.backends.cpu.packing import channel_blocks, pack_channels
from leptonc.backends.cpu.prepare import prepare
from leptonc.backends.cpu.target import (
    CpuTarget,
    by_name,
    missing_features,
    spelled_out,
    with_threads,
)
from leptonc.backends.cpu.tiles import conv_panel
from leptonc.backends.cpu.window import Window
from leptonc.backends.cpu.winograd import WinogradSpec
from leptonc.backends.cpu.winograd_tables import Transform
from leptonc.ir.interpret import interpret
from leptonc.ir.ops.bf16 import to_bf16
from leptonc.ir.text import parse_graph
from tests.backends.cpu.conv_cases import TileCase as Case
from tests.backends.cpu.conv_cases import tile_cases
from tests.backends.cpu.kernels import Array, Kernel, assembly, block, misaligned, unblock

REAL = with_threads(by_name("avx512-bf16"), 1)
PAIRS = spelled_out(REAL)
LANES = PAIRS.lanes
# Thousands of sums of fp32, each rounded.
TOLERANCE = 4e-6


CASES = tile_cases(LANES, 6)


def by_tiles(x: Array, weight: Array, pads: tuple[int, int, int, int]) -> Array:
    """The reference: transforms by their matrices, rounded to bf16, products in fp64."""
    tables = Transform(2)
    top, left, bottom, right = pads
    rows, columns = x.shape[2] + top + bottom - 2, x.shape[3] + left + right - 2
    odd = (bottom + rows % 2, right + columns % 2)
    padded = np.pad(x, ((0, 0), (0, 0), (top, odd[0]), (left, odd[1])))
    tiles = np.lib.stride_tricks.sliding_window_view(padded, (4, 4), axis=(2, 3))[:, :, ::2, ::2]
    matrix = tables.input_matrix().astype(np.float32)
    inputs = to_bf16((matrix @ tiles) @ matrix.T).astype(np.float64)
    values = tables.weight_matrix()
    filters = to_bf16((values @ weight.astype(np.float64) @ values.T).astype(np.float32))
    sums = np.einsum("ncstij,fcij->nfstij", inputs, filters.astype(np.float64))
    outputs = tables.output_matrix() @ sums @ tables.output_matrix().T
    whole = outputs.transpose(0, 1, 2, 4, 3, 5).reshape(*outputs.shape[:2], rows + rows % 2, -1)
    return whole[:, :, :rows, :columns]


def check(case: Case, symbols: str = "", cpu: CpuTarget = PAIRS) -> None:
    rng = np.random.default_rng(len(symbols))
    window, (height, width) = Window((3, 3), pads=case.pads), case.size
    free = {name: tirx.Var(name, "int64") for name in symbols}
    n, h, w = (free.get("n", case.batch), free.get("h", height), free.get("w", width))
    blocks, panel = channel_blocks(case.filters, LANES), conv_panel(case.filters, 20, cpu)
    extents = (n, blocks, window.outputs(0, h), window.outputs(1, w), LANES)
    known = [window.outputs(axis, extent) for axis, extent in enumerate(case.size)]
    residual = Epilogue(
        ((extents, "float32"),),
        lambda value, index, buffers: tirx.max(value + buffers[0][tuple(index)], emit.const(0.0)),
    )
    spec = WinogradSpec(
        n, case.channels, case.filters, h, w, case.pads, 2, panel, epilogue=residual
    )
    x = rng.standard_normal((case.batch, case.channels, height, width)).astype(np.float32)
    weight = rng.standard_normal((case.filters, case.channels, 3, 3)).astype(np.float32)
    bias = rng.standard_normal(case.filters).astype(np.float32)
    other = rng.standard_normal((case.batch, case.filters, *known)).astype(np.float32)
    out, memory = misaligned(np.full((case.batch, blocks, *known, LANES), 7.0, np.float32))
    given = [misaligned(each)[0] for each in (block(x, LANES), block(other, LANES))]
    packed = pack_bf16_winograd_weight(weight, panel)
    kernel = Kernel(bf16_winograd("main", spec, cpu), cpu)
    kernel.call(given[0], packed, pack_channels(bias, LANES), given[1], out)
    assert (memory[:64] == 7).all()
    assert (memory[64 + out.size :] == 7).all()
    want = np.maximum(by_tiles(x, weight, case.pads) + bias[:, None, None] + other, 0)
    np.testing.assert_allclose(
        unblock(out, case.filters), want, atol=TOLERANCE * want.max(), rtol=0
    )


@pytest.mark.parametrize("name", CASES)
def test_known_sizes(name: str) -> None:
    check(CASES[name])


@pytest.mark.skipif(bool(missing_features(REAL)), reason="the CPU has no instructions of bf16")
@pytest.mark.parametrize("name", CASES)
def test_the_instructions_themselves(name: str) -> None:
    check(CASES[name], cpu=REAL)


@pytest.mark.parametrize(
    ("name", "symbols"),
    [("odd extents, ragged channels", "nhw"), ("one output", "hw"), ("several bands", "hw"),
     ("uneven pads", "w")],
)  # fmt: skip
def test_symbolic_sizes(name: str, symbols: str) -> None:
    check(CASES[name], symbols)


def test_threads_share_bands() -> None:
    check(CASES["several bands"], cpu=with_threads(PAIRS, 2))


@pytest.mark.parametrize("size", [(6, 64, 64, 9), (64, 40, 13, 15)])
def test_a_packed_weight_keeps_its_meaning(size: tuple[int, int, int, int]) -> None:
    """The row that prepare makes computes what the convolution did, to the bit."""
    channels, filters, height, width = size
    blocks, lanes = channel_blocks(filters, LANES), LANES
    x_type = f"f32[1,{channel_blocks(channels, lanes)},{height},{width},{lanes}]"
    y_type = f"f32[1,{blocks},{height},{width},{lanes}]"
    text = f"""graph @c(%x: {x_type}) -> (y: {y_type}) {{
  %w = const() {{value = random(3)}} : f32[{filters},{channels},3,3]
  %b = const() {{value = random(4)}} : f32[{filters}]
  %y = conv_blocked(%x, %w, bias=%b) {{lanes = {lanes}, pads = [1, 1, 1, 1], tile = 2, rounds = "operands"}} : {y_type}
  return %y
}}
"""  # noqa: E501
    graph = parse_graph(text, "test")
    x = np.random.default_rng(0).standard_normal(graph.inputs[0].type.extents).astype(np.float32)
    want = interpret(graph, {"x": x})["y"]
    prepare(graph, PAIRS)
    assert "packed_winograd_bf16" in [op.name for op in graph]
    np.testing.assert_array_equal(interpret(graph, {"x": x})["y"], want)


def test_products_and_rounding_are_one_instruction_on_whole_vectors() -> None:
    spec = WinogradSpec(1, 64, 64, 14, 14, (1, 1, 1, 1), 2, conv_panel(64, 49, REAL), bias=False)
    lines = assembly(bf16_winograd("main", spec, REAL), REAL).splitlines()
    for instruction, result in {"vdpbf16ps": "%zmm", "vcvtneps2bf16": "%ymm"}.items():
        found = [line for line in lines if instruction in line]
        assert found
        assert all(result in line for line in found)
