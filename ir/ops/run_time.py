"""Rows for what only run time tells: numbers that become extents, and places read as data."""

from __future__ import annotations

from typing import cast

import numpy as np

from leptonc.ir.blob import Array
from leptonc.ir.diagnostics import LeptonError
from leptonc.ir.dims import Dim
from leptonc.ir.graph import Content
from leptonc.ir.ops.movement import framed, position_in
from leptonc.ir.table import Attr, Evaluation, Inference, Trait, define
from leptonc.ir.types import DType, TensorType


def _names(call: Inference) -> tuple[Dim, ...]:
    return cast("tuple[Dim, ...]", call.attrs["names"])


def _infer(call: Inference) -> TensorType:
    type, names = call[0].type, _names(call)
    if not type.dtype.is_integer or type.rank != 1:
        raise LeptonError(f"extents reads {type}, should be one row of integers", code="E102")
    if isinstance(type.shape[0], int) and type.shape[0] != len(names):
        raise LeptonError(f"extents names {len(names)} of {type.shape[0]} elements", code="E104")
    return type.with_shape(len(names))


def _content(call: Inference) -> Content:
    content = np.empty(len(_names(call)), object)
    content[:] = _names(call)
    return content


EXTENTS = define(
    "extents(x)",
    "The operand, whose elements are extents from here on: `names` says which. Running it binds "
    "the symbols among them that nothing bound before; an element below zero, or another than an "
    "extent that is known already, is an error at run time, which `fault` explains.",
    infer=_infer,
    evaluate=lambda call: call[0],
    content=_content,
    attrs={"names": Attr("dims", required=True), "fault": Attr("str", "")},
    traits=[Trait.EFFECT],
)


def _placed(call: Inference, *rows: str) -> TensorType:
    """The operand's type with the extents of `shape`; each of `rows` has a number for each axis."""
    type = call[0].type
    shape = call.content("shape")
    for name in (*rows, "shape"):
        row = call.type(name)
        if row is None or row.dtype is not DType.I64 or row.shape != (type.rank,):
            raise LeptonError(
                f"{call.definition.name}: {name} is {row}, should be i64[{type.rank}]", code="E103"
            )
    if shape is None:
        raise LeptonError(f"{call.definition.name} needs known extents", code="E109")
    return type.with_shape(*shape)


def _slice_evaluate(call: Evaluation) -> Array:
    x, starts, steps, shape = call.items
    result = x
    for axis, (start, step, count) in enumerate(
        zip(starts.tolist(), steps.tolist(), shape.tolist(), strict=True)
    ):
        result = np.take(result, [start + step * at for at in range(count)], axis)
    return result


SLICE_FROM = define(
    "slice_from(x, starts, steps, shape!)",
    "`shape` elements from `starts` on, one of each for each axis, each `steps` after the last.",
    infer=lambda call: _placed(call, "starts", "steps"),
    evaluate=_slice_evaluate,
    traits=[Trait.INJECTIVE],
)


def _pad_evaluate(call: Evaluation) -> Array:
    x, before, shape = call[0], call[1].tolist(), call[len(call) - 1].tolist()
    after = [whole - n - b for whole, n, b in zip(shape, x.shape, before, strict=True)]
    mode = call.str("mode")
    if mode == "constant":
        return framed(x, list(zip(before, after, strict=True)), call.get("constant_value"))
    for axis, (extent, start, whole) in enumerate(zip(x.shape, before, shape, strict=True)):
        places = [position_in(mode, at - start, extent) for at in range(whole)]
        x = np.take(x, np.array(places, np.int64), axis)
    return x


PAD_TO = define(
    "pad_to(x, before, constant_value?, shape!)",
    "The operand framed to `shape`, with `before` elements before each axis; filled like `pad`.",
    infer=lambda call: _placed(call, "before"),
    evaluate=_pad_evaluate,
    attrs={"mode": Attr("str", "constant")},
    traits=[Trait.INJECTIVE],
)
