"""Kernels that sample at computed coordinates, pool regions and add up blocks."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.backends.tvm.kernel_of_row import Case, RowKernel, check_kernel, check_kernels, reason_of
from tests.ir.ops.single import data, ints


@pytest.mark.parametrize(
    ("mode", "padding_mode", "align_corners"),
    [
        ("linear", "zeros", 0), ("linear", "border", 1), ("linear", "reflection", 0),
        ("nearest", "zeros", 1), ("nearest", "reflection", 0),
        ("cubic", "zeros", 0), ("cubic", "border", 0), ("cubic", "reflection", 1),
    ],
)  # fmt: skip
def test_grid_sample(mode: str, padding_mode: str, align_corners: int) -> None:
    attrs = {"mode": mode, "padding_mode": padding_mode, "align_corners": align_corners}
    operands = [data(2, 2, 4, 3), data(2, 3, 2, 2, seed=1) * 1.5]
    check_kernel("grid_sample", operands, attrs, tolerance=1e-4)


def test_grid_sample_of_volumes_and_of_symbolic_extents() -> None:
    check_kernel(
        "grid_sample", [data(1, 2, 3, 4, 2), data(1, 2, 2, 2, 3, seed=1)], {}, tolerance=1e-5
    )
    sizes = [
        [data(n, 2, h, w), data(n, i, 3, 2, seed=1)]
        for n, h, w, i in [(2, 3, 4, 2), (1, 1, 1, 5), (1, 6, 2, 0)]
    ]
    shapes = {0: ["n", 2, "h", "w"], 1: ["n", "i", 3, 2]}
    check_kernel("grid_sample", sizes[0], {}, *sizes[1:], shapes=shapes, tolerance=1e-4)


def test_coordinates_far_outside_read_nothing() -> None:
    x, grid = data(1, 1, 4, 3), np.full((1, 1, 3, 2), np.inf, np.float32)
    grid[0, 0, 1] = -1e30
    grid[0, 0, 2] = np.nan
    found = RowKernel("grid_sample", [x, grid], {"mode": "nearest"}).run([x, grid])[0]
    np.testing.assert_array_equal(found[..., :2], 0)


def test_doubles_are_sampled_in_double_precision() -> None:
    x, rois = data(1, 2, 7, 6, dtype=np.float64), np.array([[0.3, 0.1, 5.7, 4.9]])
    grid = data(1, 5, 4, 2, dtype=np.float64, seed=1)
    check_kernels([
        Case("grid_sample", [x, grid], {"padding_mode": "reflection"}, tolerance=1e-12),
        Case("grid_sample", [x, grid], {"mode": "cubic"}, tolerance=1e-12),
        Case("roi_align", [x, rois, ints(0)], {"output_height": 2}, tolerance=1e-12),
    ])  # fmt: skip


@pytest.mark.parametrize("align_corners", [0, 1])
def test_affine_grid(align_corners: int) -> None:
    attrs = {"align_corners": align_corners}
    check_kernel("affine_grid", [data(2, 2, 3), ints(2, 3, 5, 6)], attrs, tolerance=1e-6)
    check_kernel("affine_grid", [data(2, 3, 4), ints(2, 3, 4, 1, 6)], attrs, tolerance=1e-6)


@pytest.mark.parametrize(
    ("operands", "attrs"),
    [
        ([data(1, 5, 5), ints(5, 5), ints(1, 5)], {}),
        ([data(2, 9, 4), ints(5, 5), ints(3, 3)], {"strides": (2, 2)}),
        ([data(2, 15, 10), ints(5, 5), ints(1, 5)], {"pads": (0, 1, 0, 1), "strides": (1, 2)}),
        ([data(1, 4, 5), ints(6, 6), ints(2, 2)], {"dilations": (1, 5)}),
    ],
)
def test_col2im(operands: list[Any], attrs: dict[str, Any]) -> None:
    check_kernel("col2im", operands, attrs, tolerance=1e-6)


@pytest.mark.parametrize(
    ("mode", "coordinates", "ratio"),
    [
        ("avg", "half_pixel", 0),
        ("avg", "output_half_pixel", 2),
        ("max", "half_pixel", 2),
        ("max", "output_half_pixel", 0),
    ],
)
def test_roi_align(mode: str, coordinates: str, ratio: int) -> None:
    rois = np.array([[0, 0, 6, 6], [2, 1, 9, 14], [-3, -3, 2, 2]], np.float32)
    attrs = {
        "mode": mode, "coordinate_transformation_mode": coordinates, "sampling_ratio": ratio,
        "output_height": 3, "output_width": 2, "spatial_scale": 0.75,
    }  # fmt: skip
    operands = [data(2, 3, 8, 7), rois, ints(0, 1, 1)]
    check_kernel("roi_align", operands, attrs, tolerance=1e-5)
    shapes = {0: ["n", 3, "h", "w"], 1: ["k", 4], 2: ["k"]}
    check_kernel(
        "roi_align",
        operands,
        attrs,
        [operands[0][:1], rois[:1], ints(0)],
        shapes=shapes,
        tolerance=1e-5,
    )


def test_sizes_from_data_have_a_reason() -> None:
    assert "size" in reason_of("affine_grid", [data(2, 2, 3), ints(2, 3, 5, 6)], runtime=(1,))
    assert "depends on data" in reason_of(
        "non_max_suppression", [data(1, 2, 4), data(1, 1, 2), ints(3)]
    )
