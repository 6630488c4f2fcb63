# pyright: standard
"""Lowering of operations that join, cut, repeat, pad and rearrange elements."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tvm import te, tirx

from leptonc.backends.tvm.lower.indexing import compute, if_any, zero
from leptonc.backends.tvm.lowering import LowerCall, Reason, Rule
from leptonc.ir.dims import Dim, minimum
from leptonc.ir.graph import Op
from leptonc.ir.ops.blocks import cropped_axes
from leptonc.ir.ops.broadcasting import normalized_axis
from leptonc.ir.ops.contents import content_of
from leptonc.ir.ops.movement import pad_widths
from leptonc.ir.ops.slicing import cuts_of, split_sizes
from leptonc.ir.table import Inference


def _axis(call: LowerCall) -> int:
    return normalized_axis(call.known, call.known.int("axis"), call.known[0].type.rank)


def _concat(call: LowerCall) -> te.Tensor:
    axis = _axis(call)
    parts: list[tuple[te.Tensor, Dim]] = []
    offset: Dim = 0
    for tensor, type in zip(call.all("inputs"), call.known.types, strict=True):
        if type.shape[axis] != 0:
            parts.append((tensor, offset))
        offset = offset + type.shape[axis]
    parts = parts or [(call[0], 0)]

    def element(*index: Any) -> Any:
        chosen: Any = None
        for at, (tensor, start) in reversed(list(enumerate(parts))):
            value = tensor(*index[:axis], index[axis] - call.dim(start), *index[axis + 1 :])
            if chosen is not None:
                value = tirx.if_then_else(index[axis] < call.dim(parts[at + 1][1]), value, chosen)
            chosen = value
        return chosen

    return compute(call, element)


def _split(call: LowerCall) -> list[te.Tensor]:
    axis = _axis(call)
    results: list[te.Tensor] = []
    offset: Dim = 0
    for at, size in enumerate(split_sizes(call.known)):
        results.append(_shifted(call, axis, offset, at))
        offset = offset + size
    return results


def _shifted(call: LowerCall, axis: int, offset: Dim, result: int) -> te.Tensor:
    def element(*index: Any) -> Any:
        return call[0](*index[:axis], index[axis] + call.dim(offset), *index[axis + 1 :])

    return compute(call, element, result, name=f"split_{result}")


def _slice(call: LowerCall) -> te.Tensor:
    cuts = cuts_of(call.known) or {}

    def element(*index: Any) -> Any:
        source = list(index)
        for axis, cut in cuts.items():
            source[axis] = call.dim(cut.start) + index[axis] * call.index(cut.step)
        return call[0](*source)

    return compute(call, element)


def spread_index(
    call: LowerCall, source: Sequence[Dim], target: Sequence[Dim], index: Sequence[Any]
) -> list[Any]:
    """The index into an operand of extents `source` that broadcasts to `target`."""
    found: list[Any] = []
    offset = len(target) - len(source)
    for axis, dim in enumerate(source):
        at = index[offset + axis]
        if dim == target[offset + axis]:
            found.append(at)
        elif dim == 1:
            found.append(call.index(0))
        else:
            found.append(tirx.Select(call.dim(dim) == 1, call.index(0), at))
    return found


def _expand(call: LowerCall) -> te.Tensor:
    source, target = call.known[0].type.shape, call.op.results[0].type.shape
    return compute(call, lambda *index: call[0](*spread_index(call, source, target, index)))


def _tile(call: LowerCall) -> te.Tensor:
    source, repeats = call.known[0].type.shape, call.content("repeats")

    def element(*index: Any) -> Any:
        at = [
            i if times == 1 else call.index(0) if dim == 1 else tirx.floormod(i, call.dim(dim))
            for i, dim, times in zip(index, source, repeats, strict=True)
        ]
        return call[0](*at)

    return compute(call, element)


def _pad(call: LowerCall) -> te.Tensor:
    shape, mode = call.known[0].type.shape, call.known.str("mode")
    widths = pad_widths(call.known) or []
    if mode == "constant":
        return _pad_constant(call, widths)
    kept = [
        dim + minimum(before, 0) + minimum(after, 0)
        for dim, (before, after) in zip(shape, widths, strict=True)
    ]

    def element(*index: Any) -> Any:
        source = list(index)
        for axis, (before, after) in enumerate(widths):
            if (before, after) != (0, 0):
                source[axis] = _folded(
                    call, mode, index[axis] - call.dim(before), before, kept[axis]
                )
        value = call[0](*source)
        for extent in kept:
            value = if_any(call, extent, value) if not isinstance(extent, int) else value
        return value

    return compute(call, element)


def _folded(call: LowerCall, mode: str, at: Any, before: Dim, extent: Dim) -> Any:
    """The element that stands for position `at`; elements that are cut off count as outside."""
    cut = call.dim(minimum(before, 0) * -1)
    return folded(call, mode, at - cut, call.dim(extent)) + cut


def folded(call: LowerCall, mode: str, at: Any, size: Any) -> Any:
    """The element of `size` that stands for position `at` in a padding that is not constant."""
    if mode == "edge":
        at = tirx.max(tirx.min(at, size - 1), call.index(0))
    elif mode == "wrap":
        at = tirx.floormod(at, tirx.max(size, call.index(1)))
    else:
        period = tirx.max(size * 2 - 2, call.index(1))
        at = tirx.floormod(at, period)
        at = tirx.min(at, tirx.max(period - at, call.index(0)))
        at = tirx.Select(size == 1, call.index(0), at)
    return at


def _pad_constant(call: LowerCall, widths: Sequence[tuple[Dim, Dim]]) -> te.Tensor:
    shape, value = call.known[0].type.shape, call.get("constant_value")
    fill: Any = zero(call.dtype())
    if value is not None:
        fill = value(*[call.index(0)] * call.known.all("constant_value")[0].type.rank)

    def element(*index: Any) -> Any:
        source: list[Any] = list(index)
        conditions: list[Any] = []
        for axis, (before, after) in enumerate(widths):
            source[axis] = index[axis] - call.dim(before)
            if before != 0:
                conditions.append(source[axis] >= 0)
            if after != 0:
                conditions.append(source[axis] < call.dim(shape[axis]))
        read = call[0](*source)
        return tirx.if_then_else(tirx.all(*conditions), read, fill) if conditions else read

    return compute(call, element)


def _trilu(call: LowerCall) -> te.Tensor:
    upper = call.known.int("upper")
    content = content_of(call.known.items[1]) if call.known.get("k") is not None else None
    diagonal: Any = call.index(0)
    if content is not None:
        diagonal = call.dim(content.reshape(()).item())
    elif call.known.get("k") is not None:
        zeros = [call.index(0)] * call.known[1].type.rank
        diagonal = call[1](*zeros).astype(call.dims.index_dtype)

    def element(*index: Any) -> Any:
        offset = index[-1] - index[-2]
        kept = offset >= diagonal if upper else offset <= diagonal
        return tirx.Select(kept, call[0](*index), zero(call.dtype()))

    return compute(call, element)


def _depth_to_space(call: LowerCall) -> te.Tensor:
    size, depth_first = call.index(call.known.int("blocksize")), call.known.str("mode") == "DCR"
    channels = call.shape()[1]

    def element(n: Any, c: Any, h: Any, w: Any) -> Any:
        block = tirx.floormod(h, size) * size + tirx.floormod(w, size)
        channel = block * channels + c if depth_first else c * (size * size) + block
        return call[0](n, channel, tirx.floordiv(h, size), tirx.floordiv(w, size))

    return compute(call, element)


def _space_to_depth(call: LowerCall) -> te.Tensor:
    size, depth_first = call.index(call.known.int("blocksize")), call.known.str("mode") == "DCR"
    channels = call.dim(call.known[0].type.shape[1])

    def element(n: Any, c: Any, h: Any, w: Any) -> Any:
        block = tirx.floordiv(c, channels) if depth_first else tirx.floormod(c, size * size)
        channel = tirx.floormod(c, channels) if depth_first else tirx.floordiv(c, size * size)
        return call[0](
            n, channel, h * size + tirx.floordiv(block, size), w * size + tirx.floormod(block, size)
        )

    return compute(call, element)


def _center_crop_pad(call: LowerCall) -> te.Tensor:
    source, target = call.known[0].type.shape, call.op.results[0].type.shape

    def element(*index: Any) -> Any:
        at, conditions = list(index), []
        for axis in cropped_axes(call.known):
            if source[axis] == target[axis]:
                continue
            have, want = call.dim(source[axis]), call.dim(target[axis])
            at[axis] = index[axis] + tirx.Select(
                have > want,
                tirx.floordiv(have - want, 2),
                call.index(0) - tirx.floordiv(want - have, 2),
            )
            conditions += [at[axis] >= 0, at[axis] < have]
        read = call[0](*at)
        return (
            tirx.if_then_else(tirx.all(*conditions), read, zero(call.dtype()))
            if conditions
            else read
        )

    return compute(call, element)


def _unknown(op: Op, name: str) -> bool:
    call = Inference(op.definition, op.operands, op.operand_names, op.attrs)
    return op.operand(name) is not None and call.content(name) is None


def _reason(*names: str) -> Reason:
    def reason(op: Op) -> str:
        unknown = [name for name in names if _unknown(op, name)]
        verb = "is" if len(unknown) == 1 and not unknown[0].endswith("s") else "are"
        return f"{' and '.join(unknown)} {verb} known at run time only" if unknown else ""

    return reason


RULES: dict[str, Rule] = {
    "concat": _concat,
    "split": _split,
    "slice": _slice,
    "expand": _expand,
    "tile": _tile,
    "pad": _pad,
    "trilu": _trilu,
    "depth_to_space": _depth_to_space,
    "space_to_depth": _space_to_depth,
    "center_crop_pad": _center_crop_pad,
}
REASONS: dict[str, Reason] = {
    "split": _reason("split"),
    "slice": _reason("starts", "ends", "axes", "steps"),
    "tile": _reason("repeats"),
    "expand": _reason("shape"),
    "pad": _reason("pads", "axes"),
    "center_crop_pad": _reason("shape"),
}
