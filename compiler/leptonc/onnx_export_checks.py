"""Checks at run time as ONNX nodes: a run that fails one of them ends with an error.

ONNX has no operator that only checks, and tools remove what nothing reads. So what is checked goes
through a node that fails: Squeeze where an extent has to be 1, else a Gather at a place that exists
only if the check holds. What is computed next reads the result of that node.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from onnx import GraphProto, TensorProto

from leptonc.ir.diagnostics import LeptonBug
from leptonc.ir.dims import Dim, Expr
from leptonc.ir.graph import Op, Region, Value
from leptonc.ir.ops.control import FRESH
from leptonc.ir.ops.run_time import EXTENTS
from leptonc.ir.table import CONST, DIMS, RETURN
from leptonc.onnx_export_sizes import SizeWriter

if TYPE_CHECKING:
    from leptonc.onnx_export import Exporter


def export_check(exporter: Exporter, proto: GraphProto, op: Op) -> None:
    """Write an `extents`: what reads it reads its operand, once that is checked."""
    row, result, wanted = op.operands[0], op.result, exporter.names[op.result]
    name = exporter.names[row]
    following = list(_following(op))
    if not _squeezed(exporter, proto, op, following):
        wrong = _wrong(exporter, proto, op)
        if wrong is not None and result.is_used:
            name = _passed(exporter, proto, op, name, wrong)
        elif wrong is not None:
            value = _next_read(op, following)
            exporter.names[value] = _passed(exporter, proto, op, exporter.names[value], wrong)
    if any(user.definition is RETURN for user in result.users):
        exporter.emit(proto, "Identity", [name], [wanted], wanted)
    else:
        exporter.names[result] = name
    exporter.sizes.add_elements(exporter.names[result], op.attrs["names"])  # pyright: ignore[reportArgumentType] - they are extents


def ends_in_check(region: Region) -> bool:
    """True where nothing but the end of a region follows a check in it."""
    for op in reversed(region):
        if op.definition not in (CONST, DIMS, RETURN):
            return op.definition is EXTENTS
    return False


def _passed(exporter: Exporter, proto: GraphProto, op: Op, name: str, wrong: str) -> str:
    """The name of the same value, which a run has only where `wrong` is 0: it is all there is."""
    writer = SizeWriter(exporter, proto, op)
    return writer.node("Gather", writer.node("Unsqueeze", name, writer.constant(0)), wrong)


def _following(op: Op) -> Iterator[Op]:
    """The operations after `op` in its region."""
    assert op.region is not None
    found = False
    for other in op.region:
        if found:
            yield other
        found = found or other is op


def _next_read(op: Op, following: list[Op]) -> Value:
    """The first value that is read after a check."""
    for reader in following:
        is_alive = not reader.results or any(result.is_used for result in reader.results)
        if reader.definition not in (CONST, DIMS) and reader.operands and is_alive:
            return reader.operands[0]
    raise LeptonBug("nothing follows a check", op.location)


def squeezes(op: Op) -> bool:
    """True for a check that needs no number: it squeezes what has the extent."""
    return op.definition is EXTENTS and _squeezable(op, list(_following(op))) is not None


def _squeezable(op: Op, following: list[Op]) -> tuple[Value, int] | None:
    """A tensor that is read after a check, and the axis that it says is of extent 1."""
    content, names = op.operands[0].content, op.result.content
    if content is None or names is None or names.size != 1 or names[0] != 1 or op.result.is_used:
        return None
    return _tensor_of_extent(op, content.reshape(-1)[0], following)


def _squeezed(exporter: Exporter, proto: GraphProto, op: Op, following: list[Op]) -> bool:
    """Check that an extent is 1 by squeezing it, where it is read next; False where it is not."""
    found = _squeezable(op, following)
    if found is None:
        return False
    value, axis = found
    writer = SizeWriter(exporter, proto, op)
    axes = writer.constant(axis)
    name = writer.node("Squeeze", exporter.names[value], axes)
    later = set(following)
    if not all(user in later and _ignores_shape(user) for user in value.users):
        name = writer.node("Unsqueeze", name, axes)
    exporter.names[value] = name
    return True


def _tensor_of_extent(op: Op, extent: Dim, following: list[Op]) -> tuple[Value, int] | None:
    """The first tensor that is read from here on and has the extent, and the axis of it."""
    if not isinstance(extent, Expr):
        return None
    for reader in following:
        for value in reader.operands:
            owner = value.owner if value.producer is None else value.producer.region
            known = value.producer is None or value.producer not in following
            if (
                reader.definition is not RETURN
                and owner is op.region
                and known
                and extent in value.type.shape
            ):
                return value, value.type.shape.index(extent)
    return None


def _ignores_shape(op: Op) -> bool:
    """True for an operation that gives the same if an extent of 1 of its operand is left out."""
    content = op.operands[1].content if op.name == "reshape" else None
    return content is not None and 0 not in content.reshape(-1)


def _wrong(exporter: Exporter, proto: GraphProto, op: Op) -> str | None:
    """The name of an i64 scalar that is 0 where the check holds and 1 where not."""
    row, names = op.operands[0], op.attrs["names"]
    assert isinstance(names, tuple)
    writer, source = SizeWriter(exporter, proto, op), exporter.names[row]
    if row.type.dtype.value != "i64":
        source = writer.node("Cast", source, to=TensorProto.INT64)
    fresh = [place for place, name in enumerate(names) if _is_new(exporter, name)]
    fixed = [place for place in range(len(names)) if place not in fresh]
    parts: list[str] = []
    if fresh:
        some = _some(writer, source, fresh, len(names))
        parts.append(writer.node("Less", some, writer.constant(0)))
    if fixed:
        some = _some(writer, source, fixed, len(names))
        wanted = writer.row([names[place] for place in fixed])  # pyright: ignore[reportArgumentType] - they are extents
        parts.append(writer.node("Not", writer.node("Equal", some, wanted)))
    if not parts:
        return None
    truth = parts[0] if len(parts) == 1 else writer.node("Concat", *parts, axis=0)
    number = writer.node("Cast", truth, to=TensorProto.INT64)
    return writer.node("ReduceMax", number, keepdims=0)


def _is_new(exporter: Exporter, name: object) -> bool:
    """True for a symbol that stands for nothing before the check binds it."""
    return bool(FRESH.fullmatch(str(name))) and name not in exporter.sizes.places


def _some(writer: SizeWriter, source: str, places: list[int], count: int) -> str:
    if len(places) == count:
        return source
    return writer.node("Gather", source, writer.constant(*places))
