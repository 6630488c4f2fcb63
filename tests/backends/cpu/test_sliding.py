# pyright: standard
"""Depthwise convolution, pooling and the conversion of layouts."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from tvm import tirx

from leptonc.backends.cpu.decision import Decision
from leptonc.backends.cpu.depthwise import DepthwiseSpec, depthwise
from leptonc.backends.cpu.layout import LayoutSpec, pack, unpack
from leptonc.backends.cpu.packing import channel_blocks, pack_channels, pack_depthwise_weight
from leptonc.backends.cpu.pool import MeanSpec, PoolSpec, global_mean, pool
from leptonc.backends.cpu.sharing import keeps_rows_of_channels
from leptonc.backends.cpu.target import with_threads
from leptonc.backends.cpu.window import Window
from tests.backends.cpu.kernels import NATIVE, Array, Kernel, block, convolution, unblock, windows

LANES = NATIVE.lanes
SAME = Window((3, 3), pads=(1, 1, 1, 1))
WINDOWS = {
    "same": (SAME, (9, 17)),
    "strided, end pads": (Window((3, 3), (2, 2), pads=(0, 0, 1, 1)), (15, 15)),
    "dilated": (Window((5, 5), (1, 2), (2, 1), (4, 2, 4, 2)), (7, 33)),
    "as wide as the input": (Window((7, 7), pads=(3, 3, 3, 3)), (7, 7)),
}


def extents(symbols: str, batch: int, size: tuple[int, int]) -> list[tirx.Var | int]:
    free = {name: tirx.Var(name, "int64") for name in symbols}
    return [free.get("n", batch), free.get("h", size[0]), free.get("w", size[1])]


def normal(*shape: int) -> Array:
    return np.random.default_rng(shape[-1]).standard_normal(shape).astype(np.float32)


@pytest.mark.parametrize("symbols", ["", "nhw"])
@pytest.mark.parametrize("name", WINDOWS)
def test_depthwise(name: str, symbols: str) -> None:
    window, size = WINDOWS[name]
    n, h, w = extents(symbols, 2, size)
    x, weight, bias = normal(2, 12, *size), normal(12, 1, *window.kernel), normal(12)
    known = [window.outputs(axis, extent) for axis, extent in enumerate(size)]
    kernel = Kernel(depthwise("main", DepthwiseSpec(n, 12, h, w, window), NATIVE))
    packed = [pack_depthwise_weight(weight, LANES), pack_channels(bias, LANES)]
    got = kernel([block(x), *packed], (2, channel_blocks(12, LANES), *known, LANES))
    want = convolution(x, weight, bias, window, groups=12)
    np.testing.assert_allclose(unblock(got, 12), want, atol=1e-5)


SHARED = {
    "same": (SAME, (28, 17)),
    "strided, end pads": (Window((3, 3), (2, 2), pads=(0, 0, 1, 1)), (27, 15)),
    "dilated": (Window((5, 5), (2, 1), (2, 3), (4, 6, 4, 6)), (23, 13)),
    "more weights than registers": (Window((7, 7), pads=(3, 3, 3, 3)), (12, 8)),
    "one row each": (SAME, (3, 40)),
}


@pytest.mark.parametrize(("threads", "batch"), [(2, 1), (3, 2)])
@pytest.mark.parametrize("name", SHARED)
def test_threads_share_rows(name: str, threads: int, batch: int) -> None:
    """Whichever rows the window leaves for a share: the first, the last, or some in between."""
    (window, size), cpu = SHARED[name], with_threads(NATIVE, threads)
    x, weight, bias = normal(batch, 24, *size), normal(24, 1, *window.kernel), normal(24)
    known = [window.outputs(axis, extent) for axis, extent in enumerate(size)]
    spec = DepthwiseSpec(batch, 24, *size, window, decision=Decision(shared=1))
    function = depthwise("main", spec, cpu)
    assert f"T.parallel(T.int64({batch * threads}))" in function.script() or known[0] % threads
    packed = [pack_depthwise_weight(weight, LANES), pack_channels(bias, LANES)]
    out = (batch, channel_blocks(24, LANES), *known, LANES)
    got = Kernel(function, cpu)([block(x), *packed], out)
    want = convolution(x, weight, bias, window, groups=24)
    np.testing.assert_allclose(unblock(got, 24), want, atol=1e-5)


def test_threads_share_rows_of_a_pool() -> None:
    window, cpu = Window((3, 3), (2, 2), pads=(1, 1, 1, 1)), with_threads(NATIVE, 2)
    x = normal(1, 64, 112, 57)
    function = pool("main", PoolSpec("max", 1, 64, 112, 57, window), cpu)
    assert "T.parallel(T.int64(2))" in function.script()
    got = Kernel(function, cpu)([block(x)], (1, channel_blocks(64, LANES), 56, 29, LANES))
    want = windows(x, window, -np.inf).max(axis=(4, 5))
    np.testing.assert_array_equal(unblock(got, 64), want)


@pytest.mark.parametrize(
    ("rows", "channels", "threads", "kept"),
    [(56, 96, 2, True), (14, 576, 2, True), (14, 576, 3, True), (14, 576, 4, True),
     (14, 576, 9, False), (7, 960, 2, False), (3, 16, 4, False)],
)  # fmt: skip
def test_rows_are_kept_where_there_are_enough(
    rows: int, channels: int, threads: int, kept: bool
) -> None:
    """Few rows of many channels stand between large weights, and may not divide well."""
    assert keeps_rows_of_channels(channels, (rows, rows), threads) == kept


@pytest.mark.parametrize("symbols", ["", "hw"])
@pytest.mark.parametrize("kind", ["max", "mean", "mean with pads"])
def test_pool(kind: str, symbols: str) -> None:
    window = Window((3, 3), (2, 2), pads=(1, 1, 1, 1))
    n, h, w = extents(symbols, 1, (9, 18))
    x = normal(1, 5, 9, 18)
    spec = PoolSpec(kind[:4].strip(), n, 5, h, w, window, count_pads=kind.endswith("pads"))
    got = unblock(
        Kernel(pool("main", spec, NATIVE))([block(x)], (1, channel_blocks(5, LANES), 5, 9, LANES)),
        5,
    )
    if kind == "max":
        want = windows(x, window, -np.inf).max(axis=(4, 5))
    elif kind == "mean":
        want = np.nanmean(windows(x, window, np.nan), axis=(4, 5))
    else:
        want = windows(x, window, 0.0).mean(axis=(4, 5))
    np.testing.assert_allclose(got, want, atol=1e-6)


def test_largest_of_not_a_number_is_that() -> None:
    x = normal(1, LANES, 4, 4)
    x[0, 0, 1, 1], x[0, 1, 0, 0] = np.nan, np.inf
    spec = PoolSpec("max", 1, LANES, 4, 4, Window((2, 2), (2, 2)))
    got = unblock(Kernel(pool("main", spec, NATIVE))([block(x)], (1, 1, 2, 2, LANES)), LANES)
    with warnings.catch_warnings():
        want = windows(x, Window((2, 2), (2, 2)), 0.0).max(axis=(4, 5))
    np.testing.assert_array_equal(got, want)


def test_rounding_up_adds_no_window_beyond_the_input() -> None:
    window = Window((2, 2), (2, 2), pads=(1, 1, 1, 1))
    assert window.outputs(0, 5) == 3
    assert window.outputs(0, 5, ceil=True) == 3  # a fourth would begin in the end pads
    assert Window((3, 3), (2, 2)).outputs(0, 6, ceil=True) == 3
    x = normal(1, LANES, 6, 6)
    spec = PoolSpec("mean", 1, LANES, 6, 6, Window((3, 3), (2, 2)), ceil=True)
    got = unblock(Kernel(pool("main", spec, NATIVE))([block(x)], (1, 1, 3, 3, LANES)), LANES)
    np.testing.assert_allclose(got[0, :, 2, 2], x[0, :, 4:, 4:].mean(axis=(1, 2)), atol=1e-6)


@pytest.mark.parametrize("symbols", ["", "nhw"])
@pytest.mark.parametrize("shape", [(2, 12, 5, 7), (1, 3, 1, 5), (1, 2 * LANES, 8, 8)])
def test_layouts_are_inverse(shape: tuple[int, int, int, int], symbols: str) -> None:
    n, h, w = extents(symbols, shape[0], shape[2:])
    x, spec = normal(*shape), LayoutSpec(n, shape[1], h, w)
    blocked = block(x)
    got = Kernel(pack("main", spec, NATIVE))([x], blocked.shape)
    np.testing.assert_array_equal(got, np.nan_to_num(blocked))
    np.testing.assert_array_equal(Kernel(unpack("main", spec, NATIVE))([blocked], shape), x)


def test_global_mean() -> None:
    x = normal(2, 12, 5, 7)
    got = Kernel(global_mean("main", MeanSpec(2, 12, 5, 7), NATIVE))(
        [block(x)], (2, channel_blocks(12, LANES), 1, 1, LANES)
    )
    want = x.mean(axis=(2, 3), keepdims=True, dtype=np.float64)
    np.testing.assert_allclose(unblock(got, 12), want, atol=1e-6)


@pytest.mark.parametrize(("batch", "threads"), [(1, 2), (2, 3)])
def test_threads_share_the_rows_of_a_mean(batch: int, threads: int) -> None:
    x, cpu = normal(batch, 40, 95, 91) + 1, with_threads(NATIVE, threads)
    function = global_mean("main", MeanSpec(batch, 40, 95, 91), cpu)
    assert f"T.parallel(T.int64({batch * threads}))" in function.script()
    got = Kernel(function, cpu)([block(x)], (batch, channel_blocks(40, LANES), 1, 1, LANES))
    want = x.mean(axis=(2, 3), keepdims=True, dtype=np.float64)
    np.testing.assert_allclose(unblock(got, 40), want, atol=1e-6)


@pytest.mark.parametrize(("channels", "shared"), [(1280, False), (6400, True)])
def test_threads_share_means_of_large_tensors_alone(channels: int, shared: bool) -> None:
    """Those of the last layer of a classifier take a few microseconds."""
    kernel = global_mean("main", MeanSpec(1, channels, 7, 7), with_threads(NATIVE, 2))
    assert ("T.parallel" in kernel.script()) is shared
