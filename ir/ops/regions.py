"""Rows about regions of interest: pooling them, and leaving out those that overlap."""

from __future__ import annotations

import math

import numpy as np

from leptonc.ir.blob import Array
from leptonc.ir.diagnostics import LeptonError
from leptonc.ir.ops.broadcasting import FLOATS, check_dtype, check_same_dtype
from leptonc.ir.ops.shape import differ
from leptonc.ir.table import Attr, Evaluation, Inference, define
from leptonc.ir.types import DType, TensorType


def _align_infer(call: Inference) -> TensorType:
    x, rois, batch = call[0].type, call[1].type, call[2].type
    check_same_dtype(call, "x", "rois")
    check_dtype(call, "x", FLOATS)
    allowed = {
        "mode": ("avg", "max"),
        "coordinate_transformation_mode": ("half_pixel", "output_half_pixel"),
    }
    for name, values in allowed.items():
        if call.str(name) not in values:
            raise LeptonError(
                f"roi_align: {name} is {call.str(name)!r}, should be {' or '.join(values)}",
                code="E108",
            )
    fits = x.rank == 4 and rois.rank == 2 and rois.shape[1] == 4 and batch.rank == 1
    if not fits or differ(rois.shape[0], batch.shape[0]):
        raise LeptonError(
            f"roi_align: {x}, rois {rois} and batch_indices {batch} do not fit", code="E103"
        )
    return x.with_shape(
        rois.shape[0], x.shape[1], call.int("output_height"), call.int("output_width")
    )


def _align_evaluate(call: Evaluation) -> Array:
    x, rois, batches = call.items
    pooled = (call.int("output_height"), call.int("output_width"))
    result = np.zeros((rois.shape[0], x.shape[1], *pooled), np.float64)
    offset = 0.5 if call.str("coordinate_transformation_mode") == "half_pixel" else 0.0
    for at, roi in enumerate(rois.astype(np.float64) * call.float("spatial_scale") - offset):
        image = x[int(batches[at])].astype(np.float64)
        corners: list[tuple[Array, Array, Array]] = []
        for axis in (0, 1):
            start, end = roi[1 - axis], roi[3 - axis]
            length = end - start if offset else max(end - start, 1.0)
            count = call.int("sampling_ratio") or max(math.ceil(length / pooled[axis]), 0)
            corners.append(
                _samples(start, length / pooled[axis], pooled[axis], count, image.shape[1 + axis])
            )
        if corners[0][0].shape[1] and corners[1][0].shape[1]:
            result[at] = _pooled(image, corners[0], corners[1], call.str("mode"))
    return result.astype(x.dtype)


def _samples(
    start: float, size: float, bins: int, count: int, extent: int
) -> tuple[Array, Array, Array]:
    """For each bin and sample: the element below, the part above it, whether it counts."""
    steps = (np.arange(count) + 0.5) / max(count, 1)
    at = start + (np.arange(bins)[:, None] + steps) * size
    valid = (at >= -1) & (at <= extent)
    at = np.clip(at, 0, extent - 1)
    low = np.minimum(np.floor(at), extent - 1).astype(np.int64)
    return low, at - low, valid


def _pooled(
    image: Array, rows: tuple[Array, Array, Array], columns: tuple[Array, Array, Array], mode: str
) -> Array:
    (top, down, row_valid), (left, right, column_valid) = rows, columns
    valid = row_valid[:, :, None, None] & column_valid
    parts: list[Array] = []
    for below in (0, 1):
        for beside in (0, 1):
            y = np.minimum(top + below, image.shape[1] - 1)[:, :, None, None]
            x = np.minimum(left + beside, image.shape[2] - 1)
            vertical = (down if below else 1 - down)[:, :, None, None]
            factor = vertical * (right if beside else 1 - right) * valid
            parts.append(image[:, y, x] * factor)
    if mode == "avg":
        return np.mean(np.sum(parts, 0), (2, 4))
    return np.max(np.max(parts, 0), (2, 4))


define(
    "roi_align(x, rois, batch_indices)",
    "Regions of interest averaged, or their largest elements, on a fixed grid.",
    infer=_align_infer,
    evaluate=_align_evaluate,
    attrs={
        "coordinate_transformation_mode": Attr("str", "half_pixel"),
        "mode": Attr("str", "avg"),
        "output_height": Attr("int", 1),
        "output_width": Attr("int", 1),
        "sampling_ratio": Attr("int", 0),
        "spatial_scale": Attr("float", 1.0),
    },
    onnx="RoiAlign",
    since=22,
)


def _pool_infer(call: Inference) -> TensorType:
    x, rois, pooled = call[0].type, call[1].type, call.ints("pooled_shape")
    check_same_dtype(call, "x", "rois")
    check_dtype(call, "x", FLOATS)
    if x.rank != 4 or rois.rank != 2 or rois.shape[1] != 5 or pooled is None or len(pooled) != 2:
        raise LeptonError(
            f"max_roi_pool: {x}, rois {rois} and pooled_shape {pooled} do not fit", code="E103"
        )
    return x.with_shape(rois.shape[0], x.shape[1], *pooled)


