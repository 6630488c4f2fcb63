"""Kernels of resize."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from leptonc.ir.ops.resample import COORDINATES, NEAREST
from tests.backends.tvm.kernel_of_row import check_kernel, reason_of
from tests.ir.ops.single import data, ints

IMAGE = data(1, 2, 5, 4)
SIZES = [data(1, 2, h, w) for h, w in [(3, 7), (1, 1), (6, 2), (0, 3)]]


def scales(*numbers: float) -> Any:
    return np.array(numbers, np.float32)


@pytest.mark.parametrize(
    ("coordinates", "nearest_mode"),
    [
        *zip(COORDINATES[:-1], [*NEAREST, NEAREST[0]], strict=True),
        *[("half_pixel", m) for m in NEAREST[1:]],
    ],
)
def test_nearest(coordinates: str, nearest_mode: str) -> None:
    attrs = {"nearest_mode": nearest_mode, "coordinate_transformation_mode": coordinates}
    check_kernel("resize", [IMAGE, None, scales(1, 1, 2, 0.6)], attrs)


@pytest.mark.parametrize(
    ("mode", "coordinates", "exclude"),
    [
        *[("linear", coordinates, 0) for coordinates in COORDINATES[:-1]],
        ("cubic", "half_pixel", 0), ("cubic", "align_corners", 1), ("linear", "half_pixel", 1),
    ],
)  # fmt: skip
def test_interpolation(mode: str, coordinates: str, exclude: int) -> None:
    attrs = {
        "mode": mode,
        "coordinate_transformation_mode": coordinates,
        "exclude_outside": exclude,
    }
    check_kernel("resize", [IMAGE, None, scales(1, 1, 2, 0.6)], attrs, tolerance=1e-5)


@pytest.mark.parametrize("mode", ["linear", "cubic"])
@pytest.mark.parametrize("exclude", [0, 1])
def test_antialias(mode: str, exclude: int) -> None:
    attrs = {"mode": mode, "antialias": 1, "exclude_outside": exclude}
    check_kernel("resize", [data(1, 2, 9, 8), None, scales(1, 1, 0.3, 1.5)], attrs, tolerance=1e-5)


@pytest.mark.parametrize("mode", ["nearest", "linear", "cubic"])
def test_cropping(mode: str) -> None:
    roi = scales(0, 0, 0.4, 0.6, 1, 1, 1.2, 0.8)
    attrs = {
        "mode": mode,
        "coordinate_transformation_mode": "tf_crop_and_resize",
        "extrapolation_value": 10.0,
    }
    check_kernel("resize", [IMAGE, roi, None, ints(1, 2, 3, 6)], attrs, tolerance=1e-5)
    check_kernel(
        "resize", [IMAGE, roi, None, ints(1, 2, 3, 6)], attrs, runtime=(1,), tolerance=1e-5
    )


@pytest.mark.parametrize("attrs", [
    {}, {"mode": "linear"}, {"mode": "cubic", "coordinate_transformation_mode": "align_corners"},
    {"mode": "linear", "coordinate_transformation_mode": "pytorch_half_pixel"},
])  # fmt: skip
@pytest.mark.parametrize("factors", [[None, scales(1, 1, 2, 1.5)], [None, None, ints(1, 2, 4, 5)]])
def test_symbolic_extents(attrs: dict[str, Any], factors: list[Any]) -> None:
    images = SIZES if factors[-1].dtype.kind == "f" else SIZES[:3]
    more = [[x, *factors] for x in images[1:]]
    check_kernel(
        "resize", [SIZES[0], *factors], attrs, *more, shapes={0: [1, 2, "h", "w"]}, tolerance=1e-5
    )


def test_antialias_of_symbolic_extents() -> None:
    images = [data(1, 1, h, w) for h, w in [(9, 7), (3, 16), (1, 1)]]
    more = [[x, None, None, ints(1, 1, 4, 5)] for x in images[1:]]
    attrs = {"mode": "linear", "antialias": 1}
    check_kernel(
        "resize",
        [images[0], None, None, ints(1, 1, 4, 5)],
        attrs,
        *more,
        shapes={0: [1, 1, "h", "w"]},
        tolerance=1e-5,
    )


@pytest.mark.parametrize(
    ("dtype", "mode"),
    [(np.uint8, "cubic"), (np.int8, "nearest"), (np.float16, "linear"), (np.float64, "linear")],
)
def test_element_types(dtype: Any, mode: str) -> None:
    x = np.array([[0, 120, 0, 100, 7]], dtype)
    check_kernel("resize", [x, None, scales(1, 2)], {"mode": mode}, tolerance=2e-3)


def test_scales_from_data_have_a_reason() -> None:
    operands = [IMAGE, None, scales(1, 1, 2, 2)]
    assert "at run time only" in reason_of("resize", operands, runtime=(2,))
    assert reason_of("resize", operands) == ""
