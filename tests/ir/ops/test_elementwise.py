# pyright: standard
"""Elementwise rows agree with ONNX's reference, edge cases included."""

import math

import numpy as np
import pytest

from leptonc.ir.diagnostics import LeptonError
from leptonc.ir.ops.error_function import erf
from leptonc.ir.types import DType
from tests.ir.ops.single import check_row, one_op, reference, result_types, run

EDGES = np.array([
    0.0, -0.0, 1, -1, np.nan, np.inf, -np.inf, 1e-41, -1e-41, 3.4e38, -3.4e38, 0.5, 1.5, 2.5, -0.5,
], np.float32)  # fmt: skip
NUMBERS = np.concatenate([EDGES, np.linspace(-6, 6, 25, dtype=np.float32)])
TOLERANCE = {np.float16: 2e-3, np.float32: 1e-5, np.float64: 1e-12}
# The reference computes these through f32 whatever the type.
COARSE = ("erf", "gelu", "hard_swish")
# The reference computes these in another order, so that it overflows or loses infinities.
FINITE = ("softplus", "mish", "softsign", "swish", "gelu", "hard_swish", "celu", "selu", "elu")
UNARY = [
    "abs", "neg", "sign", "ceil", "floor", "round", "sqrt", "reciprocal", "exp", "log", "erf",
    "sin", "cos", "tan", "tanh", "sinh", "cosh", "asin", "acos", "atan", "asinh", "acosh",
    "atanh", "relu", "leaky_relu", "thresholded_relu", "elu", "selu", "celu", "sigmoid",
    "hard_sigmoid", "hard_swish", "swish", "softplus", "softsign", "mish", "gelu", "shrink",
]  # fmt: skip
INTEGERS = [np.int8, np.uint8, np.int16, np.uint16, np.int32, np.uint32, np.int64, np.uint64]


@pytest.fixture(autouse=True)
def quiet():
    with np.errstate(all="ignore"):
        yield


def pairs(array):
    """Every element beside every other."""
    left, right = np.meshgrid(array, array)
    return left.reshape(-1).copy(), right.reshape(-1).copy()


def edges_of(dtype):
    limits = np.iinfo(dtype)
    negative = [-1, -2, -7] if limits.min < 0 else []
    return np.array([limits.min, *negative, 0, 1, 2, 7, limits.max], dtype)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16])
@pytest.mark.parametrize("name", UNARY)
def test_functions_of_one_number(name, dtype):
    x = NUMBERS.astype(dtype)
    if name in FINITE:
        x = x[np.isfinite(x) & (np.abs(x) < 80)]
    coarse = dtype is np.float64 and name in COARSE
    check_row(name, [x], tolerance=2e-7 if coarse else TOLERANCE[dtype])


def test_the_error_function_is_exact_to_the_last_digits():
    x = np.concatenate([np.linspace(-7, 7, 4001), [1e-300, -1e-8, np.inf, -np.inf]])
    expected = np.array([math.erf(value) for value in x])
    np.testing.assert_allclose(erf(x), expected, rtol=1e-15, atol=0)
    assert math.isnan(float(erf(np.array([np.nan]))[0]))
    assert np.signbit(erf(np.array([-0.0])))[0]


def test_activations_have_their_limits_at_infinity():
    x = np.array([np.inf, -np.inf, np.nan], np.float32)
    for name, low in (("softplus", 0), ("elu", -1), ("sigmoid", 0), ("celu", -1)):
        (found,) = run(one_op(name, [x]), [x])
        assert found[0] == (1 if name == "sigmoid" else np.inf)
        assert found[1] == low
        assert np.isnan(found[2])


@pytest.mark.parametrize(
    ("name", "attrs"),
    [
        ("elu", {"alpha": 0.5}), ("selu", {"alpha": 2.0, "gamma": 3.0}), ("celu", {"alpha": 2.0}),
        ("leaky_relu", {"alpha": 0.3}), ("thresholded_relu", {"alpha": 2.0}),
        ("hard_sigmoid", {"alpha": 0.5, "beta": 0.1}), ("swish", {"alpha": 0.5}),
        ("shrink", {"bias": 1.5, "lambd": 1.0}), ("gelu", {"approximate": "tanh"}),
    ],
)  # fmt: skip
def test_attributes(name, attrs):
    check_row(name, [np.linspace(-4, 4, 33, dtype=np.float32)], attrs, tolerance=1e-5)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16])
@pytest.mark.parametrize("name", ["add", "sub", "mul", "div", "mod", "max", "min", "sum", "mean"])
def test_functions_of_two_numbers(name, dtype):
    check_row(name, list(pairs(EDGES.astype(dtype))), tolerance=TOLERANCE[dtype])


def test_remainders_with_the_sign_of_the_dividend():
    a, b = pairs(EDGES)
    check_row("mod", [a, b], {"fmod": 1})
    for dtype in INTEGERS:
        a, b = pairs(edges_of(dtype))
        check_row("mod", [a[b != 0], b[b != 0]], {"fmod": 1})


@pytest.mark.parametrize("dtype", INTEGERS)
def test_integers_wrap(dtype):
    a, b = pairs(edges_of(dtype))
    for name in ("add", "sub", "mul", "max", "min"):
        check_row(name, [a, b])
    for name in ("div", "mod"):
        check_row(name, [a[b != 0], b[b != 0]])
    for name in ("abs", "sign"):
        check_row(name, [a])


