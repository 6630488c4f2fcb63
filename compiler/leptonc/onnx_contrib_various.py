"""Images, spectra, searches and shapes of com.microsoft, taken apart into ONNX's own."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import numpy as np

from leptonc.ir.build import Builder
from leptonc.ir.dims import Dim
from leptonc.ir.graph import Value
from leptonc.ir.types import DType
from leptonc.onnx_contrib_blocks import known
from leptonc.onnx_contrib_parts import (
    Results,
    Rule,
    as_row,
    cast,
    extent,
    integers,
    number,
    part,
    refuse,
    reshaped,
)
from leptonc.onnx_scope import Call


def _grid_sample(call: Call) -> Results:
    old = call.take("mode", "str", "bilinear")
    mode = {"bilinear": "linear", "bicubic": "cubic"}.get(old, old)
    call.attributes["mode"] = ("str", mode)
    if mode == "cubic" and call.attributes.get("padding_mode") == ("str", "border"):
        raise refuse(call, "bicubic sampling at borders that are continued")
    return as_row("grid_sample")(call)


def _crop_and_resize(call: Call) -> Results:
    """Boxes cut out of images and resized; what lies outside is one number."""
    build, mode = call.build, call.take("mode", "str", "bilinear")
    outside = call.take("extrapolation_value", "float", 0.0)
    x, boxes = call.required(0), call.required(1)
    height, width = (int(size) for size in known(call, 3, "sizes").array.reshape(-1))
    images = build.gather(x, call.required(2))
    count = boxes.type.shape[0]
    rows = _places(build, boxes, (0, 2), height)
    columns = _places(build, boxes, (1, 3), width)
    down = reshaped(build, rows, count, height, 1, 1)
    across = reshaped(build, columns, count, 1, width, 1)
    shape = build.dims(value=(count, height, width, 1), shape=(4,))
    grid = build.concat(build.expand(across, shape), build.expand(down, shape), axis=3)
    attrs = {
        "mode": "linear" if mode == "bilinear" else mode,
        "padding_mode": "border", "align_corners": 1,
    }  # fmt: skip
    cut = build.op("grid_sample", [images, grid], attrs).result
    inside = build.less_or_equal(build.abs(grid), number(build, 1, grid))
    inside = cast(build, inside, DType.I32)
    inside = build.op("reduce_min", [inside, integers(build, [3])], {"keepdims": 0}).result
    inside = reshaped(build, cast(build, inside, DType.BOOL), count, 1, height, width)
    return [build.where(inside, cut, number(build, outside, x))]


def _places(build: Builder, boxes: Value, sides: tuple[int, int], size: int) -> Value:
    """Where `size` places between two sides of each box lie, from -1 to 1 over the image."""
    first, last = (
        build.gather(boxes, integers(build, [side]), axis=1) for side in sides
    )  # fmt: skip
    two = number(build, 2, boxes)
    if size > 1:
        steps = build.const((np.arange(size) / (size - 1)).astype(np.float32))
        place = build.add(first, build.mul(build.sub(last, first), steps))
    else:
        place = build.div(build.add(first, last), two)
    return build.sub(build.mul(place, two), number(build, 1, boxes))


def _transform(call: Call) -> Results:
    """The transform of real numbers along the last axis; its inverse gives real numbers again."""
    build, x = call.build, call.required(0)
    inverse = call.op_type == "Irfft"
    if call.take("normalized", "int", 0) or call.take("signal_ndim", "int", 1) != 1:
        raise refuse(call, "normalised or several transforms")
    if not call.take("onesided", "int", 1):
        raise refuse(call, "both sides of the spectrum")
    axis = x.type.rank - (2 if inverse else 1)
    source = x if inverse else reshaped(build, x, *x.type.shape, 1)
    attrs = {"inverse": int(inverse), "onesided": 1}
    place = build.const(np.array(axis, np.int64))
    op = build.op("dft", [source, place], attrs, names=["x", "axis"])
    result = op.result
    return [reshaped(build, result, *result.type.shape[:-1]) if inverse else result]


def _unique(call: Call) -> Results:
    """Elements in the order of their first places, for each element its place among them."""
    values, _, places, counts = call.build.op(
        "unique", [call.required(0)], {"sorted": 0}
    ).results  # fmt: skip
    return [values, places, counts]


def _n_gram_repeat_block(call: Call) -> Results:
    """Minus infinity as the score of tokens that would repeat a run of `ngram_size`."""
    build, size = call.build, call.take("ngram_size", "int", 1)
    tokens, scores = call.required(0), call.required(1)
    batch, length = tokens.type.shape
    runs = length - size + 1
    batches = reshaped(build, extent(build, batch), 1)
    whole = [batches, reshaped(build, extent(build, runs), 1)]
    same = build.expand(build.const(np.array(True)), build.concat(*whole, axis=0))
    for place in range(size - 1):
        run = part(build, tokens, place, runs + place, 1)
        last = part(build, tokens, runs + place, runs + place + 1, 1)
        same = build.and_(same, build.equal(run, last))
    ends = part(build, tokens, size - 1, length, 1)
    low, high = (number(build, sign * np.inf, scores) for sign in (-1, 1))
    updates = build.where(same, low, high)
    attrs = {"axis": 1, "reduction": "min"}
    return [build.op("scatter_elements", [scores, ends, updates], attrs).result]


def _distances(call: Call) -> Results:
    """Distances of all rows of one matrix to all rows of another."""
    build, metric = call.build, call.take("metric", "str", "sqeuclidean")
    if metric not in ("euclidean", "sqeuclidean"):
        raise refuse(call, f"the metric {metric!r}")
    a, b = call.required(0), call.required(1)
    rows, depth = a.type.shape
    left = reshaped(build, a, rows, 1, depth)
    difference = build.sub(left, b)
    axes = integers(build, [2])
    squares = build.mul(difference, difference)
    total = build.op("reduce_sum", [squares, axes], {"keepdims": 0}).result
    return [build.sqrt(total) if metric == "euclidean" else total]


def _is_all_finite(call: Call) -> Results:
    """True where no element of any operand is NaN or infinite."""
    build, wrong = call.build, list[Value]()
    infinite, nan = call.take("isinf_only", "int", 0), call.take("isnan_only", "int", 0)
    for index in range(len(call.operands)):
        x = call.required(index)
        found = [] if nan else [build.is_inf(x)]
        found += [] if infinite else [build.is_nan(x)]
        for one in found:
            flat = reshaped(build, cast(build, one, DType.I32), -1)
            wrong.append(build.op("reduce_max", [flat], {"keepdims": 0}).result)
    total = wrong[0]
    for other in wrong[1:]:
        total = build.add(total, other)
    return [build.equal(total, build.const(np.array(0, np.int32)))]


def _expand_dims(call: Call) -> Results:
    axis = cast(call.build, call.required(1), DType.I64)
    return [call.build.unsqueeze(call.required(0), reshaped(call.build, axis, 1))]


def _range(call: Call) -> Results:
    build, start = call.build, call.required(0)
    step = call.operand(2)
    values = [start, call.required(1), number(build, 1, start) if step is None else step]
    return [build.range(*(reshaped(build, value) for value in values))]


def _pad(call: Call) -> Results:
    pads = call.required(1)
    if pads.type.rank == 2:
        call.set_operand(1, reshaped(call.build, pads, 2 * call.required(0).type.rank))
    return as_row("pad")(call)


def _unfold(call: Call) -> Results:
    """Windows along an axis, which become the last axis."""
    build, x = call.build, call.required(0)
    axis: int = call.take("dim", "int", -1) % x.type.rank
    size: int = call.take("size", "int", 1)
    step: int = call.take("step", "int", 1)
    length: Dim = x.type.shape[axis]
    if not isinstance(length, int):
        raise refuse(call, f"the unknown extent {length}")
    count = (length - size) // step + 1
    places: list[int] = [n * step + at for n in range(count) for at in range(size)]
    indices = build.const(np.array(places, np.int64).reshape(count, size))
    windows = build.gather(x, indices, axis=axis)
    order = [index for index in range(x.type.rank + 1) if index != axis + 1]
    return [build.transpose(windows, perm=(*order, axis + 1))]


def _conv_transpose(call: Call) -> Results:
    """A transposed convolution whose pads are an operand."""
    if call.operand(2) is not None:
        pads = known(call, 2, "pads").array
        call.attributes["pads"] = ("ints", tuple(int(pad) for pad in pads.reshape(-1)))
    call.operands = [call.required(0), call.required(1), call.operand(3)]
    return as_row("conv_transpose")(call)


VARIOUS: Mapping[str, Rule] = MappingProxyType({
    "Trilu": as_row("trilu"),
    "GatherND": as_row("gather_nd"),
    "ExpandDims": _expand_dims,
    "Range": _range,
    "Pad": _pad,
    "UnfoldTensor": _unfold,
    "ConvTransposeWithDynamicPads": _conv_transpose,
    "GridSample": _grid_sample,
    "CropAndResize": _crop_and_resize,
    "Rfft": _transform,
    "Irfft": _transform,
    "Unique": _unique,
    "NGramRepeatBlock": _n_gram_repeat_block,
    "CDist": _distances,
    "IsAllFinite": _is_all_finite,
})  # fmt: skip
"""Operators by name, and what takes them apart."""
