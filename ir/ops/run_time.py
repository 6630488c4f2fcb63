"""The row by which numbers computed at run time become extents."""

from __future__ import annotations

from typing import cast

import numpy as np

from leptonc.ir.diagnostics import LeptonError
from leptonc.ir.dims import Dim
from leptonc.ir.graph import Content
from leptonc.ir.table import Attr, Inference, Trait, define
from leptonc.ir.types import TensorType


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
    "extent that is known already, is an error at run time.",
    infer=_infer,
    evaluate=lambda call: call[0],
    content=_content,
    attrs={"names": Attr("dims", required=True)},
    traits=[Trait.EFFECT],
)
