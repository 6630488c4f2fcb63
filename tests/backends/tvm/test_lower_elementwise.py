# pyright: standard
"""Kernels of elementwise operations agree with the rows, edge cases included."""

from typing import Any

import ml_dtypes
import numpy as np
import pytest

from leptonc.backends.tvm.lower.elementwise import SCALAR
from leptonc.ir.table import Trait, all_ops
from leptonc.ir.types import DType
from tests.backends.tvm.kernel_of_row import Case, check_kernel, check_kernels, reason
from tests.ir.ops.single import one_op

BF16 = ml_dtypes.bfloat16
FLOATS = [np.float32, np.float16, BF16, np.float64]
INTEGERS = [np.int8, np.uint8, np.int16, np.uint16, np.int32, np.uint32, np.int64, np.uint64]
EDGES = np.array(
    [0.0, -0.0, 1, -1, np.nan, np.inf, -np.inf, 1e-41, 3.4e38, -3.4e38, 0.5, 1.5, 2.5, -0.5, 3],
    np.float32,
)
NUMBERS = np.concatenate([EDGES, np.linspace(-6, 6, 25, dtype=np.float32)])

UNARY = [
    "abs", "neg", "sign", "ceil", "floor", "round", "sqrt", "reciprocal", "exp", "log", "erf",
    "tanh", "sinh", "cosh", "asin", "acos", "atan", "asinh", "acosh", "atanh", "relu",
    "leaky_relu", "thresholded_relu", "elu", "selu", "celu", "sigmoid", "hard_sigmoid",
    "hard_swish", "swish", "softplus", "softsign", "mish", "gelu", "ms_gelu", "quick_gelu",
    "fast_gelu", "shrink", "is_nan", "is_inf", "identity",
]  # fmt: skip
BINARY = [
    "add", "sub", "mul", "div", "max", "min", "sum", "mean", "mod", "prelu", "pow", "bias_gelu",
    "fast_gelu",
]  # fmt: skip
BITWISE = ["bitwise_and", "bitwise_or", "bitwise_xor"]
COMPARISONS = ["equal", "less", "less_or_equal", "greater", "greater_or_equal"]
TOLERANCE = {np.float32: 1e-5, np.float16: 3e-3, BF16: 2e-2, np.float64: 1e-9}


def as_type(array, dtype):
    with np.errstate(all="ignore"):
        return array.astype(dtype)


def pairs(array):
    """Every element beside every other."""
    left, right = np.meshgrid(array, array)
    return left.reshape(-1).copy(), right.reshape(-1).copy()


def edges_of(dtype):
    limits = np.iinfo(dtype)
    negative = [-1, -2, -7] if limits.min < 0 else []
    return np.array([limits.min, limits.min + 1, *negative, 0, 1, 2, 7, limits.max], dtype)


@pytest.mark.parametrize("dtype", FLOATS)
def test_functions_of_one_number(dtype):
    names = UNARY if dtype is np.float32 else UNARY[:: 1 if dtype is np.float64 else 4]
    check_kernels(
        [Case(name, [as_type(NUMBERS, dtype)], tolerance=TOLERANCE[dtype]) for name in names]
    )


@pytest.mark.parametrize("dtype", FLOATS)
def test_circular_functions(dtype):
    x = np.linspace(-40, 40, 101).astype(dtype)
    check_kernels([Case(n, [x], tolerance=TOLERANCE[dtype]) for n in ("sin", "cos", "tan")])


@pytest.mark.parametrize("dtype", FLOATS)
def test_functions_of_two_numbers(dtype):
    a, b = pairs(as_type(EDGES, dtype))
    names = BINARY if dtype in (np.float32, np.float64) else ["add", "div", "max", "mod"]
    cases = [Case(name, [a, b], tolerance=TOLERANCE[dtype]) for name in names]
    cases.append(Case("mod", [a, b], {"fmod": 1}, tolerance=TOLERANCE[dtype]))
    check_kernels(cases + [Case(name, [a, b]) for name in COMPARISONS])


@pytest.mark.parametrize("dtype", [np.int8, np.uint16, *INTEGERS[4:]])
def test_integers_wrap_and_never_trap(dtype):
    a, b = pairs(edges_of(dtype))
    names = ["add", "sub", "mul", "div", "max", "min", "mod", "prelu", *BITWISE]
    cases = [Case(name, [a, b]) for name in names + COMPARISONS]
    cases.append(Case("mod", [a, b], {"fmod": 1}))
    signed = ["neg", "relu"] if np.iinfo(dtype).min < 0 else []
    check_kernels(cases + [Case(name, [a]) for name in ["abs", "sign", "bitwise_not", *signed]])


@pytest.mark.parametrize("dtype", [np.int8, np.uint16, np.int32, np.uint64])
def test_shifts_of_any_distance(dtype):
    distances = [-1, 0, 1, 7, 8, 31, 33, 63, 64] if np.iinfo(dtype).min < 0 else [0, 1, 7, 8, 64]
    x, y = np.meshgrid(edges_of(dtype), np.array(distances, dtype))
    check_kernels([Case("bit_shift", [x, y], {"direction": way}) for way in ("LEFT", "RIGHT")])


