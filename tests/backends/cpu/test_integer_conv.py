# pyright: standard
"""Convolution of bytes over blocks of channels: exact, whatever the extents and the values."""

from __future__ import annotations

import numpy as np
import pytest
from tvm import tirx

from leptonc.backends.cpu.emit import Epilogue
from leptonc.backends.cpu.integer_conv import IntegerConvSpec, integer_conv
from leptonc.backends.cpu.integer_packing import ByteWeight, conv_matrix
from leptonc.backends.cpu.packing import ConvWeight, channel_blocks
from leptonc.backends.cpu.target import (
    CpuTarget,
    by_name,
    largest_neighbours,
    multiplies_bytes,
    with_threads,
)
from leptonc.backends.cpu.tiles import integer_panel
from leptonc.backends.cpu.window import Window
from leptonc.ir.ops.blocked import pack_array, unpack_array
from tests.backends.cpu.conv_cases import IntegerCase as Case
from tests.backends.cpu.kernels import NATIVE, SPELLED, Kernel, assembly, windows

RNG = np.random.default_rng(5)
SSE = with_threads(by_name("sse"), 1)


CASES = {
    "pointwise": Case(16, 16, (5, 7), Window((1, 1)), folds=2),
    "pointwise, strided": Case(8, 24, (7, 7), Window((1, 1), (2, 2)), large=3),
    "padded": Case(16, 16, (5, 7), Window((3, 3), pads=(1, 1, 1, 1)), 2, large=4, folds=2),
    "uneven pads, ragged channels": Case(
        21, 13, (6, 7), Window((3, 2), (1, 2), (2, 1), (1, 0, 2, 3)), large=5
    ),
    "pads that no window reaches": Case(
        24, 8, (9, 9), Window((3, 3), (2, 2), (1, 1), (0, 1, 2, 1)), folds=2
    ),
    "weights beyond the cache": Case(
        2048, 16, (4, 5), Window((3, 3), pads=(1, 1, 1, 1)), large=9, folds=2
    ),
    "a narrower last panel": Case(16, 40, (9, 14), Window((1, 1)), folds=2),
    "one pixel": Case(16, 16, (1, 1), Window((1, 1)), 3, large=2),
    "several bands": Case(16, 8, (150, 131), Window((3, 3), pads=(1, 1, 1, 1)), folds=2),
}


def check(case: Case, symbols: str, cpu: CpuTarget = NATIVE, *, centred: bool = False) -> None:
    """Against sums in 64 bits, with a residual behind them."""
    lanes, (height, width) = cpu.lanes, case.size
    free = {name: tirx.Var(name, "int64") for name in symbols}
    extents = [free.get("n", case.batch), free.get("h", height), free.get("w", width)]
    outputs = [case.window.outputs(axis, extent) for axis, extent in enumerate(extents[1:])]
    known = [case.window.outputs(axis, extent) for axis, extent in enumerate(case.size)]
    blocks, filler = channel_blocks(case.filters, lanes), 201
    weight = RNG.integers(-15, 16, (case.filters, case.channels, *case.window.kernel))
    weight = weight.astype(np.int8)
    weight.reshape(-1)[RNG.integers(0, weight.size, case.large)] = -128
    weight[0, :2, 0, 0] = 127 if case.large else 40
    panel = integer_panel(known[0] * known[1], case.filters, 4, cpu)
    folds = case.folds if lanes >= 8 and not multiplies_bytes(cpu) else 1
    packed = ByteWeight(conv_matrix(weight, lanes), panel, largest_neighbours(cpu), folds)
    assert bool(packed.count) == (case.large > 0 and not multiplies_bytes(cpu))
    epilogue = Epilogue(
        (((extents[0], blocks, *outputs, lanes), "int32"),),
        lambda value, index, buffers: value + buffers[0][tuple(index)],
    )
    filled = channel_blocks(case.channels, lanes) * lanes
    n, h, w = extents
    spec = IntegerConvSpec(
        n, h, w, ConvWeight(filled, case.filters, case.window.kernel), case.window, panel,
        False, epilogue, "int32",
        filler=0 if centred else filler, extra=packed.count, folds=folds, centred=centred,
    )  # fmt: skip
    x = RNG.integers(0, 256, (case.batch, case.channels, height, width)).astype(np.uint8)
    x[:, :, :2], x[..., -1] = 255, 0
    other = RNG.integers(-9, 9, (case.batch, case.filters, *known)).astype(np.int32)
    extra = [packed.extra(), packed.places(), packed.starts()] if packed.count else []
    source = pack_array(x, lanes)
    source[:, -1, ..., lanes - filled + case.channels :] = 77
    out = np.full((case.batch, blocks, *known, lanes), 7, np.int32)
    kernel = Kernel(integer_conv("main", spec, cpu), cpu)
    given = [source, packed.dense()]
    if centred:
        whole = weight.sum((1, 2, 3), dtype=np.int32)[None, :, None, None]
        extra = [np.array(filler, np.uint8), *extra, pack_array(whole, lanes).reshape(-1)]
    kernel.call(*given, *extra, pack_array(other, lanes), out)
    every = windows(x, case.window, filler) - (float(filler) if centred else 0)
    want = np.einsum("nchwij,ocij->nohw", every, weight.astype(np.float64)) + other
    np.testing.assert_array_equal(unpack_array(out, case.filters), want)


@pytest.mark.parametrize("name", CASES)
def test_known_sizes(name: str) -> None:
    check(CASES[name], "")


@pytest.mark.parametrize("name", CASES)
def test_zero_points_of_run_time(name: str) -> None:
    check(CASES[name], "", centred=True)


@pytest.mark.parametrize("symbols", ["n", "hw"])
def test_zero_points_and_sizes_of_run_time(symbols: str) -> None:
    check(CASES["uneven pads, ragged channels"], symbols, centred=True)
    check(CASES["padded"], symbols, with_threads(NATIVE, 2), centred=True)


@pytest.mark.parametrize("cpu", SPELLED, ids=lambda cpu: cpu.name)
@pytest.mark.parametrize("name", ["padded", "uneven pads, ragged channels"])
def test_wider_processors(name: str, cpu: CpuTarget) -> None:
    check(CASES[name], "", cpu)


@pytest.mark.parametrize("symbols", ["n", "h", "w", "nhw"])
def test_symbolic_sizes(symbols: str) -> None:
    check(CASES["uneven pads, ragged channels"], symbols)
    check(CASES["padded"], symbols)


def test_threads_share_rows_or_filters() -> None:
    check(CASES["several bands"], "", with_threads(NATIVE, 2))
    check(CASES["weights beyond the cache"], "", with_threads(NATIVE, 2))
    check(CASES["padded"], "hw", with_threads(NATIVE, 2))


def test_four_lanes() -> None:
    check(CASES["padded"], "", SSE)
    check(CASES["uneven pads, ragged channels"], "nh", SSE)


@pytest.mark.parametrize(
    ("level", "instruction"), [("avx512-vnni", "vpdpbusd"), ("avx512", "vpmaddubsw")]
)
def test_other_processors_have_their_instructions(level: str, instruction: str) -> None:
    cpu = with_threads(by_name(level), 1)
    spec = IntegerConvSpec(
        1, 8, 8, ConvWeight(16, 16, (3, 3)), Window((3, 3)), 16, False, out_dtype="int32"
    )  # fmt: skip
    assert instruction in assembly(integer_conv("main", spec, cpu), cpu)
