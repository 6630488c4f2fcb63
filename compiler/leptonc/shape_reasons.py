"""Why an extent is known at run time only, and which fact would settle it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from leptonc.ir.diagnostics import shown
from leptonc.ir.graph import Graph, Op, Value
from leptonc.ir.ops.contents import content_of


@dataclass(frozen=True)
class Reason:
    """What leaves an extent open."""

    operand: str
    because: str
    settle: str


SMALL = 64
"""Elements of an input that is a setting, rather than data."""

DATA_DEPENDENT: Mapping[str, str] = MappingProxyType({
    "non_zero": "x", "unique": "x", "compress": "condition", "non_max_suppression": "scores",
})  # fmt: skip
"""Operations whose results are as large as the data of this operand says."""


def operator_name(op: Op) -> str:
    """The ONNX operator an operation is, else its own name."""
    form = op.definition.onnx
    return op.name if form is None else f"{form.domain}.{form.name}".lstrip(".")


def place_name(op: Op) -> str:
    """The nodes an operation stands for."""
    return ", ".join(op.location.nodes)


def reason_of(value: Value, op: Op) -> Reason:
    """Why the operation that makes `value`, or whose body takes it, leaves an extent open."""
    where = f"{operator_name(op)} {shown(place_name(op))}"
    if value.producer is not op:
        return _body_input(value, op, where)
    match op.name:
        case "if":
            return _choice(value, op, where)
        case "loop" | "scan":
            return _loop_result(value, op, where)
        case _:
            pass
    if op.name in DATA_DEPENDENT:
        operand = DATA_DEPENDENT[op.name]
        return Reason(
            operand, f"data-dependent: the data of {operand} decides it", _data(op, operand)
        )
    for name, operand in zip(op.operand_names, op.operands, strict=True):
        shape_like = any(item.shape_like and item.name == name for item in op.definition.operands)
        if shape_like and not _is_known(operand):
            because, settle = origin(operand)
            return Reason(name, f"{name} is not known at compile time: {because}", settle)
    return Reason("", f"{where} computes it from data", "export the model with a fixed size there")


def _data(op: Op, name: str) -> str:
    """What would settle an extent that the data of an operand decides."""
    operand = op.operand(name)
    if operand is not None and operand.blob is not None:
        return "constant folding tells it"
    return f"data-dependent: {operator_name(op)}; nothing but the data itself"


def _is_known(value: Value) -> bool:
    return content_of(value) is not None or value.blob is not None


def origin(value: Value) -> tuple[str, str]:
    """Where the elements of a value stop being known, and which fact would make them known."""
    name = shown(value.name or "a value")
    seen: set[Value] = set()
    while value not in seen:
        seen.add(value)
        producer = value.producer
        if producer is None:
            return _of_input(value)
        where = f"{operator_name(producer)} {shown(place_name(producer))}"
        if producer.name in DATA_DEPENDENT:
            fact = f"data-dependent: {operator_name(producer)}; nothing but the data itself"
            return f"{name} comes from the data-dependent {where}", fact
        if producer.regions:
            return f"{name} comes out of {where}", _of_control(producer)
        unknown = [operand for operand in producer.operands if not _is_known(operand)]
        if not unknown:
            return (
                f"{name} comes from {where}, which is not followed at compile time",
                f"replace {where} by a constant",
            )
        value = unknown[0]
    return f"{name} is computed from itself", ""


def _of_input(value: Value) -> tuple[str, str]:
    if isinstance(value.owner, Graph):
        what = shown(value.name)
        if _is_small(value):
            return (
                f"it is computed from the input {what}",
                f"make the input {what} a constant initializer",
            )
        return f"it is computed from the data of the input {what}", "data-dependent: " + what
    parent = value.owner.parent if value.owner is not None else None
    where = "a loop" if parent is None else f"{operator_name(parent)} {shown(place_name(parent))}"
    return f"it changes from turn to turn of {where}", f"unroll {where} before export"


def _is_small(value: Value) -> bool:
    """True for a number or a few, which a model may as well fix."""
    type = value.type
    return type.rank <= 1 and type.is_static and math.prod(type.extents) <= SMALL


def _of_control(op: Op) -> str:
    return _trip_fact(op) if op.name in ("loop", "scan") else _condition_fact(op)


def _choice(value: Value, op: Op, where: str) -> Reason:
    index = op.results.index(value)
    first, second = (region.outputs[index].type for region in op.regions)
    because = f"the branches of {where} give {first} and {second}"
    return Reason("cond", because, _condition_fact(op))


def _condition_fact(op: Op) -> str:
    because, settle = origin(op.operands[0])
    return f"the condition of {operator_name(op)} {shown(place_name(op))}: {settle or because}"


def _loop_result(value: Value, op: Op, where: str) -> Reason:
    index = op.results.index(value)
    carried = len(op.operands_called("carried")) if op.name == "loop" else _states(op)
    if index < carried:
        return _growing(index, where)
    limit = op.operand("max_trip")
    operand = "max_trip" if limit is not None and not _is_known(limit) else "cond"
    return Reason(operand, f"the trip count of {where} is not known", _trip_fact(op))


def _trip_fact(op: Op) -> str:
    where = f"{operator_name(op)} {shown(place_name(op))}"
    limit = op.operand("max_trip")
    if op.name == "scan" or (limit is not None and _is_known(limit)):
        return f"the trip count of {where}: a condition that is always true"
    if limit is None:
        return f"the trip count of {where}: a constant limit, and a condition that is always true"
    _, settle = origin(limit)
    return f"the trip count of {where}: {settle}"


def _states(op: Op) -> int:
    count = op.attrs.get("num_scan_inputs")
    return len(op.operands) - (count if isinstance(count, int) else 0)


def _body_input(value: Value, op: Op, where: str) -> Reason:
    region = value.owner
    at = region.inputs.index(value) if region is not None else 0
    index = at - 2 if op.name == "loop" else at
    return _growing(index, where)


def _growing(index: int, where: str) -> Reason:
    because = f"carried value {index} of {where} changes its size from turn to turn"
    return Reason("carried", because, f"carry it at one size, or unroll {where} before export")
