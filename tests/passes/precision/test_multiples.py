"""Weights that were bytes are known by their numbers."""

from __future__ import annotations

import numpy as np
import pytest

from leptonc.ir.blob import Array, Blob
from leptonc.ir.build import Builder
from leptonc.ir.graph import Graph
from leptonc.ir.text import parse_graph
from leptonc.passes.context import PassContext
from leptonc.passes.precision.multiples import multiples
from leptonc.passes.precision.recognize_integer_products import RecognizeIntegerProducts
from leptonc.passes.refine import replace_value

RNG = np.random.default_rng(5)


def weights(depth: int, columns: int, low: int = -128, high: int = 127) -> tuple[Array, Array]:
    """Integers and what one scale for each column makes of them."""
    integers = RNG.integers(low, high + 1, (depth, columns))
    scales = np.exp(RNG.normal(size=columns) * 5).astype(np.float32)
    return integers, integers.astype(np.float32) * scales


@pytest.mark.parametrize(("low", "high"), [(-128, 127), (-255, 255), (-1, 1), (0, 3)])
@pytest.mark.parametrize("depth", [1, 15, 16, 200])
def test_integers_are_found_again(depth: int, low: int, high: int) -> None:
    integers, matrix = weights(depth, 100, low, high)
    made = multiples(matrix)
    assert made is not None
    divisor = np.maximum(np.gcd.reduce(integers, axis=0), 1)
    np.testing.assert_array_equal(made.integers, integers // divisor)
    np.testing.assert_allclose(made.integers * made.scales, matrix, rtol=2**-22, atol=0)


def test_what_was_scaled_again_is_found() -> None:
    integers, matrix = weights(64, 50)
    factors = np.exp(RNG.normal(size=50)).astype(np.float32)
    made = multiples(-matrix * factors)
    assert made is not None
    np.testing.assert_array_equal(made.integers, -integers)


def test_rows_behind_the_sample_refine_the_scale() -> None:
    """The first rows are all of even multiples, or zeros; others are not."""
    integers = np.zeros((40, 3), np.int64)
    integers[0], integers[17], integers[39] = (100, 0, 250), (4, 50, 15), (3, 51, 12)
    made = multiples((integers * 0.1).astype(np.float32))
    assert made is not None
    np.testing.assert_array_equal(made.integers, integers)


@pytest.mark.parametrize("strange", [0.5, 1e-3, np.nan, np.inf, -np.inf, 1e-40, 3e38])
@pytest.mark.parametrize("place", [3, 50])
def test_one_other_number(strange: float, place: int) -> None:
    _, matrix = weights(64, 5, -127, 127)
    matrix[:, 2] = RNG.integers(100, 128, 64)
    matrix[5, 2], matrix[6, 2] = 127, 113
    matrix[place, 2] = strange * (1 if strange != 0.5 else 1 + 2**-15)
    assert multiples(matrix) is None


def test_real_numbers_and_numbers_without_all_digits() -> None:
    assert multiples(RNG.normal(size=(20, 3)).astype(np.float32)) is None
    denormal = (RNG.integers(-127, 128, (20, 3)) * 1e-42).astype(np.float32)
    made = multiples(denormal)
    if made is not None:
        np.testing.assert_array_equal(made.integers * made.scales, denormal)


def layer(depth: int, weight: Array) -> Graph:
    """A layer of bytes made real."""
    graph = parse_graph(
        f"graph @g(%x: u8[1,{depth}], %w: f32[{depth},9]) -> (y: f32[1,9]) {{\n"
        "  %s = const() {value = dense([0.5])} : f32[]\n"
        f"  %r = dequantize_linear(%x, %s) : f32[1,{depth}]\n"
        "  %y = linear(%r, %w) : f32[1,9]\n  return %y\n}\n",
        "test",
    )
    build = Builder(graph, before=next(iter(graph)))
    replace_value(graph.inputs[1], build.const(Blob.of(weight)))
    return graph


@pytest.mark.parametrize(("depth", "kept"), [(66_000, False), (70_000, True)])
def test_sums_of_32_bits(depth: int, kept: bool) -> None:
    weight = np.full((depth, 9), 126, np.float32)
    weight[0] = 127
    graph, context = layer(depth, weight), PassContext()
    RecognizeIntegerProducts().run(graph, context)
    assert any(op.name == "linear" for op in graph) == kept
