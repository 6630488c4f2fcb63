# pyright: standard
"""Softmax and norms over rows."""

from __future__ import annotations

import numpy as np
import pytest
from tvm import tirx

from leptonc.backends.cpu.rows import NormSpec, SoftmaxSpec, norm, softmax
from leptonc.backends.cpu.target import CpuTarget, with_threads
from tests.backends.cpu.kernels import EMULATED, NATIVE, Array, Kernel

WIDTHS = (1, 3, 7, 8, 9, 17, 33, 40, 100)
EPSILON = 1e-5


def rows(width: int) -> Array:
    values = np.random.default_rng(width).standard_normal((2, 3, width)) * 3 + 1
    return values.astype(np.float32)


def probabilities(x: Array) -> Array:
    wide = x.astype(np.float64)
    powers = np.exp(wide - wide.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


def check_norms(kernels: tuple[Kernel, Kernel], width: int) -> None:
    x, wide = rows(width), rows(width).astype(np.float64)
    scale, bias = np.random.default_rng(0).standard_normal((2, width)).astype(np.float32)
    spread = np.sqrt(wide.var(axis=-1, keepdims=True) + EPSILON)
    want = (wide - wide.mean(axis=-1, keepdims=True)) / spread * scale + bias
    np.testing.assert_allclose(kernels[0]([x, scale, bias], x.shape), want, atol=1e-5)
    size = np.sqrt((wide**2).mean(axis=-1, keepdims=True) + EPSILON)
    np.testing.assert_allclose(kernels[1]([x, scale], x.shape), wide / size * scale, atol=1e-5)


def norms(
    lead: tuple[object, ...], width: object, cpu: CpuTarget = NATIVE
) -> tuple[Kernel, Kernel]:
    layer = NormSpec(lead, width, EPSILON)  # pyright: ignore[reportArgumentType]
    rms = NormSpec(lead, width, EPSILON, centred=False, bias=False)  # pyright: ignore[reportArgumentType]
    return Kernel(norm("main", layer, cpu), cpu), Kernel(norm("main", rms, cpu), cpu)


@pytest.mark.parametrize("cpu", [NATIVE, EMULATED], ids=["native", "neon"])
@pytest.mark.parametrize("width", [1, 5, 8, 33])
def test_known_widths(width: int, cpu: CpuTarget) -> None:
    x = rows(width)
    got = Kernel(softmax("main", SoftmaxSpec((2, 3), width), cpu), cpu)([x], x.shape)
    np.testing.assert_allclose(got, probabilities(x), atol=3e-7)
    check_norms(norms((2, 3), width, cpu), width)


def test_symbolic_widths() -> None:
    count, width = tirx.Var("count", "int64"), tirx.Var("width", "int64")
    kernel = Kernel(softmax("main", SoftmaxSpec((2, count), width), NATIVE))
    logarithm = Kernel(softmax("main", SoftmaxSpec((2, count), width, logarithm=True), NATIVE))
    pair = norms((2, count), width)
    for known in WIDTHS:
        x = rows(known)
        np.testing.assert_allclose(kernel([x], x.shape), probabilities(x), atol=3e-7)
        np.testing.assert_allclose(logarithm([x], x.shape), np.log(probabilities(x)), atol=1e-5)
        check_norms(pair, known)


def test_threads_share_rows() -> None:
    cpu = with_threads(NATIVE, 2)
    x = np.random.default_rng(0).standard_normal((1, 403, 100)).astype(np.float32)
    function = softmax("main", SoftmaxSpec((1, 403), 100), cpu)
    assert "T.parallel" in function.script()
    np.testing.assert_allclose(Kernel(function, cpu)([x], x.shape), probabilities(x), atol=3e-7)


def test_masked_entries_are_exactly_zero_and_not_a_number_spreads() -> None:
    x = np.array([[[-1e9, 1, 2], [-np.inf, 1, 2]], [[np.nan, 1, 2], [np.inf, 1, 2]]], np.float32)
    got = Kernel(softmax("main", SoftmaxSpec((2, 2), 3), NATIVE))([x], x.shape)
    assert got[0, 0, 0] == 0
    assert got[0, 1, 0] == 0
    assert np.isnan(got[1]).all()
