# pyright: standard
"""Kernels of quantisation agree with the rows to the bit."""

from typing import Any

import ml_dtypes
import numpy as np
import pytest

from leptonc.ir.types import DType
from tests.backends.tvm.kernel_of_row import Case, check_kernels
from tests.ir.ops.single import reference

VALUES = np.concatenate([
    np.linspace(-300, 300, 601), [np.inf, -np.inf, 1e30, 0.5, 1.5, 2.5, -0.5, np.nan],
]).astype(np.float32)  # fmt: skip
BLOCK = VALUES[:600].reshape(2, 10, 30)


def scalar(value, dtype: Any = np.float32):
    return np.array(value, dtype)


@pytest.mark.parametrize(
    ("dtype", "zero_point"),
    [(np.uint8, 128), (np.int8, -3), (np.int16, 5), (np.uint16, 65000)],
)
def test_one_scale(dtype, zero_point):
    stored, shift = np.arange(100).astype(dtype), scalar(zero_point, dtype)
    cases = [
        Case("quantize_linear", [VALUES, scalar(0.7), shift]),
        Case("quantize_linear", [VALUES, scalar(0.7)], {"output_dtype": DType.of(dtype)}),
        Case("dequantize_linear", [stored, scalar(0.3), shift]),
        Case("dequantize_linear", [stored, scalar(0.3)]),
    ]
    for narrow in (np.float16, ml_dtypes.bfloat16):
        x = np.clip(np.nan_to_num(VALUES), -1e4, 1e4).astype(narrow)
        cases.append(Case("quantize_linear", [x, scalar(0.7, narrow), shift], tolerance=0))
        cases.append(Case("dequantize_linear", [stored, scalar(0.3, narrow), shift], tolerance=0))
    check_kernels(cases)


def test_scales_by_axis_and_block():
    rows = np.linspace(0.1, 2, 10, dtype=np.float32)
    blocks = np.linspace(0.1, 2, 180, dtype=np.float32).reshape(2, 3, 30)
    by_axis, by_block = {"axis": -2}, {"axis": 1, "block_size": 4}
    check_kernels([
        Case("quantize_linear", [BLOCK, rows, np.arange(10).astype(np.uint8)], by_axis),
        Case("quantize_linear", [BLOCK, blocks, blocks.astype(np.uint8)], by_block),
        Case("dequantize_linear", [BLOCK.astype(np.int8), rows], by_axis),
        Case("dequantize_linear", [BLOCK.astype(np.int8), blocks], by_block),
        Case("dequantize_linear", [BLOCK.astype(np.int32), scalar(0.1)]),
        Case("quantize_linear", [BLOCK.astype(np.int32), scalar(0.1), scalar(3, np.int8)]),
        Case("quantize_linear", [BLOCK, scalar(0.1), scalar(3, np.int8)], {"precision": DType.F16}),
    ])  # fmt: skip


def test_scales_of_run_time():
    arrays = [
        VALUES[:600], np.zeros(3, np.float32), np.array([3, 4], np.float32),
        np.array([-3, -4], np.float32), scalar(2.5), np.zeros((0, 3), np.float32), BLOCK,
    ]  # fmt: skip
    cases = [Case("dynamic_quantize_linear", [array], tolerance=0) for array in arrays]
    cases.append(Case("dynamic_quantize_linear", [BLOCK], {}, {0: ("a", 10, "b")}, 0))
    cases.append(Case("dynamic_quantize_linear", [BLOCK[:, :0]], {}, {0: ("a", "n", "b")}, 0))
    check_kernels(cases)


def test_sums_and_products_of_quantized_tensors():
    a = np.arange(0, 256, 5).astype(np.uint8)
    b, zero = a[::-1].copy(), scalar(7, np.uint8)
    scales = scalar(0.5), scalar(0.3), scalar(0.9)
    cases = []
    for name in ("qlinear_add", "qlinear_mul"):
        full = [a, scales[0], zero, b, scales[1], zero, scales[2], zero]
        bare = [a.astype(np.int8), scales[0], None, b.astype(np.int8), scales[1], None, scales[2]]
        cases += [Case(name, full), Case(name, bare)]
    check_kernels(cases)


@pytest.mark.parametrize(
    "dtype",
    [DType.I4, DType.U2, DType.F8E4M3FN, DType.F8E5M2FNUZ, DType.F4E2M1],
    ids=str,
)
def test_narrow_types_agree_with_the_specification(dtype: DType) -> None:
    rng = np.random.default_rng(1)
    x = (rng.standard_normal((4, 6, 8)) * 40).astype(np.float32)
    rows = rng.uniform(0.5, 9, 6).astype(np.float32)
    blocks = rng.uniform(0.5, 9, (4, 6, 2)).astype(np.float32)
    ones = np.ones if dtype.is_integer else np.zeros
    shifts = [ones(shape).astype(dtype.numpy) for shape in ((), (6,), (4, 6, 2))]
    codes = rng.integers(0, 2**dtype.width - 1, (4, 6, 8)).astype(np.uint8) & np.uint8(0x77)
    stored = codes.view(dtype.numpy)
    operands = list(zip([scalar(2.5), rows, blocks], shifts, strict=True))
    attrs = [{}, {"axis": -2}, {"axis": 2, "block_size": 4}]
    cases = [Case("quantize_linear", [x, *o], a) for o, a in zip(operands, attrs, strict=True)]
    cases += [
        Case("dequantize_linear", [stored, *o], a) for o, a in zip(operands, attrs, strict=True)
    ]
    cases += [
        Case("quantize_linear", [x, scalar(0.3)], {"output_dtype": dtype, "saturate": 0}),
        Case("quantize_linear", [x.astype(np.float16), rows.astype(np.float16)],
             {"output_dtype": dtype}),
        Case("dequantize_linear", [stored, rows.astype(np.float16)], {}),
    ]  # fmt: skip
    for case, (mine,) in zip(cases, check_kernels(cases), strict=True):
        (theirs,) = reference(case.name, case.operands, case.attrs, opset=25)
        what = f"{case.name} {dict(case.attrs)}"
        np.testing.assert_array_equal(mine.view(np.uint8), theirs.view(np.uint8), err_msg=what)
