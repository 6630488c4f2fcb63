# pyright: standard
"""Attention in one kernel, beside float64.

Scores are sums of up to 64 products of standard normals scaled to variance one, the results are
averages: the kernel stays within a few units in the last place of the values.
"""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from tvm import tirx

from leptonc.backends.cpu import emit
from leptonc.backends.cpu.attention import attention, parts_of
from leptonc.backends.cpu.attention_blocks import blocks_of
from leptonc.backends.cpu.attention_tile import AttentionBuffers, AttentionSpec
from leptonc.backends.cpu.target import CpuTarget, by_name, spelled_out, with_threads
from leptonc.ir.ops.bf16 import to_bf16
from tests.backends.cpu.kernels import AVX512, EMULATED, NATIVE, Array, Kernel, assembly

TOLERANCE = 4e-6
BF16 = 2**-8
"""Weights are off by 1/512 of themselves, and values are a few units."""
PAIRS = with_threads(spelled_out(by_name("avx512-bf16")), 1)
"""What multiplies pairs of bf16, on any machine."""
SMALL = replace(NATIVE, l2_bytes=32 * 1024)
"""A cache so small that keys are taken in several blocks."""


def function(spec: AttentionSpec, cpu: CpuTarget, mask_dtype: str = "float32") -> Any:
    def shape(heads: int, length: Any, width: int) -> tuple[Any, ...]:
        if spec.in_rows:
            return (spec.batch, length, heads * width)
        return (spec.batch, heads, length, width)

    parameters = [
        ("q", shape(spec.heads, spec.queries, spec.depth), "float32"),
        ("k", shape(spec.groups, spec.keys, spec.depth), "float32"),
        ("v", shape(spec.groups, spec.keys, spec.width), "float32"),
        *([("mask", spec.mask, mask_dtype)] if spec.mask else []),
        ("out", shape(spec.heads, spec.queries, spec.width), "float32"),
    ]

    def body(q: Any, k: Any, v: Any, *rest: Any) -> None:
        *mask, out = rest
        given = AttentionBuffers(q, k, v, mask[0] if mask else None, out)
        attention(spec, cpu, given)

    return emit.function("main", parameters, body)


def operands(spec: AttentionSpec, batch: int, queries: int, keys: int) -> tuple[Array, ...]:
    rng = np.random.default_rng(queries * 1000 + keys)
    return tuple(
        rng.standard_normal((batch, heads, length, width)).astype(np.float32)
        for heads, length, width in (
            (spec.heads, queries, spec.depth),
            (spec.groups, keys, spec.depth),
            (spec.groups, keys, spec.width),
        )
    )


