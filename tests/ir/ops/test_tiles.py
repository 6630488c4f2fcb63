"""Convolution by tiles of bf16: against a direct one in double precision."""

from __future__ import annotations

import numpy as np
import pytest

from leptonc.ir.blob import Array
from leptonc.ir.interpret import interpret
from leptonc.ir.ops.bf16 import to_bf16
from leptonc.ir.ops.blocked import pack_array, unpack_array
from leptonc.ir.text import parse_graph

LANES = 4


def convolved(x: Array, w: Array, pads: tuple[int, int, int, int], tile: int) -> Array:
    """The operation on bf16."""
    rows = x.shape[2] + pads[0] + pads[2] - 2
    columns = x.shape[3] + pads[1] + pads[3] - 2
    source = pack_array(x, LANES)
    blocks = -(-len(w) // LANES)
    types = [
        f"f32[{','.join(map(str, shape))}]"
        for shape in (source.shape, w.shape, (len(x), blocks, rows, columns, LANES))
    ]
    text = f"""graph @c(%x: {types[0]}, %w: {types[1]}) -> (y: {types[2]}) {{
  %y = conv_blocked(%x, %w) {{lanes = {LANES}, pads = [{", ".join(map(str, pads))}], tile = {tile}, rounds = "operands"}} : {types[2]}
  return %y
}}
"""  # noqa: E501
    graph = parse_graph(text, "test")
    return unpack_array(interpret(graph, {"x": source, "w": w})["y"], len(w))


def exact(x: Array, w: Array, pads: tuple[int, int, int, int]) -> Array:
    top, left, bottom, right = pads
    padded = np.pad(x.astype(np.float64), ((0, 0), (0, 0), (top, bottom), (left, right)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(2, 3))
    return np.einsum("nchwij,fcij->nfhw", windows, w.astype(np.float64))


@pytest.mark.parametrize("pads", [(1, 1, 1, 1), (0, 0, 0, 0), (2, 0, 1, 3)])
@pytest.mark.parametrize("size", [(8, 6), (7, 9), (3, 3)])
def test_numbers_that_bf16_holds_at_the_points_are_not_rounded(
    size: tuple[int, int], pads: tuple[int, int, int, int]
) -> None:
    rng = np.random.default_rng(0)
    x = rng.integers(-15, 16, (2, 6, *size)).astype(np.float32)
    w = 4 * rng.integers(-7, 8, (5, 6, 3, 3)).astype(np.float32)
    np.testing.assert_array_equal(convolved(x, w, pads, 2), exact(x, w, pads))


def test_what_is_rounded_are_the_points() -> None:
    """1 + 2^-8 is rounded to 1, but 1 + 2^-8 - 1, which is the point at 0, is exact."""
    x = np.zeros((1, 4, 4, 4), np.float32)
    x[0, 0, 0, 0], x[0, 0, 2, 0] = 1 + 2**-8, 1
    w = np.zeros((1, 4, 3, 3), np.float32)
    w[0, 0, 0, 0] = 1
    pads = (0, 0, 0, 0)
    assert convolved(x, w, pads, 0)[0, 0, 0, 0] == to_bf16(x)[0, 0, 0, 0] == 1
    assert convolved(x, w, pads, 2)[0, 0, 0, 0] != 1


@pytest.mark.parametrize("kind", ["of both signs", "positive"])
def test_rounding_stays_near_that_of_a_direct_convolution(kind: str) -> None:
    rng = np.random.default_rng(1)
    x = rng.standard_normal((1, 64, 16, 16)).astype(np.float32)
    x = np.maximum(x, 0) if kind == "positive" else x
    w = rng.standard_normal((16, 64, 3, 3)).astype(np.float32)
    pads = (1, 1, 1, 1)
    want = exact(x, w, pads)
    direct, tiles = (np.std(convolved(x, w, pads, tile) - want) for tile in (0, 2))
    assert tiles < 1.8 * direct
