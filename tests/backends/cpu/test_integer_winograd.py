# pyright: standard
"""Convolution of bytes through fewer products: as exact as a direct one."""

from __future__ import annotations

import numpy as np
import pytest
from tvm import tirx

from leptonc.backends.cpu.emit import Epilogue
from leptonc.backends.cpu.integer_winograd import IntegerWinogradSpec, integer_winograd
from leptonc.backends.cpu.integer_winograd_packing import (
    LARGEST,
    may_filter_bytes,
    pack_whole_weight,
    pays,
)
from leptonc.backends.cpu.packing import channel_blocks
from leptonc.backends.cpu.prepare import prepare
from leptonc.backends.cpu.target import CpuTarget, by_name, with_threads
from leptonc.backends.cpu.window import Window
from leptonc.ir.blob import Array
from leptonc.ir.graph import Graph
from leptonc.ir.interpret import interpret
from leptonc.ir.ops.blocked import pack_array, unpack_array
from leptonc.ir.text import parse_graph
from tests.backends.cpu.kernels import NATIVE, Kernel, windows

RNG = np.random.default_rng(8)
Pads = tuple[int, int, int, int]


def check(
    shape: tuple[int, int, int, int], filters: int, pads: Pads, symbols: str = "",
    cpu: CpuTarget = NATIVE, extreme: int | None = None,
) -> None:  # fmt: skip
    """Against sums in 64 bits; weights and inputs may all be extremes."""
    batch, channels, height, width = shape
    lanes, window = cpu.lanes, Window((3, 3), pads=pads)
    free = {name: tirx.Var(name, "int64") for name in symbols}
    n, h, w = free.get("n", batch), free.get("h", height), free.get("w", width)
    outputs = [window.outputs(axis, extent) for axis, extent in enumerate((h, w))]
    known = [window.outputs(axis, extent) for axis, extent in enumerate((height, width))]
    blocks, filled = (channel_blocks(count, lanes) for count in (filters, channels))
    weight = RNG.integers(-128, 128, (filters, channels, 3, 3)).astype(np.int8)
    x = RNG.integers(0, 256, shape).astype(np.uint8)
    if extreme is not None:
        weight[...], x[...] = extreme, RNG.integers(0, 2, shape) * 255
        weight[::2] = RNG.choice([-128, 127], weight[::2].shape)
    epilogue = Epilogue(
        (((n, blocks, *outputs, lanes), "int32"),),
        lambda value, index, buffers: value + buffers[0][tuple(index)],
    )
    spec = IntegerWinogradSpec(
        n, filled * lanes, filters, h, w, pads, 4, 2 * lanes, False, epilogue, "int32", filler=201
    )  # fmt: skip
    other = RNG.integers(-9, 9, (batch, filters, *known)).astype(np.int32)
    source = pack_array(x, lanes)
    source[:, -1, ..., lanes - filled * lanes + channels :] = 77
    out = np.full((batch, blocks, *known, lanes), 7, np.int32)
    kernel = Kernel(integer_winograd("main", spec, cpu), cpu)
    kernel.call(source, pack_whole_weight(weight, 2 * lanes, lanes), pack_array(other, lanes), out)
    every = windows(x, window, 201)
    want = np.einsum("nchwij,ocij->nohw", every, weight.astype(np.float64)) + other
    np.testing.assert_array_equal(unpack_array(out, filters), want)


@pytest.mark.parametrize(
    ("shape", "filters", "pads"),
    [((1, 16, 8, 8), 16, (1, 1, 1, 1)), ((2, 21, 7, 10), 13, (0, 0, 0, 0)),
     ((1, 8, 5, 14), 40, (2, 0, 1, 3)), ((3, 8, 3, 3), 8, (1, 1, 1, 1))],
)  # fmt: skip
def test_known_sizes(shape: tuple[int, int, int, int], filters: int, pads: Pads) -> None:
    check(shape, filters, pads)


@pytest.mark.parametrize("extreme", [-128, 127])
def test_sums_of_extremes_wrap_around_and_back(extreme: int) -> None:
    assert LARGEST > 96 * 9 * 128 * 255
    check((1, 96, 9, 8), 16, (1, 1, 1, 1), extreme=extreme)


@pytest.mark.parametrize("symbols", ["n", "h", "nhw"])
def test_symbolic_sizes(symbols: str) -> None:
    check((2, 21, 7, 10), 13, (1, 1, 0, 1), symbols)


def test_other_lanes_and_threads() -> None:
    check((2, 9, 7, 9), 13, (1, 1, 1, 1), cpu=with_threads(by_name("sse"), 1))
    check((2, 16, 30, 9), 16, (1, 1, 1, 1), cpu=with_threads(NATIVE, 2))


def graph_of(weight: Array, attributes: str, out: str) -> Graph:
    """A convolution in blocks of eight channels."""
    filters, channels = weight.shape[:2]
    values = ", ".join(map(str, weight.reshape(-1)))
    kernel = ",".join(map(str, weight.shape[2:]))
    return parse_graph(
        f"graph @g(%x: u8[1,{channels // 8},12,16,8]) -> (y: i32[{out},8]) {{\n"
        f"  %w = const() {{value = dense([{values}])}} : i8[{filters},{channels},{kernel}]\n"
        f"  %y = integer_conv_blocked(%x, %w) {{{attributes}, filler = 9, lanes = 8}} "
        f": i32[{out},8]\n  return %y\n}}\n", "test",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("channels", "attributes", "out", "row"),
    [(64, "pads = [1, 1, 1, 1]", "1,4,12,16", "packed_integer_winograd"),
     (64, "pads = [1, 1, 1, 1], strides = [2, 2]", "1,4,6,8", "packed_integer_conv")],
)  # fmt: skip
def test_what_is_packed_means_the_same(channels: int, attributes: str, out: str, row: str) -> None:
    weight = RNG.integers(-63, 64, (32, channels, 3, 3)).astype(np.int8)
    weight[3, :4] = -128
    graph = graph_of(weight, attributes, out)
    feeds = {"x": RNG.integers(0, 256, (1, channels // 8, 12, 16, 8)).astype(np.uint8)}
    wanted = interpret(graph, feeds)
    prepare(graph, by_name("avx2"))
    assert [op.name for op in graph if op.name.startswith("packed")] == [row]
    got = interpret(graph, feeds)
    np.testing.assert_array_equal(got["y"], wanted["y"])


def test_what_26_bits_do_not_hold_stays_direct() -> None:
    graph = graph_of(np.full((8, 128, 3, 3), 115, np.int8), "pads = [1, 1, 1, 1]", "1,1,12,16")
    (op,) = (op for op in graph if op.name == "integer_conv_blocked")
    weight = op.operands[1].blob
    assert weight is not None
    assert not may_filter_bytes(op, weight.array)
    assert pays(np.zeros((128, 128, 3, 3), np.int8), (28, 28), by_name("avx2"))
    assert not pays(np.zeros((512, 512, 3, 3), np.int8), (7, 7), by_name("avx2"))


@pytest.mark.parametrize(
    ("name", "channels", "size", "wanted"),
    [("avx2", 64, 56, True), ("avx2", 512, 7, False), ("avx512-vnni", 64, 56, True),
     ("avx512-vnni", 256, 14, True), ("avx512-vnni", 512, 7, False), ("avx2-vnni", 16, 9, False)],
)  # fmt: skip
def test_tiles_are_taken_where_they_are_faster(
    name: str, channels: int, size: int, wanted: bool
) -> None:
    weight = np.zeros((channels, channels, 3, 3), np.int8)
    assert pays(weight, (size, size), by_name(name)) is wanted