def expected(spec: AttentionSpec, q: Array, k: Array, v: Array, mask: Array | None = None) -> Array:
    q, k, v = (x.astype(np.float64) for x in (q, k, v))
    k, v = (np.repeat(x, spec.heads // spec.groups, axis=1) for x in (k, v))
    scores = q @ k.swapaxes(-1, -2) * spec.scale
    if mask is not None:
        scores = np.where(mask, scores, -np.inf) if mask.dtype == bool else scores + mask
    if spec.causal:
        scores = np.where(np.tril(np.ones(scores.shape[-2:], bool)), scores, -np.inf)
    with np.errstate(invalid="ignore"):
        powers = np.exp(scores - scores.max(axis=-1, keepdims=True))
        weights = powers / powers.sum(axis=-1, keepdims=True)
    if spec.guarded and mask is not None:
        weights = np.where(np.isneginf(scores).all(-1, keepdims=True), 0.0, weights)
    return weights @ v


def in_rows(x: Array) -> Array:
    return np.ascontiguousarray(x.transpose(0, 2, 1, 3).reshape(x.shape[0], x.shape[2], -1))


def check(kernel: Kernel, spec: AttentionSpec, sizes: tuple[int, int, int]) -> None:
    batch, queries, keys = sizes
    q, k, v = operands(spec, batch, queries, keys)
    wanted = expected(spec, q, k, v)
    given = [in_rows(x) if spec.in_rows else x for x in (q, k, v)]
    wanted = in_rows(wanted) if spec.in_rows else wanted
    np.testing.assert_allclose(kernel(given, wanted.shape), wanted, atol=TOLERANCE)


@pytest.mark.parametrize(
    ("sizes", "heads", "widths", "rows", "cpu"),
    [
        ((1, 1, 1), (1, 1), (1, 1), True, NATIVE),
        ((2, 9, 7), (4, 2), (5, 3), False, NATIVE),
        ((2, 8, 63), (2, 1), (16, 24), True, NATIVE),
        ((2, 9, 7), (4, 2), (5, 3), True, EMULATED),
        ((1, 63, 150), (2, 2), (64, 64), True, SMALL),
        ((2, 1, 97), (6, 2), (32, 33), False, SMALL),
    ],
)
def test_known_sizes(
    sizes: tuple[int, int, int],
    heads: tuple[int, int],
    widths: tuple[int, int],
    rows: bool,
    cpu: CpuTarget,
) -> None:
    scale = widths[0] ** -0.5
    spec = AttentionSpec(sizes[0], *heads, *sizes[1:], *widths, scale, in_rows=rows)
    check(Kernel(function(spec, cpu), cpu), spec, sizes)


@pytest.mark.parametrize(
    ("sizes", "heads", "widths", "rows", "small"),
    [
        ((1, 1, 1), (1, 1), (2, 1), True, False),
        ((2, 9, 7), (4, 2), (6, 3), False, False),
        ((2, 8, 63), (2, 1), (16, 24), True, True),
        ((1, 33, 151), (2, 2), (64, 40), True, True),
    ],
)
def test_bf16(
    sizes: tuple[int, int, int],
    heads: tuple[int, int],
    widths: tuple[int, int],
    rows: bool,
    small: bool,
) -> None:
    """Beside float64 sums of what is rounded, but for a weight that rounds the other way."""
    cpu = replace(PAIRS, l2_bytes=32 * 1024) if small else PAIRS
    spec = AttentionSpec(
        sizes[0], *heads, *sizes[1:], *widths, widths[0] ** -0.5, in_rows=rows, rounded=True
    )
    q, k, v = (to_bf16(x) for x in operands(spec, *sizes))
    wanted = expected(spec, q, k, v)
    given = [in_rows(x) if rows else x for x in (q, k, v)]
    wanted = in_rows(wanted) if rows else wanted
    got = Kernel(function(spec, cpu), cpu)(given, wanted.shape)
    np.testing.assert_allclose(got, wanted, atol=BF16)


@pytest.mark.parametrize("causal", [False, True])
def test_bf16_of_symbolic_sizes(causal: bool) -> None:
    """An odd number of keys has a pair of one key, whose neighbour is nobody's."""
    n = tirx.Var("n", "int64")
    cpu = replace(PAIRS, l2_bytes=32 * 1024)
    spec = AttentionSpec(
        1, 2, 2, n, n, 32, 16, 0.2, in_rows=True, causal=causal, rounded=True
    )  # fmt: skip
    kernel = Kernel(function(spec, cpu), cpu)
    for length in (1, 2, 7, 33, 130):
        q, k, v = (in_rows(to_bf16(x)) for x in operands(spec, 1, length, length))
        wanted = in_rows(expected(spec, *(to_bf16(x) for x in operands(spec, 1, length, length))))
        np.testing.assert_allclose(kernel([q, k, v], wanted.shape), wanted, atol=BF16)


def test_bf16_is_multiplied_in_pairs() -> None:
    """Both products are of pairs, and nothing of them is in halves of vectors."""
    cpu = with_threads(by_name("avx512-bf16"), 1)
    spec = AttentionSpec(1, 2, 2, 64, 64, 64, 64, 0.125, in_rows=True, rounded=True)
    text = assembly(function(spec, cpu), cpu)
    products = [line for line in text.splitlines() if "vdpbf16ps" in line]
    assert products
    assert all("%zmm" in line for line in products)


def test_symbolic_sizes() -> None:
    batch, queries, keys = (tirx.Var(name, "int64") for name in "bmn")
    spec = AttentionSpec(batch, 4, 2, queries, keys, 16, 16, 0.25, in_rows=True)
    kernel = Kernel(function(spec, SMALL))
    for queries_, keys_ in itertools.product((1, 5, 6, 14), (1, 7, 8, 9, 63, 200, 601)):
        check(kernel, spec, (2, queries_, keys_))


@pytest.mark.parametrize(("length", "cpu"), [(17, NATIVE), (150, SMALL)])
def test_causal(length: int, cpu: CpuTarget) -> None:
    spec = AttentionSpec(2, 2, 1, length, length, 32, 32, 0.2, in_rows=True, causal=True)
    check(Kernel(function(spec, cpu)), spec, (2, length, length))


class MaskedKernel(Kernel):
    """A kernel with a mask that may be of bool."""

    def masked(self, inputs: list[Array], mask: Array, shape: tuple[int, ...]) -> Array:
        """The output of this shape."""
        out = np.full(shape, 7.0, np.float32)
        self.call(*inputs, mask, out)
        return out


@pytest.mark.parametrize(
    ("mask_shape", "dtype", "guarded", "cpu"),
    [
        ((2, 4, 11, 37), "bool", True, NATIVE),
        ((1, 1, 11, 37), "float32", True, SMALL),
        ((2, 1, 1, 37), "float32", True, NATIVE),
        ((1, 4, 11, 1), "bool", True, SMALL),
        ((2, 1, 11, 37), "float32", False, NATIVE),
        ((2, 1, 1, 37), "bool", False, SMALL),
    ],
)
def test_masks(mask_shape: tuple[int, ...], dtype: str, guarded: bool, cpu: CpuTarget) -> None:
    rng = np.random.default_rng(len(dtype))
    seen = rng.random(mask_shape) < 0.6
    seen[-1, ..., -1, :] = False  # some query sees nothing
    mask = seen
    if dtype != "bool":
        mask = np.where(seen, rng.standard_normal(mask_shape), -np.inf).astype(np.float32)
    spec = AttentionSpec(
        2, 4, 2, 11, 37, 16, 16, 0.25, in_rows=False, guarded=guarded, mask=mask_shape
    )
    q, k, v = operands(spec, 2, 11, 37)
    wanted = expected(spec, q, k, v, mask)
    assert guarded != bool(np.isnan(wanted).any())
    got = MaskedKernel(function(spec, cpu, dtype), cpu).masked([q, k, v], mask, wanted.shape)
    np.testing.assert_allclose(got, wanted, atol=TOLERANCE)


@pytest.mark.parametrize("scale", [-0.5, 0.0, 3.0])
@pytest.mark.parametrize("masked", [False, True])
def test_scales(scale: float, masked: bool) -> None:
    """Of a negative scale the smallest product is the largest score."""
    spec = AttentionSpec(
        1, 2, 2, 9, 70, 16, 16, scale, in_rows=False, mask=(1, 1, 9, 70) if masked else None
    )
    q, k, v = operands(spec, 1, 9, 70)
    mask = np.random.default_rng(0).random((1, 1, 9, 70)) < 0.7
    wanted = expected(spec, q, k, v, mask if masked else None)
    if masked:
        kernel = MaskedKernel(function(spec, SMALL, "bool"), SMALL)
        got = kernel.masked([q, k, v], mask, wanted.shape)
    else:
        got = Kernel(function(spec, SMALL), SMALL)([q, k, v], wanted.shape)
    np.testing.assert_allclose(got, wanted, atol=TOLERANCE)


def test_the_scores_of_a_tile_stay_in_the_first_cache() -> None:
    """Keys that would all fit into the second cache are taken in blocks for them."""
    cpu = replace(NATIVE, l1_bytes=4096, l2_bytes=1 << 20)
    assert blocks_of(600, 2 * 4 * 16, 32, 14, cpu).size == 64
    assert not blocks_of(64, 2 * 4 * 16, 32, 14, cpu).several
    spec = AttentionSpec(1, 2, 2, 9, 600, 16, 16, 0.25, in_rows=True)
    check(Kernel(function(spec, cpu), cpu), spec, (1, 9, 600))


def test_no_keys_and_no_queries() -> None:
    queries, keys = (tirx.Var(name, "int64") for name in "mn")
    spec = AttentionSpec(1, 1, 1, queries, keys, 8, 8, 1.0, in_rows=True)
    kernel = Kernel(function(spec, NATIVE))
    q, none = np.ones((1, 3, 8), np.float32), np.ones((1, 0, 8), np.float32)
    assert (kernel([q, none, none], (1, 3, 8)) == 0).all()
    assert kernel([none, q, q], (1, 0, 8)).size == 0


def test_infinite_scores_do_not_hide() -> None:
    spec = AttentionSpec(1, 1, 1, 2, 9, 8, 8, 1.0, in_rows=True)
    kernel = Kernel(function(spec, NATIVE))
    q, k, v = (np.ones((1, n, 8), np.float32) for n in (2, 9, 9))
    k[0, 3] = np.nan
    assert np.isnan(kernel([q, k, v], (1, 2, 8))).all()
    k[0, 3] = np.inf
    assert np.isnan(kernel([q, k, v], (1, 2, 8))).all()


def test_wide_vectors_compile() -> None:
    spec = AttentionSpec(1, 2, 2, 30, 70, 64, 64, 0.1, in_rows=True)
    text = assembly(function(spec, AVX512), AVX512)
    assert "zmm" in text


def test_threads_share_the_heads() -> None:
    cpu = with_threads(SMALL, 2)
    spec = AttentionSpec(2, 4, 2, 64, 150, 32, 32, 0.2, in_rows=True)
    made = function(spec, cpu)
    assert "T.parallel" in made.script()
    assert "T.parallel" not in function(spec, SMALL).script()
    check(Kernel(made, cpu), spec, (2, 64, 150))


@pytest.mark.parametrize(
    ("threads", "heads", "causal", "length"),
    [(2, (3, 3), False, 61), (2, (4, 1), True, 150), (3, (2, 2), True, 64), (4, (3, 3), False, 5)],
)
def test_threads_share_the_queries_of_a_few_heads(
    threads: int, heads: tuple[int, int], causal: bool, length: int
) -> None:
    cpu = with_threads(SMALL, threads)
    for queries in (length, tirx.Var("n", "int64")):
        keys = queries if causal else 150
        spec = AttentionSpec(1, *heads, queries, keys, 64, 48, 0.2, in_rows=True, causal=causal)
        kernel = Kernel(function(spec, cpu))
        for count in (length,) if isinstance(queries, int) else (1, 7, 25, length):
            check(kernel, spec, (1, count, count if causal else 150))


def test_parts_of_queries_are_as_few_as_keep_threads_at_work() -> None:
    spec = AttentionSpec(1, 3, 3, 64, 64, 64, 64, 0.2, in_rows=True)
    batch = tirx.Var("b", "int64")
    parts = [
        parts_of(replace(spec, groups=groups, batch=size), with_threads(NATIVE, threads))
        for groups, size, threads in (
            (3, 1, 2),
            (4, 1, 2),
            (1, 1, 2),
            (3, 2, 2),
            (3, batch, 2),
            (12, 1, 8),
        )
    ]
    assert parts == [2, 1, 2, 1, 2, 2]
