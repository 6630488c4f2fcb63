"""Matrix product rows against ONNX's reference and onnxruntime."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest

from leptonc.ir.diagnostics import LeptonError
from leptonc.ir.table import op_named
from tests.ir.ops.against_onnx import build_op, check_row, evaluate, normal, row_of


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ((2, 3), (3, 4)),
        ((3,), (3,)),
        ((3,), (3, 4)),
        ((2, 3), (3,)),
        ((5, 2, 3), (3,)),
        ((3,), (5, 3, 2)),
        ((5, 2, 3), (3, 4)),
        ((2, 3), (5, 3, 4)),
        ((5, 1, 2, 3), (4, 3, 2)),
        ((0, 3), (3, 4)),
        ((2, 0), (0, 4)),
    ],
)
def test_matmul_matches_the_reference(a: tuple[int, ...], b: tuple[int, ...]) -> None:
    check_row("MatMul", [normal(*a), normal(*b, seed=1)])
    check_row("MatMul", [normal(*a, dtype=np.float64), normal(*b, dtype=np.float64, seed=1)])


@pytest.mark.parametrize("dtype", [np.int32, np.uint32, np.int64, np.uint64])
def test_integer_products_wrap(dtype: Any) -> None:
    rng = np.random.default_rng(0)
    a, b = (rng.integers(0, np.iinfo(dtype).max, (3, 3), dtype) for _ in range(2))
    check_row("MatMul", [a, b])


def test_narrow_products_sum_in_single_precision() -> None:
    a, b = (normal(8, 512, dtype=ml_dtypes.bfloat16), normal(512, 8, dtype=ml_dtypes.bfloat16))
    (y,) = evaluate(row_of("MatMul"), [a, b], {})
    exact = a.astype(np.float64) @ b.astype(np.float64)
    np.testing.assert_allclose(y.astype(np.float64), exact, rtol=2.0**-8, atol=1e-4)


@pytest.mark.parametrize("bias", [None, (), (1,), (4,), (2, 1), (1, 4), (2, 4)])
@pytest.mark.parametrize("transposed", [(0, 0), (1, 0), (0, 1), (1, 1)])
def test_gemm_matches_the_reference(
    bias: tuple[int, ...] | None, transposed: tuple[int, int]
) -> None:
    a = normal(*((3, 2) if transposed[0] else (2, 3)))
    b = normal(*((4, 3) if transposed[1] else (3, 4)))
    c = normal(*bias) if bias is not None else None
    c = c if c is None else np.asarray(c)
    attrs: dict[str, Any] = {"transA": transposed[0], "transB": transposed[1]}
    check_row("Gemm", [a, b, c], symbolic=(0, 1), **attrs)
    check_row("Gemm", [a, b, c], alpha=0.5, beta=-2.0, **attrs)


def test_gemm_of_integers() -> None:
    a, b, c = (np.arange(n, dtype=np.int32).reshape(-1, 2) for n in (6, 4, 6))
    check_row("Gemm", [a, b, c])
    check_row("Gemm", [a, b, c], alpha=2.0, beta=3.0)


@pytest.mark.parametrize("transposed", [False, True])
def test_linear_is_a_product_plus_a_row(transposed: bool) -> None:
    row = op_named("linear")
    assert row is not None
    x, w, bias = normal(2, 5, 3), normal(3, 4), normal(4)
    weight = np.ascontiguousarray(w.T) if transposed else w
    (y,) = evaluate(row, [x, weight, bias], {"transposed": transposed})
    np.testing.assert_allclose(y, x @ w + bias, rtol=1e-5, atol=1e-6)
    (y,) = evaluate(row, [x[0, 0], weight], {"transposed": transposed})
    np.testing.assert_allclose(y, x[0, 0] @ w, rtol=1e-5, atol=1e-6)


EQUATIONS: dict[str, list[tuple[int, ...]]] = {
    "ij,jk->ik": [(2, 3), (3, 4)],
    "ij,jk": [(2, 3), (3, 4)],
    "ba,ca": [(2, 3), (4, 3)],
    "bhid,bhjd->bhij": [(2, 3, 4, 5), (2, 3, 6, 5)],
    "...ij,...jk->...ik": [(2, 1, 3, 4), (5, 4, 2)],
    "...ii->...i": [(2, 3, 3)],
    "ii": [(3, 3)],
    "i->": [(4,)],
    " i j -> j i ": [(2, 3)],
    "ij,j,jk->k": [(2, 3), (3,), (3, 2)],
    "b...,b...->...": [(2, 3, 4), (2, 3, 4)],
    "i,j->ij": [(2,), (3,)],
    "...i->...": [(2, 3)],
    "Ab,bC->AC": [(2, 3), (3, 2)],
}


@pytest.mark.parametrize("equation", EQUATIONS)
def test_einsum_matches_the_reference(equation: str) -> None:
    operands = [normal(*shape, seed=i) for i, shape in enumerate(EQUATIONS[equation])]
    check_row("Einsum", operands, equation=equation)
    check_row("Einsum", [x.astype(np.float64) for x in operands], equation=equation)
    check_row("Einsum", [(x * 9).astype(np.int64) for x in operands], equation=equation)


def test_determinants_match_the_reference() -> None:
    check_row("Det", [normal(3, 3)])
    check_row("Det", [normal(2, 4, 5, 5)])


@pytest.mark.parametrize(
    "attrs",
    [
        {},
        {"transA": 1},
        {"transB": 1},
        {"transA": 1, "transB": 1, "alpha": 0.5},
        {"transBatchA": 1},
        {"transBatchA": 1, "transA": 1},
        {"transBatchB": 1, "transB": 1},
    ],
)
def test_fused_matmul_matches_onnxruntime(attrs: dict[str, Any]) -> None:
    from tests.ir.ops.against_onnx import assert_close, onnxruntime_reference

    # [batch, heads, 3, 3] cubes fit every arrangement
    a, b = normal(3, 3, 3, 3), normal(3, 3, 3, 3, seed=1)
    row = row_of("FusedMatMul", "com.microsoft")
    expected = onnxruntime_reference("FusedMatMul", [a, b], attrs, domain="com.microsoft")
    assert_close(evaluate(row, [a, b], dict(attrs)), expected)


@pytest.mark.parametrize(
    ("name", "shapes", "attrs", "message"),
    [
        ("MatMul", [(2, 3), (4, 5)], {}, "matmul of [2,3] and [4,5]: 3 columns meet 4 rows"),
        ("MatMul", [(), (4, 5)], {}, "a scalar has no matrix product"),
        ("MatMul", [(2, 1, 3), (3, 3, 5)], {}, "do not broadcast: 2 against 3"),
        ("Gemm", [(2, 3), (3, 5), (4,)], {}, "the bias f32[4] does not broadcast to [2,5]"),
        ("Gemm", [(1, 3), (3, 5), (2, 5)], {}, "the bias f32[2,5] does not broadcast to [1,5]"),
        ("Gemm", [(2, 2, 3), (3, 5)], {}, "both should be matrices"),
        ("Einsum", [(2, 3), (4, 5)], {"equation": "ij,jk->ik"}, "axis 'j' has 3 and 4 elements"),
        ("Einsum", [(2, 3)], {"equation": "ij,jk->ik"}, "has 2 terms, 1 operands were given"),
        ("Einsum", [(2, 3)], {"equation": "ijk->ik"}, "names 3 axes, its operand has 2"),
        ("Einsum", [(2, 3)], {"equation": "ij->ik"}, "should name axes of the operands"),
        ("Einsum", [(2, 3)], {"equation": "i+->i"}, "cannot read the term 'i+'"),
        ("Det", [(2, 3)], {}, "should be square"),
    ],
)
def test_contradictions_name_both_sides(
    name: str, shapes: Any, attrs: dict[str, Any], message: str
) -> None:
    with pytest.raises(LeptonError) as error:
        build_op(row_of(name), [np.asarray(normal(*shape)) for shape in shapes], attrs)
    assert message in error.value.message
