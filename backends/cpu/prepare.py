"""The last rewrites before code generation: products get weights packed for this CPU's kernels."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from leptonc.backends.cpu.packing import matmul_weight_shape, pack_matmul_weight
from leptonc.backends.cpu.target import CpuTarget
from leptonc.backends.cpu.tiles import matmul_panel
from leptonc.ir.blob import Blob
from leptonc.ir.build import Builder
from leptonc.ir.dims import product
from leptonc.ir.graph import Attribute, Graph, Op, Value
from leptonc.ir.types import DType, TensorType


@dataclass(frozen=True)
class Packing:
    """How one operation takes its weight: the row that replaces it, and the packed data."""

    row: str
    attrs: Mapping[str, Attribute]
    blob: Blob


Chooser = Callable[[Op, Blob, CpuTarget], "Packing | None"]


def prepare(graph: Graph, cpu: CpuTarget) -> None:
    """Replace every product with a constant weight by its packed form. Data is packed when it is read."""
    made: dict[tuple[Value, str, tuple[object, ...]], Value] = {}
    for op, holder in list(_products(graph)):
        blob = _weight_of(op, holder)
        packing = PACKINGS[op.name](op, blob, cpu) if blob is not None else None
        if packing is not None:
            _replace(graph, op, holder, packing, made)
    for op in reversed(graph):
        if op.name == "const" and not op.result.is_used:
            graph.erase(op)


def _products(graph: Graph) -> Iterator[tuple[Op, Op | None]]:
    """Each operation that may be packed, with the group that holds it."""
    for op in graph:
        if op.name in PACKINGS:
            yield op, None
        elif op.name == "group":
            yield from ((inner, op) for inner in op.regions[0] if inner.name in PACKINGS)


def _weight_of(op: Op, holder: Op | None) -> Blob | None:
    weight = op.operand("w")
    assert weight is not None
    if holder is not None and weight.owner is holder.regions[0]:
        weight = holder.operands[holder.regions[0].inputs.index(weight)]
    return weight.blob


def _replace(
    graph: Graph, op: Op, holder: Op | None, packing: Packing, made: dict[tuple[Value, str, tuple[object, ...]], Value]
) -> None:
    """Put the packed operation in place of `op`, its weight beside the original one."""
    outer = op.operands[1] if holder is None else holder.operands[holder.regions[0].inputs.index(op.operands[1])]
    key = (outer, packing.row, (packing.blob.type, op.attrs.get("transposed")))
    if key not in made:
        anchor = holder if holder is not None else op
        build = Builder(graph, before=_first_reader(outer, anchor), location=op.location)
        made[key] = build.const(packing.blob)
        made[key].name = outer.name
    weight = made[key]
    if holder is not None:
        weight = _as_input(holder, op.operands[1], weight)
    region = op.region
    assert region is not None
    build = Builder(region, before=op, location=op.location)
    operands = [op.operands[0], weight, *op.operands[2:]]
    new = build.op(
        packing.row, operands, packing.attrs, names=op.operand_names, result_types=[op.result.type]
    ).result
    new.name = op.result.name
    op.result.replace_uses_with(new)
    region.erase(op)


def _first_reader(value: Value, default: Op) -> Op:
    """Where a constant that replaces `value` can stand so that every reader comes after it."""
    return value.producer if value.producer is not None else default


def _as_input(holder: Op, inner: Value, outer: Value) -> Value:
    """The group's input for `outer`, in the slot of `inner` where only the packed operation reads that."""
    region = holder.regions[0]
    slot = region.inputs.index(inner)
    if len(inner.uses) == 1:
        holder.set_operand(slot, outer)
        inner.type = outer.type
        return inner
    value = region.add_input(Value(outer.type))
    holder.set_operands([*holder.operands, outer])
    return value


def _linear(op: Op, blob: Blob, cpu: CpuTarget) -> Packing | None:
    x = op.operands[0].type
    if x.dtype is not DType.F32 or x.rank < 1:
        return None
    transposed = bool(op.attrs["transposed"])
    depth, columns = blob.type.extents[::-1] if transposed else blob.type.extents
    if depth == 0 or columns == 0:
        return None
    rows = product(x.shape[:-1])
    panel = matmul_panel(rows if isinstance(rows, int) else None, columns, depth, cpu)
    shape = matmul_weight_shape(depth, columns, panel)
    packed = Blob(
        TensorType(DType.F32, shape), lambda: pack_matmul_weight(blob.array, panel, transposed=transposed)
    )
    return Packing("packed_linear", {"columns": columns}, packed)


PACKINGS: Mapping[str, Chooser] = {"linear": _linear}
"""The operations that take packed weights, and how."""
