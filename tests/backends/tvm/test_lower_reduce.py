# pyright: standard
"""Kernels of reductions and scans agree with the rows, edge cases and empty axes included."""

import ml_dtypes
import numpy as np
import pytest

from tests.backends.tvm.kernel_of_row import Case, check_kernels, reason
from tests.ir.ops.single import one_op

SUMS = ["reduce_sum", "reduce_mean", "reduce_prod", "reduce_l1", "reduce_l2", "reduce_sum_square"]
EXTREMES = ["reduce_max", "reduce_min"]
LOGARITHMS = ["reduce_log_sum", "reduce_log_sum_exp"]
ALL = [*SUMS, *EXTREMES, *LOGARITHMS]


def axes(*items):
    return np.array(items, np.int64)


def normal(*shape):
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


POSITIVE = np.abs(normal(3, 4, 128)) + np.float32(0.1)
EDGES = normal(3, 4, 128)
EDGES[1, 2, 5], EDGES[0, 0], EDGES[2, 3, 7], EDGES[2, 1, 0] = np.nan, -np.inf, np.inf, 3e38


def test_along_each_axis():
    cases = []
    for name in ALL:
        cases += [
            Case(name, [POSITIVE, axes(2)], tolerance=3e-5),
            Case(name, [EDGES, axes(-1)], tolerance=3e-5),
            Case(name, [POSITIVE, axes(1)], {"keepdims": 0}, tolerance=3e-5),
            Case(name, [POSITIVE, axes(-1, 0)], {"keepdims": 0}, tolerance=3e-5),
            Case(name, [POSITIVE[:, :, :9], None], tolerance=3e-5),
        ]
    check_kernels(cases)


def test_extremes_of_rows_that_are_no_whole_vectors():
    cases = []
    for name in EXTREMES:
        for last in (17, 33, 65, 100):
            x = np.ascontiguousarray(EDGES[:, :, :last])
            x[2, 0, last - 1], x[1, 0, last - 2] = 1e9, -1e9
            cases += [
                Case(name, [x, axes(-1)]),
                Case(name, [x, axes(-1, 0)], {"keepdims": 0}),
                Case(name, [x[:1, :2], None], {"keepdims": 0}),
                Case(name, [np.arange(12 * last).reshape(3, 4, last) % 89 - 44, None]),
                Case(name, [x > 0.5, axes(2)]),
            ]
    check_kernels(cases)


def test_over_nothing_and_of_scalars():
    cases = []
    for name in ALL:
        cases += [
            Case(name, [POSITIVE[0], axes()], {"noop_with_empty_axes": 1}, tolerance=3e-5),
            Case(name, [np.array(2, np.float32), None]),
            Case(name, [np.zeros((2, 0, 3), np.float32), axes(1)]),
            Case(name, [np.zeros((2, 0, 3), np.float32), axes(0)]),
        ]
    check_kernels(cases)


def test_extents_of_run_time():
    cases = []
    for name in ALL:
        shapes = {0: ("a", 4, "c")}
        cases += [
            Case(name, [POSITIVE, axes(2)], {"keepdims": 0}, shapes, 3e-5),
            Case(name, [POSITIVE, axes(0, 1)], {}, shapes, 3e-5),
            Case(name, [np.zeros((2, 0), np.float32), axes(1)], {}, {0: ("a", "b")}),
        ]
    check_kernels(cases)


@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(np.float16, 4e-3), (ml_dtypes.bfloat16, 2e-2), (np.float64, 1e-12)]
)
def test_other_floats(dtype, tolerance):
    x = (POSITIVE[:, :, :64]).astype(dtype)
    check_kernels([Case(name, [x, axes(2)], tolerance=tolerance) for name in ALL])


def test_narrow_sums_are_held_in_f32():
    x = np.ones((1, 4096), np.float16)
    ((total,),) = check_kernels([Case("reduce_sum", [x, axes(1)])])
    assert total[0, 0] == 4096


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int32, np.uint32, np.int64])
def test_integers(dtype):
    x = (EDGES[:2, :, :64] * 50).clip(-120, 120)
    with np.errstate(all="ignore"):
        x = np.nan_to_num(x).astype(np.int64).astype(dtype)
    cases = [Case(name, [x, axes(1)]) for name in [*SUMS, *EXTREMES] if name != "reduce_l2"]
    cases += [Case(name, [np.zeros((2, 0), dtype), axes(1)]) for name in [*SUMS, *EXTREMES]]
    check_kernels(cases)


def test_truths():
    x = POSITIVE > 0.5
    check_kernels(
        [
            *(Case(name, [x, axes(2)]) for name in EXTREMES),
            *(Case(name, [np.zeros((2, 0), bool), axes(1)]) for name in EXTREMES),
        ]
    )


def test_positions():
    ties = (EDGES > 0).astype(np.int8)
    lowest = np.full((2, 3, 2), -np.inf, np.float32)
    cases = []
    for name in ("arg_max", "arg_min"):
        for attrs in ({}, {"axis": 1, "keepdims": 0}, {"axis": -1, "select_last_index": 1}):
            cases += [Case(name, [x], attrs) for x in (POSITIVE, EDGES, ties, lowest, ties - 1)]
            cases.append(Case(name, [POSITIVE.astype(np.float16)], attrs, {0: ("a", 4, "c")}))
    check_kernels(cases)


def test_running_sums_and_products():
    x = normal(3, 5, 9)
    cases = []
    for name in ("cum_sum", "cum_prod"):
        for attrs in ({}, {"exclusive": 1}, {"reverse": 1}, {"exclusive": 1, "reverse": 1}):
            cases += [Case(name, [x, np.array(axis)], attrs, None, 1e-5) for axis in (0, -1)]
            cases.append(Case(name, [(x[0] * 9).astype(np.int32), np.array(1)], attrs))
        cases += [
            Case(name, [x[0], np.array(1)], {}, {0: ("a", "b")}, 1e-5),
            Case(name, [x[0, 0].astype(np.float16), np.array(0)], tolerance=4e-3),
            Case(name, [np.zeros((2, 0), np.float32), np.array(1)]),
        ]
    check_kernels(cases)


@pytest.mark.parametrize("axis", [np.array(0), np.array([-1], np.int32)])
def test_running_along_an_axis_of_run_time(axis):
    x = normal(3, 5)
    check_kernels(
        [
            Case("cum_sum", [x, axis], {"reverse": 1}, tolerance=1e-5, runtime=(1,)),
            Case("cum_prod", [x, axis], {"exclusive": 1}, {0: ("a", "b")}, 1e-5, (1,)),
        ]
    )


def test_what_cannot_be_lowered_says_why():
    x = np.zeros((2, 3), np.float32)
    graph = one_op("reduce_sum", [x, axes(1)], {}, runtime=(1,))
    assert reason(graph) == "the axes are not known at compile time"
