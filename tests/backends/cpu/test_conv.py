# pyright: standard
"""Convolution over blocks of channels."""

from __future__ import annotations

import numpy as np
import pytest
from tvm import tirx

from leptonc.backends.cpu import emit
from leptonc.backends.cpu.conv import conv
from leptonc.backends.cpu.conv_spec import ConvSpec
from leptonc.backends.cpu.emit import Epilogue
from leptonc.backends.cpu.packing import (
    ConvWeight,
    channel_blocks,
    merged_groups,
    pack_channels,
    pack_conv_weight,
)
from leptonc.backends.cpu.target import CpuTarget, with_threads
from leptonc.backends.cpu.tiles import conv_panel
from leptonc.backends.cpu.window import Window
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

# A part of the largest output: sums of n products are off by about the root of n roundings.
TOLERANCE = 5e-6


LANES = NATIVE.lanes
CASES = {
    "pointwise": Case(LANES, 2 * LANES, (5, 7), Window((1, 1))),
    "pointwise, strided": Case(LANES, 3 * LANES, (7, 7), Window((1, 1), (2, 2))),
    "padded": Case(LANES, 2 * LANES, (5, 7), Window((3, 3), pads=(1, 1, 1, 1)), batch=2),
    "uneven pads, ragged channels": Case(
        20, 13, (6, 7), Window((3, 2), (1, 2), (2, 1), (1, 0, 2, 3))
    ),
    "pads that no window reaches": Case(
        3 * LANES, LANES, (9, 9), Window((3, 3), (2, 2), (1, 1), (0, 1, 2, 1))
    ),
    "first layer": Case(
        3, 17, (15, 17), Window((7, 7), (2, 2), pads=(3, 3, 3, 3)), plain=True, batch=2
    ),
    "tiles that divide the row but do not begin with it": Case(
        8, 2 * LANES, (4, 20), Window((3, 3), pads=(1, 1, 1, 1))
    ),
    "weights beyond the cache": Case(1024, 2 * LANES, (4, 5), Window((3, 3), pads=(1, 1, 1, 1))),
    "weights from memory": Case(520, 1030, (5, 4), Window((1, 1))),
    "a narrower last panel": Case(2 * LANES, 5 * LANES, (9, 14), Window((1, 1))),
    "groups": Case(4 * LANES, 6 * LANES, (7, 7), Window((3, 3), pads=(1, 1, 1, 1)), groups=2),
    "one axis": Case(2 * LANES, 16, (1, 33), Window((1, 9), pads=(0, 4, 0, 4)), batch=2),
    "one pixel": Case(16, 16, (1, 1), Window((1, 1)), batch=3),
    "bands of one tile": Case(3 * LANES, 9 * LANES, (7, 5), Window((1, 1)), batch=2),
    "bands of strided pixels": Case(2 * LANES, 20 * LANES, (11, 9), Window((1, 1), (2, 2))),
    "several bands": Case(16, 8, (150, 131), Window((3, 3), pads=(1, 1, 1, 1))),
}


