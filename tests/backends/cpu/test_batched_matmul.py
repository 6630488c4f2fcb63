# pyright: standard
"""Products of two run-time matrices."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from tvm import tirx

from leptonc.backends.cpu import emit
from leptonc.backends.cpu.batched_matmul import BatchedMatmulSpec, batched_matmul
from leptonc.backends.cpu.emit import Epilogue
from tests.backends.cpu.kernels import NATIVE, Array, Kernel

TOLERANCE = 5e-5  # sums of up to 300 products of standard normals


def operands(
    batches: tuple[tuple[int, ...], tuple[int, ...]],
    sizes: tuple[int, int, int],
    transposed: tuple[bool, bool],
) -> tuple[Array, Array]:
    rows, depth, columns = sizes
    rng = np.random.default_rng(sum(sizes))
    a = rng.standard_normal((*batches[0], rows, depth)).astype(np.float32)
    b = rng.standard_normal((*batches[1], depth, columns)).astype(np.float32)
    return (
        np.ascontiguousarray(a.swapaxes(-1, -2)) if transposed[0] else a,
        np.ascontiguousarray(b.swapaxes(-1, -2)) if transposed[1] else b,
    )


def product(a: Array, b: Array, transposed: tuple[bool, bool]) -> Array:
    a, b = a.astype(np.float64), b.astype(np.float64)
    return (a.swapaxes(-1, -2) if transposed[0] else a) @ (
        b.swapaxes(-1, -2) if transposed[1] else b
    )


@pytest.mark.parametrize(
    ("batches", "sizes", "transposed"),
    [
        (((1,), (1,)), (1, 1, 1), (False, False)),
        (((2,), (2,)), (3, 5, 7), (True, True)),
        (((2, 3), (2, 3)), (7, 9, 8), (False, True)),
        (((2, 1), (2, 3)), (13, 33, 17), (False, True)),
        (((1, 3), (2, 3)), (9, 16, 40), (True, False)),
        (((2,), (1,)), (33, 300, 300), (False, False)),
        (((2,), (2,)), (17, 4, 24), (False, True)),
    ],
)
def test_known_sizes(
    batches: tuple[tuple[int, ...], tuple[int, ...]],
    sizes: tuple[int, int, int],
    transposed: tuple[bool, bool],
) -> None:
    a, b = operands(batches, sizes, transposed)
    spec = BatchedMatmulSpec(*batches, *sizes, *transposed)
    shape = (*np.broadcast_shapes(*batches), sizes[0], sizes[2])
    got = Kernel(batched_matmul("main", spec, NATIVE))([a, b], shape)
    np.testing.assert_allclose(got, product(a, b, transposed), atol=TOLERANCE)


@pytest.mark.parametrize("transposed", [(False, False), (False, True)])
def test_symbolic_sizes(transposed: tuple[bool, bool]) -> None:
    batch, rows, depth, columns = (tirx.Var(name, "int64") for name in "bmkn")
    half = Epilogue(
        (((rows, columns), "float32"),),
        lambda value, index, buffers: value * emit.const(0.5) + buffers[0][index[-2], index[-1]],
    )
    spec = BatchedMatmulSpec((batch, 1), (batch, 2), rows, depth, columns, *transposed, half)
    kernel = Kernel(batched_matmul("main", spec, NATIVE))
    for sizes in itertools.product((1, 7, 14), (1, 9, 24), (3, 8, 33)):
        a, b = operands(((2, 1), (2, 2)), sizes, transposed)
        mask = np.random.default_rng(0).standard_normal((sizes[0], sizes[2])).astype(np.float32)
        got = kernel([a, b, mask], (2, 2, sizes[0], sizes[2]))
        np.testing.assert_allclose(got, product(a, b, transposed) * 0.5 + mask, atol=TOLERANCE)
