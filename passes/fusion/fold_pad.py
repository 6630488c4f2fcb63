"""fold-pad: what is around a tensor becomes the padding of the window that reads it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from leptonc.ir.build import Builder, infer_types
from leptonc.ir.graph import Attribute, Op, Value
from leptonc.ir.ops.windows import Window, kernel_of, pool_kernel, resolve_window
from leptonc.ir.table import Inference
from leptonc.ir.types import TensorType
from leptonc.passes.base import RewritePass
from leptonc.passes.constants import integers, uniform
from leptonc.passes.contract import REASSOCIATES, Contract
from leptonc.passes.pattern import Match, Var, pat
from leptonc.passes.rewrite import Rule, rule

x, amounts, number, axes = Var("x"), Var("amounts"), Var("number"), Var("axes")
weight, bias = Var("weight"), Var("bias")
padded = pat.pad(x, amounts, number.optional(), axes.optional(), mode="constant").shared()


def _extra_pads(m: Match) -> tuple[int, ...]:
    """What the pad adds to the spatial axes, as a convolution spells it."""
    around = integers(m[amounts])
    m.require(around is not None, "how much is padded is not known")
    rank = m[x].type.rank
    given = integers(m[axes]) if m.get(axes) is not None else tuple(range(rank))
    m.require(given is not None, "which axes are padded is not known")
    assert around is not None
    assert given is not None
    before, after = [0] * rank, [0] * rank
    for index, axis in enumerate(given):
        before[axis], after[axis] = around[index], around[index + len(given)]
    outer = (*before[:2], *after[:2])
    m.require(not any(outer), "batch or channels are padded")
    extra = (*before[2:], *after[2:])
    m.require(min(extra) >= 0, "the pad cuts off")
    return extra


def _window(op: Op) -> Window:
    """The window of a convolution or a pool."""
    call = Inference(op.definition, op.operands, op.operand_names, op.attrs, op.regions)
    space = op.operands[0].type.shape[2:]
    weighted = len(op.operands) > 1
    kernel = (
        kernel_of(call, op.operands[1].type, len(space))
        if weighted
        else pool_kernel(call, len(space))
    )
    return resolve_window(call, space, kernel, ceil_mode=bool(op.attrs.get("ceil_mode")))


def _pads(m: Match, extra: tuple[int, ...]) -> tuple[int, ...]:
    """The padding of the root and `extra`, as numbers."""
    window = _window(m.root)
    own = (*window.before, *window.after)
    known = [pad for pad in own if isinstance(pad, int)]
    m.require(len(known) == len(own), "the padding depends on the extents")
    return tuple(a + b for a, b in zip(known, extra, strict=True))


def _require_fill(m: Match, *allowed: float, reason: str) -> None:
    fill = uniform(m[number]) if m.get(number) is not None else 0.0
    m.require(fill in allowed, reason)


def _padded_attrs(m: Match) -> dict[str, Attribute]:
    return {**m.root.attrs, "pads": _pads(m, _extra_pads(m)), "auto_pad": "NOTSET"}


@rule(pat.conv(padded, weight, bias=bias.optional()))
def pad_into_conv(m: Match, build: Builder) -> Value:
    """Zeros around the input of a convolution become its padding."""
    _require_fill(m, 0.0, reason="the padding is not zero")
    operands, attrs = [m[x], *m.root.operands[1:]], _padded_attrs(m)
    return build.op(m.root.definition, operands, attrs, names=m.root.operand_names).result


joined = pat.concat(...)


@rule(pat.conv(joined, weight, bias=bias.optional()))
def zeros_into_conv(m: Match, build: Builder) -> Value:
    """Constant zeros joined to both ends of the input of a convolution become its padding."""
    parts, rank = m[joined].operands, m[joined].result.type.rank
    inner = [value for value in parts if value.blob is None]
    m.fits(len(inner) == 1 and len(parts) > 1)
    axis, place = m[joined].int("axis") % rank, parts.index(inner[0])
    m.fits(axis >= 2)
    zeros = all(uniform(value) == 0 for value in parts if value is not inner[0])
    m.require(zeros, "what is joined is not zero")
    extra = [0] * (2 * (rank - 2))
    for index, value in enumerate(parts):
        if index != place:
            extra[axis - 2 + (rank - 2) * (index > place)] += value.type.extents[axis]
    attrs = {**m.root.attrs, "pads": _pads(m, tuple(extra)), "auto_pad": "NOTSET"}
    operands = [inner[0], *m.root.operands[1:]]
    return build.op(m.root.definition, operands, attrs, names=m.root.operand_names).result


@rule(pat.any_of("average_pool", "lp_pool")(padded, ceil_mode=0))
def pad_into_average(m: Match, build: Builder) -> Value:
    """Zeros around the input of an average that counts its padding become padding."""
    _require_fill(m, 0.0, reason="the padding is not zero")
    attrs = _padded_attrs(m)
    counted = m.root.attrs.get("count_include_pad", 1) == 1
    m.require(counted or not _window(m.root).is_padded, "padding of its own is not counted")
    _require_small(m, attrs)
    if "count_include_pad" in attrs:
        attrs["count_include_pad"] = 1
    return build.op(m.root.definition, [m[x]], attrs).result


NEVER_NEGATIVE = ("relu", "sigmoid", "hard_sigmoid", "softplus", "abs", "exp", "sqrt")


@rule(pat.max_pool(padded))
def pad_into_maximum(m: Match, build: Builder) -> list[Value]:
    """Numbers around the input of a maximum that are below all others are its own padding."""
    m.fits(not any(value.is_used for value in m.root.results[1:]))
    fill = uniform(m[number]) if m.get(number) is not None else 0.0
    producer = m[x].producer
    low = producer is not None and _is_never_negative(producer)
    m.require(fill == float("-inf") or (fill == 0 and low), "the padding is not minus infinity")
    attrs = _padded_attrs(m)
    _require_small(m, attrs)
    call = Inference(m.root.definition, [m[x]], ["x"], attrs)
    m.require(infer_types(call)[0] == m.root.results[0].type, "the last windows end elsewhere")
    types = [value.type for value in m.root.results]  # the places of the maxima may be left out
    return list(build.op(m.root.definition, [m[x]], attrs, result_types=types).results)


def _is_never_negative(op: Op) -> bool:
    """True where nothing that `op` gives is below zero."""
    if op.name == "clip":
        low = op.operand("min")
        limit = uniform(low) if low is not None else None
        return limit is not None and limit >= 0
    return op.name in NEVER_NEGATIVE


def _require_small(m: Match, attrs: Mapping[str, Attribute]) -> None:
    """Go on only where each place of the window holds an element: runtimes insist on that."""
    kernel, pads = _window(m.root).kernel, attrs["pads"]
    assert isinstance(pads, tuple)
    fits = all(
        isinstance(pad, int) and pad < extent for pad, extent in zip(pads, kernel * 2, strict=True)
    )
    m.require(fits, "the padding is as wide as the window")


transposed = pat.conv_transpose(x, weight, bias=bias.optional())
cut = pat.slice(transposed, Var("starts"), Var("ends"), axes.optional(), Var("steps").optional())


@rule(cut)
def cut_into_transposed_conv(m: Match, build: Builder) -> Value:
    """What is cut off a transposed convolution is not computed: it becomes its padding."""
    op = m[transposed]
    cuts = _cut_extents(m, op.result.type)
    m.require(op.ints("output_shape") in (None, ()), "the convolution states its extents")
    m.require(op.str("auto_pad") in ("NOTSET", "VALID"), "the padding depends on the extents")
    own = (op.ints("pads") or ()) if op.str("auto_pad") == "NOTSET" else ()
    pads = tuple(a + b for a, b in zip(own or (0,) * len(cuts), cuts, strict=True))
    attrs = {**op.attrs, "pads": pads, "auto_pad": "NOTSET"}
    call = Inference(op.definition, op.operands, op.operand_names, attrs)
    m.require(infer_types(call)[0] == m.root.result.type, "what is left depends on the extents")
    return build.op(op.definition, op.operands, attrs, names=op.operand_names).result


def _cut_extents(m: Match, type: TensorType) -> tuple[int, ...]:
    """What the slice takes off the spatial axes: first at their starts, then at their ends."""
    space = type.rank - 2
    off = [0] * (2 * space)
    for axis, (start, end, step) in slice_bounds(m).items():
        extent = type.shape[axis]
        whole = start == 0 and (end >= FAR or end == extent) and step == 1
        m.require(step == 1, "the slice leaves elements out")
        m.require(axis >= 2 or whole, "batch or channels are cut")
        if isinstance(extent, int):
            start, end, _ = slice(start, end).indices(extent)
            after = extent - max(start, end)
        else:
            after = 0 if end >= FAR else -end
            m.require(start >= 0 and after >= 0, "what is left depends on the extents")
        if axis >= 2:
            off[axis - 2], off[axis - 2 + space] = start, after
    return tuple(off)


FAR = 2**31 - 1
"""An end of a slice from here on is the end of the axis."""


def slice_bounds(m: Match) -> dict[int, tuple[int, int, int]]:
    """Start, end and step of the root, a slice, for each axis that it names."""
    root = m.root
    known = {
        name: integers(root.operand(name))
        for name in ("starts", "ends", "axes", "steps")
        if root.operand(name) is not None
    }
    m.require(None not in known.values(), "what is cut is not known")
    starts, ends = known["starts"] or (), known["ends"] or ()
    on = known.get("axes") or tuple(range(len(starts)))
    steps = known.get("steps") or (1,) * len(starts)
    rank = root.operands[0].type.rank
    return {
        axis % rank: (start, end, step)
        for axis, start, end, step in zip(on, starts, ends, steps, strict=True)
    }


@dataclass(frozen=True)
class FoldPad(RewritePass):
    """Folds what is put around a tensor, or cut off it, into the window beside it.

    Zeros become the padding of the convolution, average or norm that reads them, and what no
    maximum sees that of a maximum. What is cut off a transposed convolution is its padding.
    """

    name: ClassVar[str] = "fold-pad"
    numbers: ClassVar[Contract] = REASSOCIATES
    rules: ClassVar[tuple[Rule, ...]] = (
        pad_into_conv, zeros_into_conv, pad_into_average, pad_into_maximum,
        cut_into_transposed_conv,
    )  # fmt: skip
