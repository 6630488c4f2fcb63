"""Einstein sums and determinants."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from leptonc.ir.blob import Array
from leptonc.ir.diagnostics import LeptonError, shown
from leptonc.ir.dims import Dim
from leptonc.ir.ops.broadcasting import (
    FLOATS,
    NUMBERS,
    broadcast_dims,
    check_count,
    check_dtype,
    check_same_dtype,
    shown_shape,
)
from leptonc.ir.ops.extents import natural
from leptonc.ir.table import Attr, Evaluation, Inference, Trait, define
from leptonc.ir.types import TensorType

ELLIPSIS = "..."
_TERM = re.compile(r"\.\.\.|[A-Za-z]")


@dataclass(frozen=True)
class Equation:
    """The labels of all axes; those under the ellipsis are numbered from the end."""

    terms: tuple[tuple[str, ...], ...]
    output: tuple[str, ...]

    @property
    def summed(self) -> tuple[str, ...]:
        """The labels that the result does not have, in order of appearance."""
        labels = dict.fromkeys(label for term in self.terms for label in term)
        return tuple(label for label in labels if label not in self.output)


def parse_equation(text: str, ranks: Sequence[int]) -> Equation:
    """The equation `text` for operands of `ranks`; raises E108 where it does not fit them."""
    left, arrow, right = text.replace(" ", "").partition("->")
    spelled = left.split(",")
    if len(spelled) != len(ranks):
        raise LeptonError(
            f"einsum {shown(text)} has {len(spelled)} terms, {len(ranks)} operands were given",
            code="E108",
        )
    hidden = 0
    split = [_split(text, term) for term in spelled]
    for term, rank in zip(split, ranks, strict=True):
        count = len(term) - (ELLIPSIS in term)
        if (count != rank) if ELLIPSIS not in term else (count > rank):
            raise LeptonError(
                f"einsum {shown(text)}: a term names {count} axes, its operand has {rank}",
                code="E108",
            )
        hidden = max(hidden, rank - count) if ELLIPSIS in term else hidden
    terms = tuple(
        _expand(term, rank - len(term) + 1) if ELLIPSIS in term else tuple(term)
        for term, rank in zip(split, ranks, strict=True)
    )
    return Equation(terms, _output(text, split, right if arrow else None, hidden))


def _split(text: str, term: str) -> list[str]:
    labels = _TERM.findall(term)
    if "".join(labels) != term or labels.count(ELLIPSIS) > 1:
        raise LeptonError(f"einsum {shown(text)}: cannot read the term {shown(term)}", code="E108")
    return labels


def _expand(labels: Sequence[str], hidden: int) -> tuple[str, ...]:
    at = list(labels).index(ELLIPSIS)
    numbered = (f"-{hidden - i}" for i in range(hidden))
    return (*labels[:at], *numbered, *labels[at + 1 :])


def _output(
    text: str, terms: Sequence[Sequence[str]], right: str | None, hidden: int
) -> tuple[str, ...]:
    everything = [label for term in terms for label in term if label != ELLIPSIS]
    if right is None:
        once = sorted(label for label in everything if everything.count(label) == 1)
        return _expand([ELLIPSIS, *once], hidden)
    labels = _split(text, right)
    unknown = [label for label in labels if label != ELLIPSIS and label not in everything]
    if unknown or len(set(labels)) != len(labels):
        raise LeptonError(
            f"einsum {shown(text)}: the result should name axes of the operands, each once",
            code="E108",
        )
    return _expand(labels, hidden) if ELLIPSIS in labels else tuple(labels)


def label_extents(equation: Equation, shapes: Sequence[Sequence[Dim]]) -> dict[str, Dim]:
    """The extent of each label; raises E103 where operands contradict each other."""
    extents: dict[str, Dim] = {}
    for term, shape in zip(equation.terms, shapes, strict=True):
        for label, dim in zip(term, shape, strict=True):
            joined = broadcast_dims(extents.get(label, 1), dim)
            if joined is None:
                raise LeptonError(
                    f"einsum of {' and '.join(map(shown_shape, shapes))}: axis {label!r} has "
                    f"{extents[label]} and "
                    f"{dim} elements",
                    code="E103",
                )
            extents[label] = joined
    return extents


def _einsum_infer(call: Inference) -> TensorType:
    check_count(call, 1)
    check_dtype(call, "inputs", NUMBERS)
    dtype = check_same_dtype(call, "inputs")
    shapes = [type.shape for type in call.types]
    equation = parse_equation(call.str("equation"), [len(shape) for shape in shapes])
    extents = label_extents(equation, shapes)
    return TensorType(dtype, tuple(extents.get(label, 1) for label in equation.output))


def _einsum_evaluate(call: Evaluation) -> Array:
    wide = natural(call[0].dtype)
    result = np.einsum(
        call.str("equation").replace(" ", ""), *(x.astype(wide) for x in call.items), optimize=True
    )
    return np.asarray(result).astype(call[0].dtype)


EINSUM = define(
    "einsum(inputs*)", "A sum of products over labelled axes.",
    infer=_einsum_infer, evaluate=_einsum_evaluate, attrs={"equation": Attr("str", required=True)},
    traits=[Trait.PRODUCT], onnx="Einsum", since=12,
)  # fmt: skip


def _det_infer(call: Inference) -> TensorType:
    check_dtype(call, "x", FLOATS)
    x = call.types[0]
    rows, columns = x.shape[-2:] if x.rank > 1 else (0, 1)
    if isinstance(rows, int) and isinstance(columns, int) and rows != columns:
        raise LeptonError(f"det of {x}: the last two axes should be square", code="E103")
    return x.with_shape(*x.shape[:-2])


def _det_evaluate(call: Evaluation) -> Array:
    return np.asarray(np.linalg.det(call[0].astype(natural(call[0].dtype)))).astype(call[0].dtype)


DET = define(
    "det(x)", "The determinant of each matrix.",
    infer=_det_infer, evaluate=_det_evaluate, onnx="Det", since=11,
)  # fmt: skip