def _pool_evaluate(call: Evaluation) -> Array:
    x, rois = call.items
    pooled = call.ints("pooled_shape") or ()
    result = np.zeros((rois.shape[0], x.shape[1], *pooled), x.dtype)
    for at, roi in enumerate(rois):
        corners = np.floor(roi[1:].astype(np.float64) * call.float("spatial_scale") + 0.5).astype(
            np.int64
        )
        spans: list[list[slice]] = []
        for axis in (0, 1):
            start = int(corners[1 - axis])
            size = max(int(corners[3 - axis]) - start + 1, 1) / pooled[axis]
            limit = x.shape[2 + axis]
            edges = [
                (math.floor(i * size) + start, math.ceil((i + 1) * size) + start)
                for i in range(pooled[axis])
            ]
            spans.append([slice(min(max(a, 0), limit), min(max(b, 0), limit)) for a, b in edges])
        for i, rows in enumerate(spans[0]):
            for j, columns in enumerate(spans[1]):
                part = x[int(roi[0]), :, rows, columns]
                result[at, :, i, j] = part.max((1, 2)) if part.size else 0
    return result


define(
    "max_roi_pool(x, rois)", "The largest elements of regions of interest on a fixed grid.",
    infer=_pool_infer, evaluate=_pool_evaluate,
    attrs={"pooled_shape": Attr("ints", required=True), "spatial_scale": Attr("float", 1.0)},
    onnx="MaxRoiPool", since=22,
)  # fmt: skip


def infer_chosen(call: Inference) -> TensorType:
    """The type of the chosen boxes; raises where the operands do not fit."""
    boxes, scores = call[0].type, call[1].type
    check_dtype(call, "boxes", [DType.F32])
    check_dtype(call, "scores", [DType.F32])
    fits = boxes.rank == scores.rank == 3 and boxes.shape[2] == 4
    if (
        not fits
        or differ(boxes.shape[0], scores.shape[0])
        or differ(boxes.shape[1], scores.shape[2])
    ):
        raise LeptonError(
            f"non_max_suppression: boxes {boxes} and scores {scores} do not fit", code="E103"
        )
    return TensorType(DType.I64, (call.unknown(), 3))


def chosen_boxes(call: Evaluation) -> Array:
    """Batch, class and place of each box that does not overlap with a better one, by class."""

    def number(name: str, default: float) -> float:
        value = call.get(name)
        return default if value is None or not value.size else float(value.reshape(-1)[0])

    boxes, scores = call[0].astype(np.float32), call[1]
    most, overlap = (
        int(number("max_output_boxes_per_class", 0)),
        np.float32(number("iou_threshold", 0)),
    )
    least = number("score_threshold", -math.inf)
    all_numbers = call.get("score_threshold") is None
    chosen: list[tuple[int, int, int]] = []
    for batch in range(scores.shape[0]):
        corners = _corners(boxes[batch], centered=bool(call.int("center_point_box")))
        for kind in range(scores.shape[1]):
            row = scores[batch, kind]
            allowed = row == row if all_numbers else row > least
            order = [int(at) for at in np.argsort(-row, kind="stable") if allowed[at]]
            kept: list[int] = []
            for at in order:
                if len(kept) >= most:
                    break
                if not any(_overlap(corners[at], corners[other]) > overlap for other in kept):
                    kept.append(at)
            chosen += [(batch, kind, at) for at in kept]
    return np.array(chosen, np.int64).reshape(-1, 3)


def _corners(boxes: Array, *, centered: bool) -> Array:
    """Boxes as lower and upper corners."""
    if centered:
        center, half = boxes[:, :2], boxes[:, 2:] / 2
        return np.concatenate([center - half, center + half], 1)
    first, second = boxes[:, :2], boxes[:, 2:]
    return np.concatenate([np.minimum(first, second), np.maximum(first, second)], 1)


def _overlap(a: Array, b: Array) -> float:
    """The common area over the area of both; 0 for boxes without area."""
    sides = np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2])
    areas = [np.prod(box[2:] - box[:2]) for box in (a, b)]
    if (sides <= 0).any() or min(areas) <= 0:
        return 0.0
    common = np.prod(sides)
    union = sum(areas) - common
    return float(common / union) if union > 0 else 0.0


define(
    "non_max_suppression(boxes, scores, max_output_boxes_per_class?, iou_threshold?, "
    "score_threshold?)",
    "The boxes with the best scores of each class, leaving out those that overlap with better "
    "ones.",
    infer=infer_chosen,
    evaluate=chosen_boxes,
    attrs={"center_point_box": Attr("int", 0)},
    onnx="NonMaxSuppression",
    since=11,
)
