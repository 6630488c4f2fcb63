# pyright: standard
"""What the code generator has kernels for. Importing the rules takes a second: on demand only."""

from __future__ import annotations

import functools
from collections.abc import Mapping

from leptonc.backends.cpu.anchor_kernels import ANCHORS
from leptonc.backends.cpu.prepare import PACKINGS
from leptonc.backends.tvm.extension import extension_reason
from leptonc.backends.tvm.lower.narrow import refusal
from leptonc.backends.tvm.lowering import TVM_DTYPE, Reason, kernel_rules, reasons, rules
from leptonc.backends.tvm.regions import CONTROL
from leptonc.ir.diagnostics import LeptonError, shown
from leptonc.ir.graph import Graph, Op
from leptonc.ir.types import DType

CODELESS = ("const", "dims", "extents", "return", "group")


@functools.cache
def _names() -> frozenset[str]:
    return frozenset({*rules(), *kernel_rules(), *ANCHORS, *PACKINGS})


@functools.cache
def _reasons() -> Mapping[str, Reason]:
    return reasons()


def unsupported(op: Op) -> str:
    """Why this operation cannot be compiled; empty if it can."""
    if op.name in CODELESS:
        return ""
    extension = op.definition.extension
    if extension is None and op.name not in _names() and op.name not in CONTROL:
        return f"{op.name} has no kernel for this target"
    for value in (*op.operands, *op.results):
        if value.type.dtype not in TVM_DTYPE:
            return _no_type(value.type.dtype)
    if extension is not None:
        return extension_reason(op, extension)
    reason = _reasons().get(op.name)
    return refusal(op) or (reason(op) if reason is not None else "")


def _no_type(dtype: DType) -> str:
    return f"element type {dtype} has no kernels on this target"


def refuse_unsupported(graph: Graph) -> None:
    """Raise E802 with every operation that has no kernel, grouped by the reason."""
    found: dict[str, list[str]] = {}
    for value in graph.inputs:
        if value.type.dtype not in TVM_DTYPE:
            found.setdefault(_no_type(value.type.dtype), []).append(f"input {shown(value.name)}")
    for op in graph.walk():
        reason = unsupported(op)
        if reason:
            where = ", ".join(map(shown, op.location.nodes)) or "a node without a name"
            found.setdefault(reason, []).append(where)
    if not found:
        return
    notes = [
        f"{reason}: {', '.join(where[:5])}{_more(len(where) - 5)}"
        for reason, where in found.items()
    ]
    count = sum(map(len, found.values()))
    raise LeptonError(
        f"{count} part{'s' if count > 1 else ''} of the model cannot be compiled for this target",
        notes=notes,
        code="E802",
    )


def _more(count: int) -> str:
    return f" and {count} more" if count > 0 else ""
