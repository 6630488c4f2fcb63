"""The row of resize."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest

from leptonc.ir.diagnostics import LeptonError
from leptonc.ir.ops.resample import COORDINATES, NEAREST
from tests.ir.ops.single import check_row, data, ints, one_op, result_types, run


def scales(*numbers: float) -> Any:
    return np.array(numbers, np.float32)


IMAGE = data(1, 2, 5, 4)


@pytest.mark.parametrize(("nearest_mode", "coordinates"), list(product(NEAREST, COORDINATES[:-1])))
@pytest.mark.parametrize("factors", [(2, 3), (0.5, 1.5), (0.75, 0.4), (1, 2.5)])
def test_nearest_like_the_reference(
    nearest_mode: str, coordinates: str, factors: tuple[float, float]
) -> None:
    attrs = {"nearest_mode": nearest_mode, "coordinate_transformation_mode": coordinates}
    height, width = factors
    if width == 0.4 and coordinates != "align_corners":
        width = 0.5  # 0.4 is not exact in binary, and only exact coordinates have exact ties
    check_row("resize", [IMAGE, None, scales(1, 1, height, width)], attrs, tolerance=1e-6)


@pytest.mark.parametrize("coordinates", COORDINATES[:-1])
@pytest.mark.parametrize(
    ("mode", "antialias", "exclude"),
    [
        ("linear", 0, 0),
        ("linear", 1, 0),
        ("linear", 0, 1),
        ("cubic", 0, 0),
        ("cubic", 1, 0),
        ("cubic", 0, 1),
        ("cubic", 1, 1),
    ],
)
@pytest.mark.parametrize("factors", [(2, 3), (0.6, 0.75), (1, 1.7)])
def test_interpolation_like_the_reference(
    coordinates: str, mode: str, antialias: int, exclude: int, factors: tuple[float, float]
) -> None:
    attrs = {
        "mode": mode, "coordinate_transformation_mode": coordinates, "antialias": antialias,
        "exclude_outside": exclude,
    }  # fmt: skip
    check_row("resize", [IMAGE, None, scales(1, 1, *factors)], attrs, tolerance=1e-5)


@pytest.mark.parametrize("policy", ["stretch", "not_larger", "not_smaller"])
@pytest.mark.parametrize("mode", ["nearest", "linear", "cubic"])
def test_sizes_of_some_axes_like_the_reference(policy: str, mode: str) -> None:
    attrs = {"mode": mode, "axes": (3, 2), "keep_aspect_ratio_policy": policy}
    check_row("resize", [IMAGE, None, None, ints(7, 8)], attrs, tolerance=1e-6)


@pytest.mark.parametrize("mode", ["nearest", "linear", "cubic"])
def test_cropping_like_the_reference(mode: str) -> None:
    roi = scales(0, 0, 0.4, 0.6, 1, 1, 1.2, 0.8)
    attrs = {
        "mode": mode,
        "coordinate_transformation_mode": "tf_crop_and_resize",
        "extrapolation_value": 10.0,
    }
    check_row("resize", [IMAGE, roi, None, ints(1, 2, 3, 6)], attrs, tolerance=1e-5)


def test_integers_are_rounded_and_saturated() -> None:
    x = np.array([[0, 255, 0, 255]], np.uint8)
    check_row("resize", [x, None, scales(1, 3)], {"mode": "cubic"})


def test_one_dimension_and_three() -> None:
    check_row("resize", [data(7), None, scales(2.5)], {"mode": "linear"}, tolerance=1e-6)
    check_row(
        "resize", [data(2, 3, 4), None, None, ints(3, 2, 7)], {"mode": "cubic"}, tolerance=1e-6
    )


def test_no_elements() -> None:
    operands = [data(0, 4), None, scales(2, 2)]
    assert run(one_op("resize", operands), operands)[0].shape == (0, 8)


@pytest.mark.parametrize(
    ("operands", "attrs", "expected"),
    [
        (["f32[n,3,h,w]", None, scales(1, 1, 2, 2)], {}, "f32[n,3,2*h,2*w]"),
        (
            ["f32[n,3,h,w]", None, scales(1, 1, 0.5, 1.5)],
            {},
            "f32[n,3,floordiv(h,2),floordiv(3*w,2)]",
        ),
        (["f32[n,3,h,10]", None, scales(1, 1, 1, 0.7)], {}, "f32[n,3,h,7]"),
        (["f32[n,3,h,w]", None, None, ints(8, 9)], {"axes": (2, 3)}, "f32[n,3,8,9]"),
        (["f32[n,3,h,w]", "f32[0]", "f32[0]", "i64[2]"], {"axes": (2, 3)}, "f32[n,3,u1_,u2_]"),
        (["f32[n,3,h,w]", None, "f32[4]"], {}, "f32[u1_,u2_,u3_,u4_]"),
    ],
)
def test_symbolic_types(operands: list[Any], attrs: dict[str, Any], expected: str) -> None:
    assert result_types("resize", operands, attrs) == [expected]


@pytest.mark.parametrize(
    ("operands", "attrs", "code", "text"),
    [
        (["f32[2]"], {}, "E106", "scales or sizes"),
        (["f32[2]", None, scales(2), ints(4)], {}, "E106", "not both"),
        (["f32[2]", None, scales(2, 1)], {}, "E103", "1 elements"),
        (["f32[2]", None, scales(-1)], {}, "E108", "-1"),
        (["f32[2]", None, None, ints(-1)], {}, "E103", "-1"),
        (["f32[0]", None, None, ints(3)], {}, "E103", "no elements"),
        (["f32[2]", None, scales(2)], {"mode": "area"}, "E108", "area"),
        (["str[2]", None, scales(2)], {}, "E102", "str"),
    ],
)
def test_errors(operands: list[Any], attrs: dict[str, Any], code: str, text: str) -> None:
    with pytest.raises(LeptonError) as raised:
        result_types("resize", operands, attrs)
    assert raised.value.code == code
    assert text in raised.value.message
