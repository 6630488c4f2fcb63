# pyright: standard
"""Comparisons, logic, bits and choice agree with ONNX's reference."""

import numpy as np
import pytest

from leptonc.ir.diagnostics import LeptonError
from tests.ir.ops.single import check_row, one_op, result_types, run

EDGES = np.array([0.0, -0.0, 1, -1, np.nan, np.inf, -np.inf], np.float32)
COMPARISONS = ["equal", "less", "less_or_equal", "greater", "greater_or_equal"]
INTEGERS = [np.int8, np.uint8, np.int16, np.uint16, np.int32, np.uint32, np.int64, np.uint64]


def pairs(array):
    """Every element beside every other."""
    left, right = np.meshgrid(array, array)
    return left.reshape(-1).copy(), right.reshape(-1).copy()


@pytest.mark.parametrize("name", COMPARISONS)
def test_comparisons(name):
    for dtype in (np.float32, np.float16, np.float64, np.int64, np.uint8):
        values = EDGES if np.dtype(dtype).kind == "f" else np.array([0, 1, 3, 100])
        check_row(name, list(pairs(values.astype(dtype))))


def test_texts_and_truths_are_compared():
    check_row("equal", [np.array(["a", "b"], object), np.array(["a", "c"], object)])
    check_row("equal", list(pairs(np.array([False, True]))))


@pytest.mark.parametrize("name", ["and", "or", "xor"])
def test_logic(name):
    check_row(name, list(pairs(np.array([False, True]))))
    check_row("not", [np.array([False, True])])


@pytest.mark.parametrize("name", ["bitwise_and", "bitwise_or", "bitwise_xor"])
def test_bits(name):
    for dtype in INTEGERS:
        a, b = pairs(np.array([np.iinfo(dtype).min, 1, 6, np.iinfo(dtype).max], dtype))
        check_row(name, [a, b])
        check_row("bitwise_not", [a])


@pytest.mark.parametrize("direction", ["LEFT", "RIGHT"])
def test_shifts_of_any_distance(direction):
    for dtype in INTEGERS:
        limits = np.iinfo(dtype)
        low = [-1, -9] if limits.min < 0 else []
        x = np.array([limits.min, *low, 0, 1, 77, limits.max], dtype)
        y = np.array([*low, 0, 1, 7, 8, 31, 63, 64, 99], dtype)
        check_row("bit_shift", [np.repeat(x, y.size), np.tile(y, x.size)], {"direction": direction})


def test_special_floats_are_found():
    x = np.concatenate([EDGES, [3.4e38]]).astype(np.float32)
    check_row("is_nan", [x])
    for negative in (0, 1):
        for positive in (0, 1):
            check_row("is_inf", [x], {"detect_negative": negative, "detect_positive": positive})


def test_choices():
    condition = np.array([[True], [False]])
    x, y = np.arange(6.0).reshape(2, 3), np.array(7.0)
    check_row("where", [condition, x, y])
    check_row("where", [condition, x.astype(np.int32), x.astype(np.int32) + 1])
    texts = np.array(["a", "b"], object)
    check_row("where", [condition[:, 0], texts, texts[::-1].copy()])


@pytest.mark.parametrize(
    ("name", "types", "attrs", "code"),
    [
        ("and", ["f32[2]", "f32[2]"], {}, "E102"), ("less", ["bool[2]", "bool[2]"], {}, "E102"),
        ("where", ["bool[2]", "f32[2]", "f16[2]"], {}, "E101"),
        ("bit_shift", ["i32[2]", "i32[2]"], {"direction": "UP"}, "E108"),
        ("bit_shift", ["i32[2]", "i32[2]"], {}, "E106"),
    ],
)  # fmt: skip
def test_mistakes_are_named(name, types, attrs, code):
    with pytest.raises(LeptonError) as caught:
        result_types(name, types, attrs)
    assert caught.value.code == code


def test_empty_operands():
    x = np.zeros((0, 3), np.int32)
    (found,) = run(one_op("less", [x, x[:, :1]]), [x, x[:, :1]])
    assert found.shape == (0, 3)
