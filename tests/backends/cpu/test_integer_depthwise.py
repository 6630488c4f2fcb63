# pyright: standard
"""Depthwise convolution of bytes: exact, whatever the extents and the values."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from tvm import tirx

from leptonc.backends.cpu.emit import Epilogue
from leptonc.backends.cpu.integer_depthwise import IntegerDepthwiseSpec, integer_depthwise
from leptonc.backends.cpu.integer_packing import pack_words
from leptonc.backends.cpu.packing import channel_blocks
from leptonc.backends.cpu.prepare import prepare
from leptonc.backends.cpu.target import CpuTarget, by_name, with_threads
from leptonc.backends.cpu.window import Window
from leptonc.ir.interpret import interpret
from leptonc.ir.ops.blocked import pack_array, unpack_array
from leptonc.ir.text import parse_graph
from tests.backends.cpu.kernels import EMULATED, NATIVE, SPELLED, Kernel, assembly, windows

RNG = np.random.default_rng(25)


@dataclass(frozen=True)
class Case:
    """A convolution of each channel alone; around it stands the filler."""

    channels: int
    size: tuple[int, int]
    window: Window
    batch: int = 1
    filler: int = 201


CASES = {
    "padded": Case(21, (9, 17), Window((3, 3), pads=(1, 1, 1, 1)), 2),
    "strided, zero around it": Case(16, (8, 30), Window((3, 3), (2, 2), pads=(0, 0, 1, 1)), 1, 0),
    "uneven": Case(40, (12, 11), Window((5, 2), (2, 1), (1, 2), (2, 0, 3, 2))),
    "more weights than registers": Case(8, (11, 13), Window((7, 7), pads=(3, 3, 3, 3)), 1, 255),
    "one pixel": Case(3, (1, 1), Window((3, 3), pads=(1, 1, 1, 1)), 2, 7),
}


def check(case: Case, symbols: str, cpu: CpuTarget = NATIVE, *, centred: bool = False) -> None:
    """Against sums in 64 bits, with a residual behind them."""
    lanes, (height, width) = cpu.lanes, case.size
    free = {name: tirx.Var(name, "int64") for name in symbols}
    n, h, w = free.get("n", case.batch), free.get("h", height), free.get("w", width)
    outputs = [case.window.outputs(axis, extent) for axis, extent in enumerate((h, w))]
    known = [case.window.outputs(axis, extent) for axis, extent in enumerate(case.size)]
    blocks = channel_blocks(case.channels, lanes)
    # less a zero point of their own, weights have 9 bits
    weight = RNG.integers(-128, 128, (case.channels, 1, *case.window.kernel)).astype(np.int16)
    weight[0], weight[-1] = (-255, 255) if centred else (-128, 127)
    epilogue = Epilogue(
        (((n, blocks, *outputs, lanes), "int32"),),
        lambda value, index, buffers: value + buffers[0][tuple(index)],
    )
    filler = 0 if centred else case.filler
    spec = IntegerDepthwiseSpec(
        n, case.channels, h, w, case.window, filler, epilogue, centred=centred
    )
    x = RNG.integers(0, 256, (case.batch, case.channels, height, width)).astype(np.uint8)
    x[:, :, :2], x[..., -1] = 255, 0
    other = RNG.integers(-9, 9, (case.batch, case.channels, *known)).astype(np.int32)
    out = np.full((case.batch, blocks, *known, lanes), 7, np.int32)
    kernel = Kernel(integer_depthwise("main", spec, cpu), cpu)
    packed = pack_words(weight, lanes, filler)
    point = [np.array(case.filler, np.uint8)] if centred else []
    kernel.call(pack_array(x, lanes), packed, *point, pack_array(other, lanes), out)
    every = windows(x, case.window, case.filler) - (float(case.filler) if centred else 0)
    want = np.einsum("nchwij,cij->nchw", every, weight[:, 0].astype(np.float64)) + other
    np.testing.assert_array_equal(unpack_array(out, case.channels), want)


@pytest.mark.parametrize("name", CASES)
def test_known_sizes(name: str) -> None:
    check(CASES[name], "")


@pytest.mark.parametrize("name", CASES)
def test_zero_points_of_run_time(name: str) -> None:
    check(CASES[name], "", centred=True)
    check(CASES[name], "hw", with_threads(NATIVE, 2), centred=True)


@pytest.mark.parametrize("cpu", [*SPELLED, EMULATED, by_name("avx2")], ids=lambda cpu: cpu.name)
@pytest.mark.parametrize("name", ["padded", "uneven"])
def test_other_processors(name: str, cpu: CpuTarget) -> None:
    check(CASES[name], "", with_threads(cpu, 1))


@pytest.mark.parametrize("symbols", ["n", "h", "w", "nhw"])
def test_symbolic_sizes(symbols: str) -> None:
    check(CASES["padded"], symbols)
    check(CASES["uneven"], symbols)


def test_threads_share_rows() -> None:
    window = Window((3, 5), (2, 1), pads=(1, 2, 1, 2))
    check(Case(24, (55, 60), window, 2), "", with_threads(NATIVE, 2))


def test_threads_share_channels() -> None:
    check(CASES["padded"], "", with_threads(NATIVE, 2))
    check(CASES["uneven"], "hw", with_threads(NATIVE, 2))


def test_pairs_are_multiplied_and_added_at_once() -> None:
    cpu = with_threads(by_name("avx512-vnni"), 1)
    spec = IntegerDepthwiseSpec(1, 16, 8, 8, Window((3, 3)))
    text = assembly(integer_depthwise("main", spec, cpu), cpu)
    assert "vpdpwssd" in text
    assert "vpmaddwd" not in text


def test_what_is_packed_means_the_same() -> None:
    weight = RNG.integers(-128, 128, (20, 1, 3, 3))
    graph = parse_graph(
        "graph @g(%x: u8[1,3,12,16,8]) -> (y: i32[1,3,12,16,8]) {\n"
        f"  %w = const() {{value = dense([{', '.join(map(str, weight.reshape(-1)))}])}} "
        ": i8[20,1,3,3]\n"
        "  %y = integer_conv_blocked(%x, %w) {pads = [1, 1, 1, 1], group = 20, filler = 9, "
        "lanes = 8} : i32[1,3,12,16,8]\n  return %y\n}\n", "test",
    )  # fmt: skip
    feeds = {"x": RNG.integers(0, 256, (1, 3, 12, 16, 8)).astype(np.uint8)}
    wanted = interpret(graph, feeds)
    prepare(graph, by_name("avx2"))
    assert any(op.name == "packed_integer_depthwise" for op in graph)
    got = interpret(graph, feeds)
    np.testing.assert_array_equal(got["y"], wanted["y"])
