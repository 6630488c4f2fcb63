# pyright: standard
"""Reductions, positions and running sums agree with ONNX's reference."""

import ml_dtypes
import numpy as np
import pytest

from leptonc.ir.diagnostics import LeptonError
from tests.ir.ops.single import check_row, ints, one_op, result_types, run

SUMS = [
    "reduce_sum", "reduce_mean", "reduce_prod", "reduce_l1", "reduce_l2", "reduce_sum_square"
]  # fmt: skip
EXTREMES = ["reduce_max", "reduce_min"]
LOGARITHMS = ["reduce_log_sum", "reduce_log_sum_exp"]
ALL = [*SUMS, *EXTREMES, *LOGARITHMS]


@pytest.fixture(autouse=True)
def quiet():
    with np.errstate(all="ignore"):
        yield


def normal(*shape, dtype=np.float32):
    return np.random.default_rng(0).standard_normal(shape).astype(dtype)


POSITIVE = np.abs(normal(3, 4, 5)) + np.float32(0.1)


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("keepdims", [0, 1])
def test_axes(name, keepdims):
    for axes in (None, ints(), ints(1), ints(-1), ints(0, 2), ints(2, -3), ints(0, 1, 2)):
        check_row(name, [POSITIVE, axes], {"keepdims": keepdims}, tolerance=1e-5)


@pytest.mark.parametrize("name", ALL)
def test_no_axes_at_all(name):
    for axes in (None, ints()):
        if name != "reduce_log_sum_exp":  # which fails in the reference
            check_row(name, [POSITIVE, axes], {"noop_with_empty_axes": 1}, tolerance=1e-6)
    x = np.array(2, np.float32)
    (found,) = run(one_op(name, [x, None]), [x, None])
    expected = {"reduce_sum_square": 4, "reduce_log_sum": np.log(2)}.get(name, 2)
    np.testing.assert_allclose(found, expected, rtol=1e-6)


@pytest.mark.parametrize("name", [name for name in ALL if name != "reduce_mean"])
def test_empty_sets(name):
    x = np.zeros((2, 0, 3), np.float32)
    check_row(name, [x, ints(1)])
    check_row(name, [x, ints(0)])
    check_row(name, [x, None], {"keepdims": 0})


def test_empty_extremes_of_integers_and_truths():
    for dtype in (np.int8, np.uint8, np.int32, np.uint64):
        for name in EXTREMES:
            check_row(name, [np.zeros((2, 0), dtype), ints(1)])
    check_row("reduce_max", [np.zeros((2, 0), bool), ints(1)])
    x = np.zeros((2, 0), bool)
    assert run(one_op("reduce_min", [x, ints(1)]), [x, ints(1)])[0].all()


@pytest.mark.parametrize("dtype", [np.int32, np.uint32, np.int64, np.uint64])
def test_integers(dtype):
    x = (normal(3, 4) * 40).astype(np.int64)
    x = np.abs(x).astype(dtype) if np.dtype(dtype).kind == "u" else x.astype(dtype)
    wide = x.astype(np.float64)
    for name, expected in (
        ("reduce_sum", wide.sum(1)), ("reduce_l1", np.abs(wide).sum(1)),
        ("reduce_sum_square", (wide * wide).sum(1)), ("reduce_max", wide.max(1)),
        ("reduce_min", wide.min(1)), ("reduce_l2", np.sqrt((wide * wide).sum(1)).astype(dtype)),
    ):  # fmt: skip
        (found,) = run(one_op(name, [x, ints(1)], {"keepdims": 0}), [x, ints(1)])
        assert found.dtype == dtype
        np.testing.assert_array_equal(found, expected)


def test_integer_means_round_towards_zero():
    x = np.array([[-3, -4], [3, 4]], np.int32)
    assert run(one_op("reduce_mean", [x, ints(1)]), [x, ints(1)])[0].tolist() == [[-3], [3]]


def test_not_a_number_wins():
    x = POSITIVE.copy()
    x[0, 1, 2] = np.nan
    for name in EXTREMES:
        check_row(name, [x, ints(2)])
    for name in ("arg_max", "arg_min"):
        check_row(name, [x], {"axis": 2})


