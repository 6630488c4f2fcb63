"""Rows that sample a tensor at computed coordinates."""

from __future__ import annotations

from itertools import product as all_of

import numpy as np

from leptonc.ir.blob import Array
from leptonc.ir.diagnostics import LeptonError
from leptonc.ir.dims import Dim
from leptonc.ir.ops.broadcasting import FLOATS, check_dtype
from leptonc.ir.ops.movement import wanted_extents
from leptonc.ir.ops.resample import weight
from leptonc.ir.ops.shape import differ
from leptonc.ir.table import Attr, Evaluation, Inference, define
from leptonc.ir.types import DType, TensorType

CUBIC = -0.75
"""The coefficient of cubic interpolation in `grid_sample`."""


def _grid_infer(call: Inference) -> TensorType:
    x, grid = call[0].type, call[1].type
    allowed = {
        "mode": ("linear", "nearest", "cubic"),
        "padding_mode": ("zeros", "border", "reflection"),
    }
    for name, values in allowed.items():
        if call.str(name) not in values:
            raise LeptonError(
                f"grid_sample: {name} is {call.str(name)!r}, should be one of {', '.join(values)}",
                code="E108",
            )
    check_dtype(call, "grid", FLOATS)
    fits = x.rank >= 3 and grid.rank == x.rank and grid.shape[-1] == x.rank - 2
    if (
        not fits
        or differ(x.shape[0], grid.shape[0])
        or x.dtype in (DType.STR, DType.C64, DType.C128)
    ):
        raise LeptonError(
            f"grid_sample: {x} and the grid {grid} do not fit",
            notes=[
                "the grid has the same batch and rank, its last extent is the number of spatial "
                "dimensions"
            ],
            code="E103",
        )
    return x.with_shape(*x.shape[:2], *grid.shape[1:-1])


def _reflected(at: Array, low: float, high: float) -> Array:
    """Coordinates folded at the borders until they are inside."""
    span = high - low
    if span <= 0:
        return np.zeros_like(at)
    folded = np.mod(at - low, 2 * span)
    return low + np.minimum(folded, 2 * span - folded)


def _grid_evaluate(call: Evaluation) -> Array:
    x, grid = call[0], call[1]
    mode, padding, aligned = (
        call.str("mode"),
        call.str("padding_mode"),
        bool(call.int("align_corners")),
    )
    exact = x.dtype if x.dtype.name in ("float32", "float64") else np.dtype(np.float32)
    if 0 in x.shape or 0 in grid.shape:
        return np.zeros((*x.shape[:2], *grid.shape[1:-1]), x.dtype)
    taps: list[list[tuple[Array, Array]]] = []
    for axis, extent in enumerate(x.shape[2:]):
        at = grid[..., -1 - axis].astype(exact)
        at = (at + 1) / 2 * (extent - 1) if aligned else ((at + 1) * extent - 1) / 2
        low, high = (0.0, extent - 1.0) if aligned else (-0.5, extent - 0.5)
        taps.append(_grid_taps(at, extent, low, high, mode, padding))
    source = np.moveaxis(x, 1, -1).astype(exact)
    batch: Array = np.array(range(x.shape[0])).reshape([-1] + [1] * (grid.ndim - 2))
    total = np.zeros((*grid.shape[:-1], x.shape[1]), exact)
    for combination in all_of(*taps):
        factor = np.ones((), exact)
        for _, part in combination:
            factor = factor * part
        total += source[(batch, *(place for place, _ in combination))] * factor[..., None]
    return np.moveaxis(total, -1, 1).astype(x.dtype)


def _grid_taps(
    at: Array, extent: int, low: float, high: float, mode: str, padding: str
) -> list[tuple[Array, Array]]:
    """The elements around coordinates along one axis, and their weights."""
    at = np.rint(at) if mode == "nearest" else at
    if padding != "zeros":
        inner = np.clip(at, 0, extent - 1) if padding == "border" else _reflected(at, low, high)
        at = np.where((at < low) | (at > high), inner, at)
    if mode == "nearest":
        steps, below = [0], np.rint(at)
    else:
        steps, below = ([-1, 0, 1, 2] if mode == "cubic" else [0, 1]), np.floor(at)
    taps: list[tuple[Array, Array]] = []
    for step in steps:
        place = below + step
        factor = np.asarray(weight(np.abs(at - place), CUBIC, mode == "cubic", np.where))
        factor = np.ones_like(factor) if mode == "nearest" else factor
        if padding == "zeros":
            factor = np.where((place >= 0) & (place < extent), factor, 0)
        elif padding == "reflection":
            place = np.trunc(_reflected(place, low, high))
        taps.append((np.clip(place, 0, extent - 1).astype(np.int64), factor.astype(at.dtype)))
    return taps


define(
    "grid_sample(x, grid)",
    "The operand sampled at the coordinates of a grid, which span -1 to 1 along each axis.",
    infer=_grid_infer,
    evaluate=_grid_evaluate,
    attrs={
        "align_corners": Attr("int", 0),
        "mode": Attr("str", "linear"),
        "padding_mode": Attr("str", "zeros"),
    },
    onnx="GridSample",
    since=22,
)


def grid_extents(call: Inference) -> list[Dim]:
    """The spatial extents of an `affine_grid`'s result."""
    theta = call[0].type
    check_dtype(call, "theta", FLOATS)
    spatial = 2 if theta.rank == 3 and theta.shape[1:] == (2, 3) else 3
    if theta.rank != 3 or theta.shape[1:] != (spatial, spatial + 1):
        raise LeptonError(
            f"affine_grid: theta is {theta}, should be [N,2,3] or [N,3,4]", code="E103"
        )
    extents = wanted_extents(call, "size", spatial + 2)
    if differ(extents[0], theta.shape[0]):
        raise LeptonError(
            f"affine_grid: size has a batch of {extents[0]}, theta of {theta.shape[0]}", code="E103"
        )
    return extents[2:]


def _affine_infer(call: Inference) -> TensorType:
    extents, theta = grid_extents(call), call[0].type
    return theta.with_shape(theta.shape[0], *extents, len(extents))


def _affine_evaluate(call: Evaluation) -> Array:
    theta, extents = call[0], [int(extent) for extent in call[1][2:]]
    axes: list[Array] = []
    for extent in extents:
        places = np.arange(extent, dtype=np.float64)
        if call.int("align_corners"):
            axes.append(places * 2 / max(extent - 1, 1) - 1)
        else:
            axes.append((places * 2 + 1) / max(extent, 1) - 1)
    spread = np.meshgrid(*axes, indexing="ij")
    points = np.stack([*reversed(spread), np.ones(extents)], -1)
    return np.einsum("...k,nik->n...i", points, theta.astype(np.float64)).astype(theta.dtype)


define(
    "affine_grid(theta, size!)", "The grid that `grid_sample` takes, of a batch of affine maps.",
    infer=_affine_infer, evaluate=_affine_evaluate,
    attrs={"align_corners": Attr("int", 0)}, onnx="AffineGrid", since=20,
)  # fmt: skip
