"""The last rewrites before code generation: products get weights packed for this CPU's kernels."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from leptonc.backends.cpu.decision import UNDECIDED, Decisions
from leptonc.backends.cpu.fourier_tables import tabulate
from leptonc.backends.cpu.packed import Chooser, Packing
from leptonc.backends.cpu.prepare_convolutions import conv
from leptonc.backends.cpu.prepare_integers import integer_conv, integer_linear
from leptonc.backends.cpu.prepare_layers import linear, linear_bytes, recurrent
from leptonc.backends.cpu.target import CpuTarget
from leptonc.backends.tvm.source import kernel_source
from leptonc.ir.blob import Blob
from leptonc.ir.build import Builder
from leptonc.ir.graph import Graph, Op, Region, Value
from leptonc.ir.types import TensorType

Made = dict[tuple[Value, TensorType, str, str], Value]


def prepare(
    graph: Graph, cpu: CpuTarget, decisions: Decisions | None = None
) -> list[tuple[str, Op]]:
    """Replace products with constant weights by packed forms. Data is packed when it is read.

    Where `decisions` has the workload of a product, it goes before the formulas. With decisions,
    even if there are none, each packed product's workload and kernel are told.
    """
    made: Made = {}
    kernels: list[tuple[str, Op]] = []
    products = list(products_of(graph))
    workloads = [_workload(op, holder, decisions) for op, holder in products]
    for (op, holder), workload in zip(products, workloads, strict=True):
        blobs = constants_of(op, holder)
        decision = (decisions or {}).get(workload, UNDECIDED)
        packing = PACKINGS[op.name](op, blobs, cpu, decision) if "w" in blobs else None
        if packing is not None:
            kernels.append((workload, _replace(op, holder, packing, made)))
    tabulate(graph)
    inner = [region for op in graph.walk() for region in op.regions]
    for region in (*reversed(inner), graph):
        _erase_unread_constants(region)
    return kernels if decisions is not None else []


def _workload(op: Op, holder: Op | None, decisions: Decisions | None) -> str:
    """The kernel's name before anything is decided of it; not made where nobody asks."""
    return "" if decisions is None else kernel_source(holder or op).name


def _erase_unread_constants(region: Region) -> None:
    for op in reversed(region):
        if op.name == "const" and not op.result.is_used:
            region.erase(op)


def products_of(graph: Graph) -> Iterator[tuple[Op, Op | None]]:
    """Each operation that may be packed, with the group that holds it."""
    for op in graph.walk():
        if op.name in PACKINGS:
            holder = op.region.parent if op.region is not None else None
            yield op, holder if holder is not None and holder.name == "group" else None


def _outer(value: Value, holder: Op | None) -> Value:
    """What a group's input stands for outside of the group."""
    if holder is not None and value.owner is holder.regions[0]:
        return holder.operands[holder.regions[0].inputs.index(value)]
    return value


def constants_of(op: Op, holder: Op | None) -> dict[str, Blob]:
    """The constants among the operands of an operation, by the operands' names."""
    found: dict[str, Blob] = {}
    for name, value in zip(op.operand_names, op.operands, strict=True):
        blob = _outer(value, holder).blob
        if blob is not None:
            found[name] = blob
    return found


def _replace(op: Op, holder: Op | None, packing: Packing, made: Made) -> Op:
    """Put the packed operation in place of `op`, its constants beside the original ones.

    The operation or group that is a kernel then.
    """
    operands, how = list(op.operands), _order(op, packing)
    for slot, name in enumerate(op.operand_names):
        if name not in packing.blobs:
            continue
        outer, blob = _outer(op.operands[slot], holder), packing.blobs[name]
        key = (outer, blob.type, name, how)
        if key not in made:
            made[key] = _constant_beside(outer, holder, blob)
        operands[slot] = _as_input(holder, op.operands[slot], made[key]) if holder else made[key]
    names = [*op.operand_names]
    for name in sorted(packing.blobs.keys() - set(names)):
        names.append(name)
        operands.append(_more(op, holder, (name, how, packing.blobs[name]), made))
    region = op.region
    assert region is not None
    build = Builder(region, before=op, location=op.location)
    types = [value.type for value in op.results]
    new = build.op(packing.row, operands, packing.attrs, names=names, result_types=types)
    for old, result in zip(op.results, new.results, strict=True):
        result.name = old.name
        old.replace_uses_with(result)
    region.erase(op)
    return holder or new


def _order(op: Op, packing: Packing) -> str:
    """What the order of packed data depends on beside its type: two orders are packed twice."""
    return f"{sorted(op.attrs.items())} {packing.row} {sorted(packing.attrs.items())}"


def _more(op: Op, holder: Op | None, constant: tuple[str, str, Blob], made: Made) -> Value:
    """A constant that the original operation does not have, beside its weight."""
    name, how, blob = constant
    weight = _outer(op.operands[op.operand_names.index("w")], holder)
    key = (weight, blob.type, name, how)
    if key not in made:
        made[key] = _constant_beside(weight, holder, blob)
    return _new_input(holder, made[key]) if holder else made[key]


def _constant_beside(value: Value, holder: Op | None, blob: Blob) -> Value:
    """A constant where that of `value` stands, or before the group that has it inside."""
    producer = value.producer
    assert producer is not None
    inside = holder is not None and producer.region is holder.regions[0]
    anchor = holder if holder is not None and inside else producer
    region = anchor.region
    assert region is not None
    build = Builder(region, before=anchor, location=producer.location)
    constant = build.const(blob)
    constant.name = value.name
    return constant


def _as_input(holder: Op, inner: Value, outer: Value) -> Value:
    """The group's input for `outer`, in the slot of `inner` if only the packed one reads that."""
    region = holder.regions[0]
    if len(inner.uses) == 1 and inner in region.inputs:
        holder.set_operand(region.inputs.index(inner), outer)
        inner.type = outer.type
        return inner
    return _new_input(holder, outer)


def _new_input(holder: Op, outer: Value) -> Value:
    value = holder.regions[0].add_input(Value(outer.type))
    holder.set_operands([*holder.operands, outer])
    return value


PACKINGS: Mapping[str, Chooser] = {
    "linear": linear, "linear_bytes": linear_bytes, "integer_linear": integer_linear,
    "conv_blocked": conv, "integer_conv_blocked": integer_conv,
    "lstm": recurrent, "gru": recurrent, "rnn": recurrent,
}  # fmt: skip
"""The operations that take packed weights, and how."""