@pytest.mark.parametrize("dtype", [np.int32, np.int64])
def test_powers_of_integers(dtype):
    a, b = pairs(edges_of(dtype))
    small = np.clip(a, -5, 5)
    check_kernels(
        [
            Case("pow", [a, b]),
            Case("pow", [small, np.clip(b, -3, 9).astype(np.int8)]),
            Case("pow", [np.abs(small), np.full(a.shape, 2.5, np.float32)]),
        ]
    )


def test_powers_of_mixed_types():
    x = np.array([0, -1, 2, -3.5, np.inf, np.nan], np.float32)
    constants = [np.array(n, t) for n in (0, 1, 2, 3, 4) for t in (np.int64, np.uint8)]
    cases = [Case("pow", [x, constant]) for constant in constants]
    cases += [Case("pow", [x, np.array([0, 1, 2, 3, 4, 5], t)], tolerance=1e-5) for t in INTEGERS]
    check_kernels(cases)


def test_truths_and_choices():
    a, b = pairs(np.array([False, True]))
    x = np.arange(4.0, dtype=np.float32)
    check_kernels([
        *(Case(name, [a, b]) for name in ("and", "or", "xor", "equal")),
        Case("not", [a]), Case("where", [a, b, ~b]), Case("where", [a, x, -x]),
        Case("where", [a[:, None], x[None, :], np.array(7, np.float32)]),
        Case("is_inf", [EDGES], {"detect_negative": 0}),
        Case("is_inf", [EDGES], {"detect_positive": 0}),
        Case("is_inf", [EDGES], {"detect_negative": 0, "detect_positive": 0}),
    ])  # fmt: skip


def test_limits():
    def scalar(value, dtype: Any = np.float32):
        return np.array(value, dtype)

    check_kernels(
        [
            Case("clip", [EDGES, scalar(-1), scalar(1)]),
            Case("clip", [EDGES, None, scalar(1)]),
            Case("clip", [EDGES, scalar(2), scalar(1)]),
            Case("clip", [EDGES, scalar(np.nan)]),
            Case("clip", [as_type(EDGES, np.float16), scalar(-1, np.float16)]),
            Case("clip", [edges_of(np.int32), scalar(-2, np.int32), scalar(2, np.int32)]),
            Case("max", [EDGES, EDGES[::-1].copy(), np.float32(1).reshape(1)]),
            Case("min", [EDGES]),
        ]
    )


@pytest.mark.parametrize("source", [np.float32, BF16, np.bool_, np.int8, np.uint64])
def test_casts_between_all_types(source):
    unsigned = np.array([0, 1, 2, 100, 3, 7], np.float32)
    cases = []
    for target in [*FLOATS, np.bool_, *INTEGERS]:
        signs = np.dtype(source).kind != "u" and np.dtype(target).kind != "u"
        x = unsigned - 3.5 if signs and source is not np.bool_ else unsigned
        cases.append(Case("cast", [as_type(x, source)], {"to": DType.of(target)}))
    check_kernels(cases)


def test_casts_of_integers_drop_high_bits():
    x = np.array([200, -129, 70000, -1, 2**40 + 5], np.int64)
    check_kernels([Case("cast", [x], {"to": DType.of(target)}) for target in INTEGERS])


def test_casts_of_edges():
    targets = (DType.F16, DType.BF16, DType.F64, DType.BOOL)
    cases = [Case("cast", [EDGES], {"to": target}) for target in targets]
    cases.append(Case("cast_like", [EDGES, np.zeros(3, np.float64)]))
    check_kernels(cases)


def test_broadcasting_and_empty_tensors():
    x = np.arange(6, dtype=np.float32).reshape(2, 3)
    row, scalar = x[:1], np.array(4, np.float32)
    check_kernels([
        Case("add", [x, row[0]]), Case("sub", [row, x[:, :1]]), Case("mul", [scalar, scalar]),
        Case("add", [np.zeros((0, 3), np.float32), row]),
        Case("add", [x, x], shapes={0: ("a", "b"), 1: ("a", "b")}),
        Case("add", [x, row], shapes={0: ("a", "b"), 1: (1, "b")}),
    ])  # fmt: skip


def test_an_extent_of_run_time_may_be_one():
    x = np.arange(6, dtype=np.float32)
    check_kernel("add", [x[:1], x], shapes={0: ("n",)})


def test_dropout_of_inference_copies():
    check_kernel("dropout", [NUMBERS])


def test_what_cannot_be_lowered_says_why():
    x = np.zeros(2, np.float32)
    training = one_op("dropout", [x, np.array(0.5, np.float32), np.array(True)])
    assert reason(training) == "dropout in training mode draws random numbers"
    assert reason(one_op("identity", [x.astype(np.complex64)])) == "c64 tensors are not supported"


def test_every_elementwise_row_has_a_scalar_expression():
    rows = {name for name, row in all_ops().items() if row.has(Trait.ELEMENTWISE)}
    assert rows <= set(SCALAR)


def test_long_chains_compile_in_linear_time():
    x = np.linspace(-3, 3, 40, dtype=np.float32)
    check_kernels([Case("mish", [as_type(x, dtype)], tolerance=2e-2) for dtype in FLOATS])
