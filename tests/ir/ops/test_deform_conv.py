"""The deformable convolution row against ONNX's reference."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from leptonc.ir.diagnostics import LeptonError
from tests.ir.ops.against_onnx import build_op, check_row, normal, row_of


@pytest.mark.parametrize(
    ("group", "parts", "attrs"),
    [
        (1, 1, {}),
        (2, 1, {"pads": [1, 0, 1, 2]}),
        (1, 2, {"strides": [2, 1]}),
        (2, 2, {"dilations": [2, 1], "pads": [1, 1, 1, 1]}),
    ],
)
def test_deformable_convolution_matches_the_reference(
    group: int, parts: int, attrs: dict[str, Any]
) -> None:
    x, w = normal(2, 4, 6, 5), normal(4, 4 // group, 3, 2)
    pads, strides, dilations = (
        attrs.get("pads", [0] * 4),
        attrs.get("strides", [1, 1]),
        attrs.get("dilations", [1, 1]),
    )
    out = [
        (x.shape[2 + i] + pads[i] + pads[2 + i] - (w.shape[2 + i] - 1) * dilations[i] - 1)
        // strides[i]
        + 1
        for i in range(2)
    ]
    offset = normal(2, parts * 6 * 2, *out, seed=1)
    mask = normal(2, parts * 6, *out, seed=2)
    arrays = [x, w, offset, normal(4), mask]
    check_row("DeformConv", arrays, group=group, offset_group=parts, **attrs)
    check_row("DeformConv", arrays[:3], group=group, offset_group=parts, **attrs)


def test_without_movement_it_is_a_convolution() -> None:
    x, w = normal(1, 2, 5, 5), normal(3, 2, 3, 3)
    (moved,) = check_row("DeformConv", [x, w, np.zeros((1, 18, 3, 3), np.float32)])
    (still,) = check_row("Conv", [x, w])
    np.testing.assert_allclose(moved, still, rtol=1e-4, atol=1e-5)


def test_offsets_of_another_shape_are_named() -> None:
    with pytest.raises(LeptonError) as error:
        build_op(
            row_of("DeformConv"), [normal(1, 2, 5, 5), normal(3, 2, 3, 3), normal(1, 9, 3, 3)], {}
        )
    assert "offset f32[1,9,3,3] should be [1,18,3,3]" in error.value.message