def test_integer_division_rounds_towards_zero_and_by_zero_gives_zero():
    a = np.array([7, -7, 7, -7, 5, -128], np.int8)
    b = np.array([2, 2, -2, -2, 0, -1], np.int8)
    assert run(one_op("div", [a, b]), [a, b])[0].tolist() == [3, -3, -3, 3, 0, -128]
    assert run(one_op("mod", [a, b]), [a, b])[0].tolist() == [1, 1, -1, -1, 0, 0]


def test_powers_have_the_type_of_the_base():
    x = np.array([0.5, 2, -3], np.float32)
    for dtype in (np.int32, np.int64, np.uint8, np.float64, np.float16):
        check_row("pow", [x, np.array([2, 3, 1], dtype)], tolerance=1e-6)
    check_row("pow", [np.array([2, -3, 5], np.int32), np.array([2, 3, 0], np.int64)])
    check_row("pow", [np.array([2, 3, 5], np.int64), np.array([2.5, 3, 0.5], np.float32)])


def test_negative_powers_of_integers_round_towards_zero():
    x = np.array([2, 1, -1, -1, 0], np.int64)
    y = np.array([-1, -5, -3, -2, -1], np.int64)
    assert run(one_op("pow", [x, y]), [x, y])[0].tolist() == [0, 1, -1, 1, 0]


def test_any_number_of_operands():
    arrays = [EDGES, EDGES[::-1].copy(), np.array([0.25], np.float32)]
    for name in ("max", "min", "sum", "mean"):
        check_row(name, arrays, tolerance=1e-6)
        check_row(name, arrays[:1])


def test_limits():
    low, high = np.array(-1, np.float32), np.array(1, np.float32)
    for limits in ([low, high], [None, high], [low, None], [high, low], [None, None]):
        check_row("clip", [EDGES, *limits])
    check_row("clip", [edges_of(np.int64), np.array(-2), np.array(3)])


def test_slopes_repeat_along_the_operand_only():
    x = np.linspace(-2, 2, 24, dtype=np.float32).reshape(2, 3, 4)
    for slope in (x[0, :, :1] * 2, np.array(0.5, np.float32), x):
        check_row("prelu", [x, slope])
    with pytest.raises(LeptonError, match="does not broadcast to") as caught:
        result_types("prelu", ["f32[3]", "f32[2,3]"])
    assert caught.value.code == "E103"


def test_broadcasting_and_empty_tensors():
    x = np.arange(6, dtype=np.float32).reshape(2, 3)
    for a, b in ((x, x[0]), (x[:, :1], x[:1]), (x[0, 0].reshape(()), x), (x[:0], x[:1])):
        check_row("add", [a, b])
    check_row("exp", [np.zeros((0, 2), np.float32)])
    check_row("mul", [np.array(2, np.float32), np.array(3, np.float32)])


@pytest.mark.parametrize(
    ("types", "result"),
    [
        (["f32[a,3]", "f32[a,1]"], "f32[a,3]"), (["f32[a]", "f32[1]"], "f32[a]"),
        (["f32[a]", "f32[5]"], "f32[5]"), (["f32[a,b]", "f32[c,b]"], "f32[broadcast(a,c),b]"),
        (["f32[]", "f32[2*a+1]"], "f32[2*a+1]"), (["f32[2*a]", "f32[b]"], "f32[2*a]"),
    ],
)  # fmt: skip
def test_symbolic_extents(types, result):
    assert result_types("add", types) == [result]
    assert result_types("max", types) == [result]


@pytest.mark.parametrize(
    ("name", "types", "attrs", "code"),
    [
        ("add", ["f32[2]", "f32[3]"], {}, "E103"), ("add", ["f32[2]", "f16[2]"], {}, "E101"),
        ("exp", ["i32[2]"], {}, "E102"), ("mod", ["f32[2]", "f32[2]"], {"fmod": 2}, "E108"),
        ("gelu", ["f32[2]"], {"approximate": "fast"}, "E108"), ("max", [], {}, "E104"),
        ("clip", ["f32[2]", "f32[2]"], {}, "E103"), ("relu", ["u8[2]"], {}, "E102"),
    ],
)  # fmt: skip
def test_mistakes_are_named(name, types, attrs, code):
    with pytest.raises(LeptonError) as caught:
        result_types(name, types, attrs)
    assert caught.value.code == code


def test_activations_of_com_microsoft():
    x, bias = np.linspace(-4, 4, 12, dtype=np.float32).reshape(3, 4), np.ones(4, np.float32)
    (exact,) = reference("gelu", [x + bias], {}, 1)
    (fast,) = reference("gelu", [x], {"approximate": "tanh"}, 1)
    for name, operands, expected in (
        ("bias_gelu", [x, bias], exact), ("fast_gelu", [x], fast),
        ("fast_gelu", [x - bias, bias], fast),
        ("quick_gelu", [x], x / (1 + np.exp(-1.702 * x))),
    ):  # fmt: skip
        (found,) = run(one_op(name, operands), operands)
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    assert result_types("ms_gelu", ["bf16[a]"]) == [f"{DType.BF16}[a]"]
