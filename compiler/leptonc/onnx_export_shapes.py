"""Reshapes and broadcasts as ONNX nodes: by constants wherever those can say it.

Reshape copies an extent where it is told 0 and computes one where it is told -1, Expand keeps the
extents where it is told 1, Squeeze and Unsqueeze name the axes only. What can be said by these
needs no extent that is computed at run time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from onnx import GraphProto

from leptonc.ir.dims import Dim, is_positive
from leptonc.ir.graph import Op
from leptonc.ir.types import DType
from leptonc.onnx_export_nodes import node_name
from leptonc.onnx_export_sizes import SizeWriter
from leptonc.onnx_opsets import OLDEST_OPSET, needed_opset

if TYPE_CHECKING:
    from leptonc.onnx_export import Exporter

SHAPED = ("reshape", "expand")
"""Operations that are told extents and may be spelled without."""


class Spelling(NamedTuple):
    """An operator and the row of integers that it takes beside its operand."""

    operator: str
    numbers: tuple[int, ...]


def spelling(op: Op) -> Spelling | None:
    """How `op` is said by numbers alone; None where that cannot be."""
    if op.name not in SHAPED or op.operands[1].blob is not None:
        return None
    content = op.operands[1].content
    if content is None or content.ndim != 1:
        return None
    wanted: list[Dim] = list(content)
    if op.name == "expand":
        return _numbers("Expand", _grown(op, wanted))
    return _reshaped(op, wanted) or _squeezed(op) or _unsqueezed(op)


def needs_no_row(op: Op) -> bool:
    """True for an operation that is written without the row of extents that it reads."""
    return op.name == "expand" or spelling(op) is not None


def _numbers(operator: str, dims: list[Dim]) -> Spelling | None:
    known = tuple(dim for dim in dims if isinstance(dim, int))
    return Spelling(operator, known) if len(known) == len(dims) else None


def _grown(op: Op, wanted: list[Dim]) -> list[Dim]:
    """What Expand has to be told: 1 where the operand has the extent already."""
    shape = op.operands[0].type.shape
    missing = len(wanted) - len(shape)
    return [
        1 if at >= missing and shape[at - missing] == dim else dim
        for at, dim in enumerate(wanted)
    ]  # fmt: skip


def _reshaped(op: Op, wanted: list[Dim]) -> Spelling | None:
    """Reshape with 0 for extents that stay and -1 for one other.

    ONNX cannot compute an extent where another is 0, so -1 stands beside extents that are not.
    """
    source = op.operands[0].type.shape
    if op.attrs.get("allowzero") and 0 in wanted:
        return None
    spelled: list[Dim] = []
    open_axes: list[int] = []
    others_positive = True
    for axis, dim in enumerate(wanted):
        kept = axis < len(source) and source[axis] == dim
        if isinstance(dim, int):
            spelled.append(dim)
            others_positive = others_positive and dim > 0
        elif kept:
            spelled.append(0)
            others_positive = others_positive and is_positive(dim)
        else:
            spelled.append(-1)
            open_axes.append(axis)
    if open_axes and (len(open_axes) > 1 or not others_positive):
        return None
    return _numbers("Reshape", spelled)


def _unsqueezed(op: Op) -> Spelling | None:
    """Unsqueeze, where the result has the operand's extents and ones between them."""
    axes = _ones_beside(op.result.type.shape, op.operands[0].type.shape)
    return None if axes is None else Spelling("Unsqueeze", axes)


def _squeezed(op: Op) -> Spelling | None:
    """Squeeze, where the operand has the result's extents and ones between them."""
    axes = _ones_beside(op.operands[0].type.shape, op.result.type.shape)
    return None if axes is None else Spelling("Squeeze", axes)


def _ones_beside(longer: tuple[Dim, ...], shorter: tuple[Dim, ...]) -> tuple[int, ...] | None:
    """The axes of `longer` without which it is `shorter`, all of extent 1."""
    axes: list[int] = []
    for axis, dim in enumerate(longer):
        at = axis - len(axes)
        if at >= len(shorter) or shorter[at] != dim:
            if dim != 1:
                return None
            axes.append(axis)
    return tuple(axes) if len(longer) - len(axes) == len(shorter) else None


def export_shaped(exporter: Exporter, proto: GraphProto, op: Op) -> None:
    """Write a reshape or an expand in the shortest way that gives the same or fails the same."""
    (x, shape), result = op.operands, op.result
    writer, found = SizeWriter(exporter, proto, op), spelling(op)
    operator, attributes = op.name.title(), dict[str, int]()
    if found is not None:
        operator, row = found.operator, writer.constant(*found.numbers)
    elif op.name == "expand" and shape.blob is None and shape.content is not None:
        row = writer.row(_grown(op, list(shape.content)))
    else:
        row = exporter.names[shape]
        attributes = {"allowzero": 1} if _takes_zeros(exporter, op) else {}
    dtypes = [x.type.dtype, DType.I64]
    opset = needed_opset(operator, set(attributes), dtypes, [x.type.dtype], OLDEST_OPSET)
    exporter.need(opset or OLDEST_OPSET, op)
    node = node_name(op)
    names = [exporter.names[x], row]
    exporter.emit(proto, operator, names, [exporter.names[result]], node, attributes)


ALLOWZERO = 14
"""The opset since which a Reshape can be told to take a 0 for an extent."""


def _takes_zeros(exporter: Exporter, op: Op) -> bool:
    """True where a reshape is written with `allowzero`.

    An opset without it can say all but an open extent of 0 that leaves its place.
    """
    content = op.operands[1].content
    open_only = content is not None and 0 not in list(content.reshape(-1))
    lacks = exporter.asked is not None and exporter.asked < ALLOWZERO
    return bool(op.attrs.get("allowzero")) and not (lacks and open_only)
