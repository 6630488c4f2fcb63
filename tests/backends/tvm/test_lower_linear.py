"""Lowered matrix products against their meaning."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest

from tests.backends.tvm.kernel_of_row import check_lowering
from tests.ir.ops.against_onnx import normal
from tests.ir.ops.test_linear import EQUATIONS


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ((2, 3), (3, 4)),
        ((3,), (3,)),
        ((3,), (3, 4)),
        ((2, 3), (3,)),
        ((3,), (5, 3, 2)),
        ((5, 2, 3), (3, 4)),
        ((2, 3), (5, 3, 4)),
        ((5, 1, 2, 3), (4, 3, 2)),
        ((0, 3), (3, 4)),
        ((2, 0), (0, 4)),
        ((17, 33), (33, 40)),
    ],
)
def test_matmul_of_each_rank(a: tuple[int, ...], b: tuple[int, ...]) -> None:
    check_lowering("matmul", [normal(*a), normal(*b, seed=1)])


@pytest.mark.parametrize("dtype", [np.float64, np.float16, ml_dtypes.bfloat16])
def test_matmul_of_each_float(dtype: Any) -> None:
    check_lowering("matmul", [normal(5, 64, dtype=dtype), normal(64, 16, dtype=dtype)], scale=4)


@pytest.mark.parametrize("dtype", [np.int32, np.uint32, np.int64, np.uint64])
def test_integer_products_wrap(dtype: Any) -> None:
    rng = np.random.default_rng(0)
    a, b = (rng.integers(0, np.iinfo(dtype).max, (3, 3), dtype) for _ in range(2))
    check_lowering("matmul", [a, b])


def test_matmul_of_symbolic_extents() -> None:
    def operands(batch: int, rows: int, depth: int, columns: int) -> list[Any]:
        return [normal(batch, rows, depth), normal(batch, depth, columns)]

    sizes = [
        operands(2, 3, 4, 5),
        operands(1, 1, 1, 1),
        operands(3, 16, 8, 24),
        operands(2, 2, 0, 3),
    ]
    check_lowering("matmul", *sizes, symbolic=(0, 1))
    check_lowering("einsum", *sizes, symbolic=(0, 1), equation="bij,bjk->bik")


@pytest.mark.parametrize("bias", [None, (), (4,), (2, 1), (1, 4), (2, 4)])
@pytest.mark.parametrize("transposed", [(0, 0), (1, 1)])
def test_gemm(bias: tuple[int, ...] | None, transposed: tuple[int, int]) -> None:
    a = normal(*((3, 2) if transposed[0] else (2, 3)))
    b = normal(*((4, 3) if transposed[1] else (3, 4)))
    c = None if bias is None else np.asarray(normal(*bias))
    attrs: dict[str, Any] = {
        "transA": transposed[0],
        "transB": transposed[1],
        "alpha": 0.5,
        "beta": -2.0,
    }
    check_lowering("gemm", [a, b, c], **attrs)


def test_gemm_of_integers_and_symbols() -> None:
    a, b, c = (np.arange(n, dtype=np.int32).reshape(-1, 2) for n in (6, 4, 6))
    check_lowering("gemm", [a, b, c])
    check_lowering("gemm", [a, b, c], alpha=2.0, beta=3.0)
    w, bias = normal(5, 3), normal(5)
    sizes = [[normal(rows, 3), w, bias] for rows in (2, 1, 7)]
    check_lowering("gemm", *sizes, symbolic=(0,), transB=1)


@pytest.mark.parametrize("transposed", [False, True])
def test_linear(transposed: bool) -> None:
    w, bias = normal(*((7, 6) if transposed else (6, 7))), normal(7)
    sizes = [[normal(n, rows, 6), w, bias] for n, rows in ((2, 3), (1, 1), (3, 8))]
    check_lowering("linear", *sizes, symbolic=(0,), transposed=transposed)
    check_lowering("linear", [normal(6), w], transposed=transposed)


@pytest.mark.parametrize(
    "attrs",
    [
        {"transA": 1, "alpha": 0.5},
        {"transB": 1},
        {"transBatchA": 1, "transA": 1},
        {"transBatchB": 1, "transB": 1},
    ],
)
def test_fused_matmul(attrs: dict[str, Any]) -> None:
    check_lowering("fused_matmul", [normal(3, 3, 3, 3), normal(3, 3, 3, 3, seed=1)], **attrs)


@pytest.mark.parametrize("equation", EQUATIONS)
def test_einsum(equation: str) -> None:
    check_lowering(
        "einsum", [normal(*s, seed=i) for i, s in enumerate(EQUATIONS[equation])], equation=equation
    )


def test_einsum_of_symbolic_extents_and_of_integers() -> None:
    sizes = [[normal(n, 2, rows, 4), normal(n, 2, rows, 4)] for n, rows in ((2, 3), (1, 1), (3, 5))]
    check_lowering("einsum", *sizes, symbolic=(0, 1), equation="bhid,bhjd->bhij")
    x = (normal(3, 4) * 50).astype(np.int8)
    check_lowering("einsum", [x, x.T.copy()], equation="ij,jk->ik")
