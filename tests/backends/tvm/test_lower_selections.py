"""Compiled selections against their meaning."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from leptonc.ir.blob import Array
from tests.backends.tvm.kernel_of_row import Case, Operands, RowKernel, Shapes, check_kernels
from tests.ir.ops.single import one_op, run

RANDOM = np.random.default_rng(5)


def check(
    name: str, operands: Operands, attrs: dict[str, Any], *more: Operands,
    shapes: Shapes | None = None, cut: Sequence[int],
) -> None:  # fmt: skip
    """Hold a kernel against its meaning; results in `cut` count up to the number in the last."""
    kernel = RowKernel(name, operands, attrs, shapes=shapes)
    for given in (operands, *more):
        expected, found = run(one_op(name, given, attrs), given), kernel.run(given)
        (number,) = expected[-1].tolist()
        for at, (mine, theirs) in enumerate(zip(found, expected, strict=True)):
            stop = number if at in cut else None
            np.testing.assert_array_equal(mine[:stop], theirs[:stop])


def whole(low: int, high: int, *shape: int, dtype: Any = np.int64) -> Array:
    return RANDOM.integers(low, high, shape).astype(dtype)


AWKWARD = np.array([np.nan, 1, -0.0, 0.0, -np.inf, np.nan, 1, -1e-40, 3], np.float32)


@pytest.mark.parametrize(
    "x",
    [
        whole(-40, 40, 300),
        whole(-(2**62), 2**62, 40).repeat(2),
        np.array([1, 2**63 + 5, 0, 2**63 + 5], np.uint64),
        np.array([2**31 + 5, 3, 2**31 + 5], np.uint32),
        np.array([-1, 127, -128, -1], np.int8),
        np.array([True, False, True]),
        AWKWARD,
        AWKWARD.astype(np.float64),
        AWKWARD.astype(np.float16),
    ],
    ids=lambda x: str(x.dtype),
)
def test_unique_values(x: Array) -> None:
    check("unique_places", [x], {}, cut=(0, 2))


def test_unique_values_in_order_of_appearance() -> None:
    for x in (whole(-40, 40, 300), AWKWARD):
        check("unique_places", [x], {"sorted": 0}, cut=(0, 2))


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_unique_slices_of_any_size(axis: int) -> None:
    sizes = [(3, 17, 2), (17, 3, 2), (2, 5, 17), (1, 1, 1), (3, 4, 0), (0, 2, 2), (40, 2, 1)]
    operands = [[whole(0, 2, *size, dtype=np.float32)] for size in sizes]
    names: dict[int, list[Any]] = {0: ["a", "b", "c"]}
    attrs = {"axis": axis, "sorted": axis % 2}
    first, *others = operands
    check("unique_places", first, attrs, *others, shapes=names, cut=(0, 2))


def test_unique_of_nothing() -> None:
    names: dict[int, list[Any]] = {0: ["n"]}
    check("unique_places", [whole(0, 9, 5)], {}, [whole(0, 9, 0)], shapes=names, cut=(0, 2))


def boxes(batches: int, count: int) -> Array:
    low = RANDOM.uniform(0, 30, (batches, count, 2))
    corners = np.concatenate([low, low + RANDOM.uniform(-12, 12, (batches, count, 2))], 2)
    return corners.astype(np.float32)


def scores(*shape: int) -> Array:
    drawn = RANDOM.normal(size=shape).astype(np.float32).round(1)  # with ties
    drawn.flat[::7] = -np.inf
    drawn.flat[3::11] = np.nan
    return drawn


def number(value: float, dtype: Any = np.float32) -> Array:
    return np.array([value], dtype)


@pytest.mark.parametrize(("centered", "room"), [(0, None), (1, (4,))])
def test_boxes_that_overlap(centered: int, room: tuple[int, ...] | None) -> None:
    def operands(batches: int, classes: int, count: int, *limits: Array) -> list[Array]:
        most = number(4 if room else 50, np.int64)
        return [boxes(batches, count), scores(batches, classes, count), most, *limits]

    limits = (number(0.2), number(-0.5))
    names: dict[int, list[Any]] = {0: ["b", "n", 4], 1: ["b", "c", "n"]}
    attrs = {"center_point_box": centered, "room": room}
    check(
        "non_max_suppression_places", operands(2, 3, 61, *limits), attrs,
        *(operands(*sizes, *limits) for sizes in ((1, 1, 7), (1, 2, 0), (0, 2, 5), (2, 0, 3))),
        shapes=names, cut=(0,),
    )  # fmt: skip
    if room is None:
        check("non_max_suppression_places", operands(1, 2, 33), attrs, cut=(0,))


def test_places_and_leading_slices() -> None:
    x, mask = whole(0, 2, 3, 4, 5, dtype=np.float32), whole(0, 2, 40, dtype=bool)
    odd = np.array([[np.nan, -0.0], [0.0, 1e-40]], np.float32)
    cases = [
        Case("non_zero_places", [a, number(int(np.count_nonzero(a)), np.int64)])
        for a in (x, mask, odd, odd.astype(np.float16), np.array(3.0), np.zeros((2, 2), np.int8))
    ]
    cases.append(Case("leading", [x, number(2, np.int64)]))
    cases.append(Case("leading", [mask, number(0, np.int64)]))
    check_kernels(cases)