def check(case: Case, symbols: str, cpu: CpuTarget = NATIVE) -> None:
    rng = np.random.default_rng(len(symbols))
    height, width = case.size
    free = {name: tirx.Var(name, "int64") for name in symbols}
    extents = [free.get("n", case.batch), free.get("h", height), free.get("w", width)]
    outputs = [case.window.outputs(axis, extent) for axis, extent in enumerate(extents[1:])]
    known = [case.window.outputs(axis, extent) for axis, extent in enumerate(case.size)]
    lanes = cpu.lanes
    blocks = channel_blocks(case.filters, lanes)
    residual = Epilogue(
        (((extents[0], blocks, *outputs, lanes), "float32"),),
        lambda value, index, buffers: tirx.max(value + buffers[0][tuple(index)], emit.const(0.0)),
    )
    sizes = ConvWeight(
        case.channels, case.filters, case.window.kernel, case.groups, plain=case.plain
    )
    panel = conv_panel(case.filters // case.groups, known[0] * known[1], cpu)
    n, h, w = extents
    spec = ConvSpec(n, h, w, sizes, case.window, panel, epilogue=residual)
    x = rng.standard_normal((case.batch, case.channels, height, width)).astype(np.float32)
    shape = (case.filters, case.channels // case.groups, *case.window.kernel)
    weight = rng.standard_normal(shape).astype(np.float32)
    bias = rng.standard_normal(case.filters).astype(np.float32)
    other = rng.standard_normal((case.batch, case.filters, *known)).astype(np.float32)
    inputs = [
        x if case.plain else block(x, lanes),
        pack_conv_weight(weight, sizes, panel, lanes),
        pack_channels(bias, lanes),
        block(other, lanes),
    ]
    got = Kernel(conv("main", spec, cpu), cpu)(inputs, (case.batch, blocks, *known, lanes))
    want = np.maximum(convolution(x, weight, bias, case.window, case.groups) + other, 0)
    np.testing.assert_allclose(unblock(got, case.filters), want, atol=TOLERANCE * want.max())


@pytest.mark.parametrize("name", CASES)
def test_known_sizes(name: str) -> None:
    check(CASES[name], "")


@pytest.mark.parametrize(
    ("name", "symbols"),
    [("padded", "n"), ("several bands", "n"), ("uneven pads, ragged channels", "hw"),
     ("first layer", "nhw"), ("one pixel", "nhw"), ("pointwise", "w"), ("groups", "h")],
)  # fmt: skip
def test_symbolic_sizes(name: str, symbols: str) -> None:
    check(CASES[name], symbols)


@pytest.mark.parametrize("broadcast", [(2, 3), (2,), (3,), ()], ids=str)
@pytest.mark.parametrize("size", [(4, 23), (9, 3)], ids=str)
def test_operands_over_rows_of_symbolic_length(
    size: tuple[int, int], broadcast: tuple[int, ...]
) -> None:
    h, w = tirx.Var("h", "int64"), tirx.Var("w", "int64")
    shapes = [[1, 2, *extents, LANES] for extents in ((h, w), size)]
    for axis in broadcast:
        shapes[0][axis] = shapes[1][axis] = 1
    added = Epilogue(
        ((tuple(shapes[0]), "float32"),),
        lambda value, index, buffers: value + buffers[0][
            tuple(0 if axis in broadcast else at for axis, at in enumerate(index))
        ],
    )  # fmt: skip
    sizes = ConvWeight(LANES, 2 * LANES, (1, 1))
    panel = conv_panel(2 * LANES, size[0] * size[1], NATIVE)
    spec = ConvSpec(1, h, w, sizes, Window((1, 1)), panel, epilogue=added)
    rng = np.random.default_rng(0)
    x = rng.standard_normal((1, LANES, *size)).astype(np.float32)
    weight = rng.standard_normal((2 * LANES, LANES, 1, 1)).astype(np.float32)
    bias = np.zeros(2 * LANES, np.float32)
    other = rng.standard_normal(shapes[1]).astype(np.float32)
    packed = pack_conv_weight(weight, sizes, spec.panel, LANES)
    inputs = [block(x, LANES), packed, pack_channels(bias, LANES), other]
    got = Kernel(conv("main", spec, NATIVE), NATIVE)(inputs, (1, 2, *size, LANES))
    wanted = block(convolution(x, weight, bias, spec.window, 1).astype(np.float32), LANES) + other
    np.testing.assert_allclose(got, wanted, atol=TOLERANCE * np.abs(wanted).max())


HALVES = {
    "few filters": (Case(5, 3, (6, 9), Window((3, 3), pads=(1, 1, 1, 1)), batch=2), ""),
    "half of a vector": (Case(40, 8, (5, 7), Window((1, 1))), "n"),
    "a half in the last panel": (Case(24, 40, (9, 7), Window((1, 1))), ""),
    "a half behind whole panels": (Case(16, 72, (9, 7), Window((1, 1))), "hw"),
    "first layer": (
        Case(3, 24, (11, 9), Window((3, 3), (2, 2), pads=(1, 1, 1, 1)), plain=True),
        "",
    ),
    "weights beyond the cache": (Case(1024, 37, (4, 5), Window((3, 3), pads=(1, 1, 1, 1))), ""),
    "more than half": (Case(16, 25, (5, 7), Window((1, 1))), ""),
}


@pytest.mark.parametrize("cpu", [*SPELLED, EMULATED], ids=lambda cpu: cpu.name)
@pytest.mark.parametrize("name", HALVES)
def test_halves_of_vectors(name: str, cpu: CpuTarget) -> None:
    case, symbols = HALVES[name]
    check(case, symbols, cpu)
    check(case, symbols, with_threads(cpu, 2))


def test_merged_groups_compute_the_same() -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((1, 24, 5, 5)).astype(np.float32)
    weight = rng.standard_normal((12, 4, 3, 3)).astype(np.float32)
    window, bias = Window((3, 3), pads=(1, 1, 1, 1)), np.zeros(12, np.float32)
    merged, groups = merged_groups(weight, 6, 4)
    assert groups == 3  # two groups of two filters fill four lanes
    want = convolution(x, weight, bias, window, groups=6)
    np.testing.assert_allclose(convolution(x, merged, bias, window, groups), want)
    assert merged_groups(weight, 6, 16)[1] == 1


def test_threads_share_bands() -> None:
    check(CASES["several bands"], "", with_threads(NATIVE, 2))


@pytest.mark.parametrize("threads", [2, 4])
@pytest.mark.parametrize(
    "case",
    [Case(64, 264, (7, 7), Window((1, 1))), Case(64, 264, (7, 7), Window((1, 1)), batch=3),
     Case(24, 136, (7, 9), Window((3, 3), pads=(1, 1, 1, 1)))],
)  # fmt: skip
def test_bands_of_two_heights_are_shared_at_once(case: Case, threads: int) -> None:
    """Seven rows are four and three: one task each, in the same loop."""
    check(case, "", with_threads(NATIVE, threads))
    sizes = ConvWeight(case.channels, case.filters, case.window.kernel)
    spec = ConvSpec(case.batch, *case.size, sizes, case.window, conv_panel(264, 49, NATIVE))
    script = conv("main", spec, with_threads(NATIVE, threads)).script()
    tasks = case.batch * min(threads, 4)
    assert script.count("T.parallel") == 1
    assert f"T.parallel(T.int64({tasks})" in script


SHARED = {
    "pointwise, open": (Case(32, 5 * LANES, (6, 11), Window((1, 1)), batch=2), "nhw"),
    "groups with a narrower last panel": (
        Case(8 * LANES, 10 * LANES, (5, 6), Window((1, 1)), groups=2), "hw",
    ),
    "rows of a padded image": (
        Case(24, 40, (9, 10), Window((3, 3), (2, 1), pads=(1, 1, 1, 1)), batch=2), "nhw",
    ),
    "fewer rows than threads": (
        Case(16, 40, (1, 33), Window((1, 3), pads=(0, 1, 0, 1)), batch=2), "w",
    ),
    "fewer rows than are known of": (Case(16, 40, (1, 9), Window((3, 3), pads=(1, 1, 1, 1))), "h"),
    "weights larger than the image": (
        Case(128, 264, (7, 7), Window((3, 3), pads=(1, 1, 1, 1))), "",
    ),
    "few filters": (Case(96, LANES, (1, 200), Window((1, 5), pads=(0, 2, 0, 2))), "w"),
}  # fmt: skip


@pytest.mark.parametrize("threads", [2, 3])
@pytest.mark.parametrize("name", SHARED)
def test_threads_share_rows_or_filters(name: str, threads: int) -> None:
    case, symbols = SHARED[name]
    check(case, symbols, with_threads(NATIVE, threads))


@pytest.mark.parametrize(
    ("case", "open_width", "shares_filters"),
    [(Case(64, 64, (32, 32), Window((1, 1))), True, True),
     (Case(64, 64, (32, 32), Window((3, 3), pads=(1, 1, 1, 1))), True, False),
     (Case(64, 128, (1, 32), Window((1, 3), pads=(0, 1, 0, 1))), True, True),
     (Case(256, 256, (7, 7), Window((1, 1))), False, True),
     (Case(32, 32, (56, 56), Window((1, 1))), False, False)],
)  # fmt: skip
def test_what_threads_share(case: Case, open_width: bool, shares_filters: bool) -> None:
    height, width = case.size
    extent = tirx.Var("w", "int64") if open_width else width
    sizes = ConvWeight(case.channels, case.filters, case.window.kernel)
    panel = conv_panel(case.filters, height * width, NATIVE)
    spec = ConvSpec(1, height, extent, sizes, case.window, panel)
    assert not spec.is_parallel(NATIVE)
    assert spec.is_parallel(with_threads(NATIVE, 2))
    assert spec.shares_filters(with_threads(NATIVE, 2)) == shares_filters


def test_avx512_multiplies_whole_vectors() -> None:
    window = Window((3, 3), pads=(1, 1, 1, 1))
    spec = ConvSpec(1, 14, 14, ConvWeight(64, 64, (3, 3)), window, conv_panel(64, 196, AVX512))
    text = assembly(conv("main", spec, AVX512), AVX512)
    lines = [line for line in text.splitlines() if "vfmadd" in line]
    assert lines
    assert all("zmm" in line for line in lines)


def test_avx512_computes_half_of_a_vector_of_few_filters() -> None:
    spec = ConvSpec(1, 14, 14, ConvWeight(64, 40, (1, 1)), Window((1, 1)), 3 * AVX512.lanes)
    text = assembly(conv("main", spec, AVX512), AVX512)
    lines = [line for line in text.splitlines() if "vfmadd" in line]
    halves = [line for line in lines if "ymm" in line]
    assert 2 * len(halves) == len(lines) - len(halves)


def test_panels_of_whole_vectors_leave_no_half_behind_them() -> None:
    spec = ConvSpec(1, 14, 14, ConvWeight(64, 120, (1, 1)), Window((1, 1)), 2 * AVX512.lanes)
    lines = assembly(conv("main", spec, AVX512), AVX512).splitlines()
    assert all("zmm" in line for line in lines if "vfmadd" in line)