def test_exponentials_do_not_overflow():
    x = np.array([[1000, 1000], [-np.inf, -np.inf], [np.inf, 0], [np.nan, 1]], np.float32)
    (found,) = run(one_op("reduce_log_sum_exp", [x, ints(1)], {"keepdims": 0}), [x, ints(1)])
    expected = [1000 + np.log(2), -np.inf, np.inf, np.nan]
    np.testing.assert_allclose(found, expected, rtol=1e-6)


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16])
def test_narrow_sums_are_held_in_f32(dtype):
    x = np.ones((1, 4096), dtype)
    assert run(one_op("reduce_sum", [x, ints(1)]), [x, ints(1)])[0].item() == 4096


@pytest.mark.parametrize("name", ["arg_max", "arg_min"])
@pytest.mark.parametrize("last", [0, 1])
def test_positions(name, last):
    ties = np.array([[2, 1, 2, 1], [1, 1, 2, 2]], np.int32)
    for x in (POSITIVE, ties, ties.astype(np.float16)):
        for axis in (0, -1):
            for keepdims in (0, 1):
                attrs = {"axis": axis, "keepdims": keepdims, "select_last_index": last}
                check_row(name, [x], attrs)


@pytest.mark.parametrize("name", ["cum_sum", "cum_prod"])
@pytest.mark.parametrize("exclusive", [0, 1])
@pytest.mark.parametrize("reverse", [0, 1])
def test_running_sums_and_products(name, exclusive, reverse):
    attrs = {"exclusive": exclusive, "reverse": reverse}
    for axis in (0, 1, -1):
        check_row(name, [POSITIVE, np.array(axis)], attrs, tolerance=1e-6)
    check_row(name, [np.arange(6, dtype=np.int32).reshape(2, 3), np.array(1, np.int32)], attrs)
    x = np.zeros((2, 0), np.float32)
    assert run(one_op(name, [x, np.array(1)], attrs), [x, np.array(1)])[0].shape == (2, 0)


def test_symbolic_extents():
    for name in ALL:
        assert result_types(name, ["f32[a,3,b]", ints(1)]) == ["f32[a,1,b]"]
        assert result_types(name, ["f32[a,3,b]", ints(0, -1)], {"keepdims": 0}) == ["f32[3]"]
    assert result_types("arg_max", ["f32[a,b]"], {"keepdims": 0}) == ["i64[b]"]
    assert result_types("cum_sum", ["f32[a,b]", np.array(1)]) == ["f32[a,b]"]


def test_axes_of_run_time_leave_extents_open():
    assert result_types("reduce_sum", ["f32[2,3]", "i64[1]"]) == ["f32[u1_,u2_]"]
    assert result_types("reduce_sum", ["f32[2,3]", "i64[1]"], {"keepdims": 0}) == ["f32[u1_]"]
    x, axes = normal(2, 3), ints(1)
    (found,) = run(one_op("reduce_sum", [x, axes], {}, runtime=(1,)), [x, axes])
    np.testing.assert_allclose(found, x.sum(1, keepdims=True), rtol=1e-6)


@pytest.mark.parametrize(
    ("name", "operands", "attrs", "code"),
    [
        ("reduce_sum", ["f32[2,3]", ints(2)], {}, "E107"),
        ("reduce_sum", ["f32[2,3]", ints(0, -2)], {}, "E107"),
        ("reduce_sum", ["bool[2]"], {}, "E102"),
        ("reduce_sum", ["f32[2]", "i64[a]"], {"keepdims": 0}, "E109"),
        ("arg_max", ["f32[2,0]"], {"axis": 1}, "E103"),
        ("arg_max", ["f32[]"], {}, "E107"),
        ("cum_sum", ["f32[2]", ints(0, 1)], {}, "E103"),
    ],
)
def test_mistakes_are_named(name, operands, attrs, code):
    with pytest.raises(LeptonError) as caught:
        result_types(name, operands, attrs)
    assert caught.value.code == code
