# pyright: standard
"""Quantisation agrees with ONNX's reference, to the bit."""

from typing import Any

import ml_dtypes
import numpy as np
import pytest

from leptonc.ir.diagnostics import LeptonError
from leptonc.ir.types import DType
from tests.ir.ops.single import check_row, one_op, result_types, run

X = np.concatenate([np.linspace(-300, 300, 241), [0.5, 1.5, 2.5, -0.5]]).astype(np.float32)
BLOCK = X[:240].reshape(4, 6, 10)
INTEGERS = [DType.U8, DType.I8, DType.U16, DType.I16, DType.U4, DType.I4, DType.U2, DType.I2]
FLOATS = [DType.F8E4M3FN, DType.F8E4M3FNUZ, DType.F8E5M2, DType.F8E5M2FNUZ, DType.F4E2M1]


def scalar(value, dtype: Any = np.float32):
    return np.array(value, dtype)


@pytest.mark.parametrize("to", INTEGERS)
def test_one_scale(to):
    zero_point = np.array(1).astype(to.numpy)
    check_row("quantize_linear", [X, scalar(0.7), zero_point])
    check_row("quantize_linear", [X, scalar(0.7)], {"output_dtype": to})
    stored = np.arange(4).astype(np.int32).astype(to.numpy)
    check_row("dequantize_linear", [stored, scalar(0.3), zero_point])
    check_row("dequantize_linear", [stored, scalar(0.3)])


def test_halves_round_to_even_and_ranges_saturate():
    x = np.array([0.5, 1.5, -2.5, 1e30, -1e30, np.inf, -np.inf, np.nan], np.float32)
    operands = [x, scalar(1), scalar(3, np.int8)]
    (found,) = run(one_op("quantize_linear", operands), operands)
    assert found.tolist() == [3, 5, 1, 127, -128, 127, -128, -128]


@pytest.mark.parametrize("to", FLOATS)
def test_narrow_floats(to):
    zero_point = np.array(0).astype(to.numpy)
    check_row("quantize_linear", [X, scalar(0.7), zero_point])
    check_row("quantize_linear", [X, scalar(0.7)], {"output_dtype": to})
    stored = np.array([0, 1, 2, -1], np.float32).astype(to.numpy)
    check_row("dequantize_linear", [stored, scalar(0.3)])
    check_row("dequantize_linear", [stored, scalar(0.3), zero_point])


def test_scales_by_axis():
    scale = np.linspace(0.1, 2, 6, dtype=np.float32)
    for axis in (1, -2):
        zero_point = np.arange(6).astype(np.int8)
        check_row("quantize_linear", [BLOCK, scale, zero_point], {"axis": axis})
        check_row("dequantize_linear", [BLOCK.astype(np.int8), scale, zero_point], {"axis": axis})
    x = np.arange(6, dtype=np.float32)
    (found,) = run(one_op("quantize_linear", [x, scale]), [x, scale])
    np.testing.assert_array_equal(found, np.rint(x / scale).clip(0, 255).astype(np.uint8))


@pytest.mark.parametrize("block", [4, 5, 9])
def test_scales_by_block(block):
    count = -(-10 // block)
    scale = np.linspace(0.1, 2, 24 * count, dtype=np.float32).reshape(4, 6, count)
    attrs = {"axis": -1, "block_size": block}
    check_row("quantize_linear", [BLOCK, scale, scale.astype(np.uint8)], attrs)
    check_row("dequantize_linear", [BLOCK.astype(np.int8), scale], attrs)


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16])
def test_narrow_scales_divide_in_their_own_type(dtype):
    x, scale = X.astype(dtype), scalar(0.7, dtype)
    check_row("quantize_linear", [x, scale, scalar(3, np.uint8)])
    check_row("dequantize_linear", [np.arange(99).astype(np.uint8), scale, scalar(3, np.uint8)])


def test_types_of_the_division_and_the_result():
    attrs = {"precision": DType.F16, "output_dtype": DType.U8}
    check_row("quantize_linear", [X, scalar(0.7)], attrs)
    check_row("dequantize_linear", [np.arange(9).astype(np.int8), scalar(1.5)])
    types = ["i8[a]", "f16[]"]
    assert result_types("dequantize_linear", types) == ["f16[a]"]
    assert result_types("dequantize_linear", types, {"output_dtype": DType.F32}) == ["f32[a]"]
    assert result_types("quantize_linear", ["f32[a]", "f32[]"]) == ["u8[a]"]


@pytest.mark.parametrize(
    "x", [X, np.array([3, 4.5]), np.array([-3, -4.5]), np.array(2.5), BLOCK, np.array([1e-6, 7])]
)
def test_scales_found_at_run_time(x):
    check_row("dynamic_quantize_linear", [x.astype(np.float32)])


def test_a_range_of_nothing_has_scale_one():
    for x in (np.zeros(3, np.float32), np.zeros((0, 2), np.float32)):
        y, scale, zero_point = run(one_op("dynamic_quantize_linear", [x]), [x])
        assert (scale, zero_point) == (1, 0)
        assert not y.any()
        assert y.shape == x.shape


def test_sums_and_products_of_quantized_tensors():
    a, b = np.array([0, 100, 255], np.uint8), np.array([[10], [200]], np.uint8)
    scales = scalar(0.5), scalar(0.25), scalar(2)
    shift = scalar(8, np.uint8)
    operands = [a, scales[0], shift, b, scales[1], shift, scales[2], shift]
    left, right = (a.astype(int) - 8) * 0.5, (b.astype(int) - 8) * 0.25
    for name, real in (("qlinear_add", left + right), ("qlinear_mul", left * right)):
        (found,) = run(one_op(name, operands), operands)
        np.testing.assert_array_equal(found, np.clip(np.rint(real / 2) + 8, 0, 255))


@pytest.mark.parametrize(
    ("name", "types", "attrs", "code"),
    [
        ("quantize_linear", ["f32[2,3]", "f32[2]"], {}, "E103"),
        ("quantize_linear", ["f32[2,3]", "f32[3]"], {"axis": 2}, "E107"),
        ("quantize_linear", ["f32[2,3]", "f32[]", "i32[]"], {}, "E102"),
        ("quantize_linear", ["f32[2,3]", "f32[]", "i8[]"], {"output_dtype": DType.U8}, "E101"),
        ("quantize_linear", ["f32[2,3]", "f32[2,2]"], {"block_size": 4}, "E103"),
        ("quantize_linear", ["f32[2,3]", "f32[]"], {"block_size": -1}, "E108"),
        ("dequantize_linear", ["i8[2,3]", "f32[3]", "i8[2]"], {}, "E103"),
        ("dequantize_linear", ["i8[2,3]", "f32[]", "u8[]"], {}, "E101"),
        ("qlinear_add", ["u8[2]", "f32[2]", "u8[]", "u8[2]", "f32[]", "u8[]", "f32[]"], {}, "E103"),
    ],
)  # fmt: skip
def test_mistakes_are_named(name, types, attrs, code):
    with pytest.raises(LeptonError) as caught:
        result_types(name, types, attrs)
    assert caught.value.code == code
