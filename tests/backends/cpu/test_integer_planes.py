# pyright: standard
"""Convolution of a few planes of bytes: exact, whatever the extents and the values."""

from __future__ import annotations

import numpy as np
import pytest
from tvm import tirx

from leptonc.backends.cpu.emit import Epilogue
from leptonc.backends.cpu.integer_conv import TOGETHER, IntegerConvSpec
from leptonc.backends.cpu.integer_packing import ByteWeight, conv_matrix
from leptonc.backends.cpu.integer_planes import integer_planes
from leptonc.backends.cpu.packing import ConvWeight, channel_blocks
from leptonc.backends.cpu.prepare import prepare
from leptonc.backends.cpu.target import CpuTarget, by_name, largest_neighbours, with_threads
from leptonc.backends.cpu.tiles import integer_panel
from leptonc.backends.cpu.window import Window
from leptonc.ir.interpret import interpret
from leptonc.ir.ops.blocked import pack_array, unpack_array
from leptonc.ir.text import parse_graph
from tests.backends.cpu.conv_cases import IntegerCase as Case
from tests.backends.cpu.kernels import NATIVE, SPELLED, Kernel, windows

RNG = np.random.default_rng(15)


CASES = {
    "three planes": Case(3, 40, (37, 35), Window((7, 7), (2, 2), pads=(3, 3, 3, 3)), 2, large=3),
    "four, no pads": Case(4, 16, (5, 20), Window((1, 1))),
    "two blocks, uneven pads": Case(
        6, 13, (9, 7), Window((3, 2), (1, 2), (2, 1), (1, 0, 2, 3)), large=4
    ),
    "pads that no window reaches": Case(3, 8, (9, 18), Window((3, 3), (2, 2), pads=(0, 1, 2, 1))),
    "one pixel": Case(1, 16, (1, 1), Window((1, 1)), 3),
}


def check(case: Case, symbols: str, cpu: CpuTarget = NATIVE, *, centred: bool = False) -> None:
    """Against sums in 64 bits, with a residual behind them."""
    lanes, (height, width) = cpu.lanes, case.size
    free = {name: tirx.Var(name, "int64") for name in symbols}
    n, h, w = free.get("n", case.batch), free.get("h", height), free.get("w", width)
    outputs = [case.window.outputs(axis, extent) for axis, extent in enumerate((h, w))]
    known = [case.window.outputs(axis, extent) for axis, extent in enumerate(case.size)]
    blocks, filler = channel_blocks(case.filters, lanes), 201
    weight = RNG.integers(-60, 61, (case.filters, case.channels, *case.window.kernel))
    weight = weight.astype(np.int8)
    weight.reshape(-1)[RNG.integers(0, weight.size, case.large)] = -128
    panel = integer_panel(known[0] * known[1], case.filters, 4, cpu)
    packed = ByteWeight(conv_matrix(weight, TOGETHER), panel, largest_neighbours(cpu))
    epilogue = Epilogue(
        (((n, blocks, *outputs, lanes), "int32"),),
        lambda value, index, buffers: value + buffers[0][tuple(index)],
    )
    sizes = ConvWeight(case.channels, case.filters, case.window.kernel, plain=True)
    spec = IntegerConvSpec(
        n, h, w, sizes, case.window, panel, False, epilogue, "int32",
        filler=0 if centred else filler, extra=packed.count, centred=centred,
    )  # fmt: skip
    x = RNG.integers(0, 256, (case.batch, case.channels, height, width)).astype(np.uint8)
    x[:, :, :2], x[..., -1] = 255, 0
    other = RNG.integers(-9, 9, (case.batch, case.filters, *known)).astype(np.int32)
    extra = [packed.extra(), packed.places(), packed.starts()] if packed.count else []
    out = np.full((case.batch, blocks, *known, lanes), 7, np.int32)
    kernel = Kernel(integer_planes("main", spec, cpu), cpu)
    if centred:
        whole = weight.sum((1, 2, 3), dtype=np.int32)[None, :, None, None]
        extra = [np.array(filler, np.uint8), *extra, pack_array(whole, lanes).reshape(-1)]
    kernel.call(x, packed.dense(), *extra, pack_array(other, lanes), out)
    every = windows(x, case.window, filler) - (float(filler) if centred else 0)
    want = np.einsum("nchwij,ocij->nohw", every, weight.astype(np.float64)) + other
    np.testing.assert_array_equal(unpack_array(out, case.filters), want)


@pytest.mark.parametrize("name", CASES)
def test_known_sizes(name: str) -> None:
    check(CASES[name], "")


@pytest.mark.parametrize("name", CASES)
def test_zero_points_of_run_time(name: str) -> None:
    check(CASES[name], "", centred=True)


@pytest.mark.parametrize("cpu", [*SPELLED, by_name("avx2")], ids=lambda cpu: cpu.name)
@pytest.mark.parametrize("name", ["three planes", "two blocks, uneven pads"])
def test_other_processors(name: str, cpu: CpuTarget) -> None:
    check(CASES[name], "", with_threads(cpu, 1))


@pytest.mark.parametrize("symbols", ["n", "h", "w", "nhw"])
def test_symbolic_sizes(symbols: str) -> None:
    check(CASES["two blocks, uneven pads"], symbols)
    check(CASES["three planes"], symbols)


def test_threads_share_rows_or_filters() -> None:
    check(CASES["three planes"], "", with_threads(NATIVE, 2))
    check(CASES["three planes"], "hw", with_threads(NATIVE, 2))


def test_four_lanes() -> None:
    check(CASES["three planes"], "", with_threads(by_name("sse"), 1))


@pytest.mark.parametrize("channels", [3, 6])
def test_what_is_packed_means_the_same(channels: int) -> None:
    weight = RNG.integers(-128, 128, (24, channels, 3, 3))
    graph = parse_graph(
        f"graph @g(%x: u8[1,{channels},12,16]) -> (y: i32[1,3,12,16,8]) {{\n"
        f"  %w = const() {{value = dense([{', '.join(map(str, weight.reshape(-1)))}])}} "
        f": i8[24,{channels},3,3]\n"
        "  %y = integer_conv_blocked(%x, %w) {pads = [1, 1, 1, 1], filler = 9, lanes = 8, "
        "plain = true} : i32[1,3,12,16,8]\n  return %y\n}\n", "test",
    )  # fmt: skip
    feeds = {"x": RNG.integers(0, 256, (1, channels, 12, 16)).astype(np.uint8)}
    wanted = interpret(graph, feeds)
    prepare(graph, by_name("avx2"))
    assert any(op.name == "packed_integer_conv" for op in graph)
    got = interpret(graph, feeds)
    np.testing.assert_array_equal(got["y"], wanted["y"])
