"""Rows that sample at computed coordinates, and those about regions and signals."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from leptonc.ir.types import DType
from tests.ir.ops.single import check_refusal, check_row, data, ints, one_op, result_types, run


def number(value: float, dtype: Any = np.int64) -> Any:
    return np.array(value, dtype)


@pytest.mark.parametrize("mode", ["linear", "nearest", "cubic"])
@pytest.mark.parametrize("padding_mode", ["zeros", "border", "reflection"])
@pytest.mark.parametrize("align_corners", [0, 1])
def test_grid_sample_like_the_reference(mode: str, padding_mode: str, align_corners: int) -> None:
    attrs = {"mode": mode, "padding_mode": padding_mode, "align_corners": align_corners}
    check_row(
        "grid_sample", [data(2, 2, 4, 3), data(2, 3, 2, 2, seed=1) * 1.5], attrs, tolerance=1e-4
    )


def test_grid_sample_of_volumes() -> None:
    operands = [data(1, 2, 3, 4, 2), data(1, 2, 2, 2, 3, seed=1)]
    check_row("grid_sample", operands, {"mode": "linear"}, tolerance=1e-5)


@pytest.mark.parametrize("align_corners", [0, 1])
def test_affine_grid_like_the_reference(align_corners: int) -> None:
    attrs = {"align_corners": align_corners}
    check_row("affine_grid", [data(2, 2, 3), ints(2, 3, 5, 6)], attrs, tolerance=1e-5)
    check_row("affine_grid", [data(2, 3, 4), ints(2, 3, 4, 5, 6)], attrs, tolerance=1e-5)


@pytest.mark.parametrize("mode", ["avg", "max"])
@pytest.mark.parametrize("coordinates", ["half_pixel", "output_half_pixel"])
@pytest.mark.parametrize("ratio", [0, 2])
def test_roi_align_like_the_reference(mode: str, coordinates: str, ratio: int) -> None:
    rois = np.array([[0, 0, 6, 6], [2, 1, 9, 14], [-3, -3, 2, 2]], np.float32)
    attrs = {
        "mode": mode, "coordinate_transformation_mode": coordinates, "sampling_ratio": ratio,
        "output_height": 3, "output_width": 2, "spatial_scale": 0.75,
    }  # fmt: skip
    check_row("roi_align", [data(2, 3, 8, 7), rois, ints(0, 1, 1)], attrs, tolerance=1e-5)


def test_max_roi_pool() -> None:
    x = np.arange(24, dtype=np.float32).reshape(1, 1, 4, 6)
    rois = np.array([[0, 0, 0, 5, 3], [0, 2, 1, 3, 1], [0, 8, 8, 9, 9]], np.float32)
    operands = [x, rois]
    (found,) = run(one_op("max_roi_pool", operands, {"pooled_shape": (2, 2)}), operands)
    assert found[:, 0].tolist() == [[[8, 11], [20, 23]], [[8, 9], [8, 9]], [[0, 0], [0, 0]]]


@pytest.mark.parametrize("center", [0, 1])
@pytest.mark.parametrize("least", [None, 0.4])
def test_non_max_suppression_like_the_reference(center: int, least: float | None) -> None:
    boxes: Any = np.abs(data(2, 12, 4)) * np.array([1, 1, 2, 2], np.float32)
    operands: list[Any] = [
        boxes,
        np.abs(data(2, 3, 12, seed=1)),
        ints(3),
        np.array([0.3], np.float32),
    ]
    operands.append(None if least is None else np.array([least], np.float32))
    check_row("non_max_suppression", operands, {"center_point_box": center})


@pytest.mark.parametrize(
    ("operands", "attrs"),
    [
        ([data(2, 10, 1), None, number(1)], {}),
        ([data(2, 10, 2), None, number(-2)], {"inverse": 1}),
        ([data(2, 10, 1), None, number(1)], {"onesided": 1}),
        ([data(2, 10, 1), number(6), number(1)], {}),
        ([data(2, 10, 1), number(13), number(1)], {"onesided": 1}),
        ([data(3, 4, 10, 2), number(5), number(0)], {}),
        ([data(2, 6, 2), None, number(1)], {"onesided": 1, "inverse": 1}),
    ],
)
def test_dft_like_the_reference(operands: list[Any], attrs: dict[str, Any]) -> None:
    check_row("dft", operands, attrs, tolerance=1e-5)


@pytest.mark.parametrize("onesided", [0, 1])
@pytest.mark.parametrize("operands", [
    [data(2, 32, 1), number(4), data(8), None], [data(2, 33, 1), number(5), None, number(9)],
])  # fmt: skip
def test_stft_like_the_reference(operands: list[Any], onesided: int) -> None:
    check_row("stft", operands, {"onesided": onesided}, tolerance=1e-5)


def test_mel_weight_matrix_like_the_reference() -> None:
    edges = [number(0, np.float32), number(8192 / 2, np.float32)]
    check_row(
        "mel_weight_matrix", [number(8), number(64), number(8192), *edges], {}, tolerance=1e-6
    )
    check_row(
        "mel_weight_matrix",
        [number(40), number(16), number(8192), *edges],
        {"output_datatype": DType.F64},
        tolerance=1e-6,
    )


@pytest.mark.parametrize(
    ("operands", "attrs"),
    [
        ([data(1, 5, 5), ints(5, 5), ints(1, 5)], {}),
        ([data(2, 9, 4), ints(5, 5), ints(3, 3)], {"strides": (2, 2)}),
        ([data(2, 15, 10), ints(5, 5), ints(1, 5)], {"pads": (0, 1, 0, 1), "strides": (1, 2)}),
        ([data(1, 4, 5), ints(6, 6), ints(2, 2)], {"dilations": (1, 5)}),
        ([data(1, 10, 12), ints(3, 4, 5), ints(1, 1, 5)], {}),
    ],
)
def test_col2im_like_the_reference(operands: list[Any], attrs: dict[str, Any]) -> None:
    check_row("col2im", operands, attrs, tolerance=1e-6)


@pytest.mark.parametrize(
    ("name", "operands", "attrs", "code", "text"),
    [
        ("grid_sample", ["f32[1,1,2,2]", "f32[1,3,3,3]"], {}, "E103", "do not fit"),
        ("grid_sample", ["f32[1,1,2,2]", "f32[1,3,3,2]"], {"mode": "area"}, "E108", "area"),
        ("affine_grid", ["f32[1,2,2]", ints(1, 1, 2, 2)], {}, "E103", "theta"),
        ("affine_grid", ["f32[1,2,3]", ints(2, 1, 2, 2)], {}, "E103", "batch of 2"),
        ("roi_align", ["f32[1,1,2,2]", "f32[3,4]", "i64[2]"], {}, "E103", "do not fit"),
        ("roi_align", ["f32[1,1,2,2]", "f32[3,4]", "i64[3]"], {"mode": "sum"}, "E108", "sum"),
        (
            "max_roi_pool",
            ["f32[1,1,2,2]", "f32[3,4]"],
            {"pooled_shape": (1, 1)},
            "E103",
            "do not fit",
        ),
        ("non_max_suppression", ["f32[1,2,4]", "f32[1,1,3]"], {}, "E103", "do not fit"),
        ("dft", ["f32[2,3]"], {}, "E103", "last extent"),
        ("dft", ["f32[2,3,2]", None, number(2)], {}, "E107", "last axis"),
        ("stft", ["f32[2,3,2]", number(0)], {}, "E108", "frame_step"),
        ("col2im", ["f32[1,5,4]", ints(5, 5), ints(1, 5)], {}, "E103", "5 of them"),
    ],
)
def test_errors(
    name: str, operands: list[Any], attrs: dict[str, Any], code: str, text: str
) -> None:
    check_refusal(name, operands, attrs, code, text)


def test_symbolic_types() -> None:
    assert result_types("grid_sample", ["f32[n,c,h,w]", "f32[n,i,j,2]"]) == ["f32[n,c,i,j]"]
    assert result_types("stft", ["f32[n,t,1]", number(160), "f32[400]"]) == [
        "f32[n,max(0,floordiv(t+80,160)-2),201,2]"
    ]
    assert result_types("dft", ["f32[n,t,1]"], {"onesided": 1}) == ["f32[n,floordiv(t,2)+1,2]"]
