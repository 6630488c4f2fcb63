"""Rows with regions: a choice, and two loops."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from leptonc.ir.blob import Array
from leptonc.ir.diagnostics import LeptonError
from leptonc.ir.dims import Dim, symbols
from leptonc.ir.graph import Region, Value
from leptonc.ir.table import Attr, Evaluation, Inference, define
from leptonc.ir.types import DType, TensorType

FRESH = re.compile(r"u\d+_")
"""Symbols that were made for extents only run time can tell."""


class _Unknown:
    """Gives each extent that only run time can tell an index of its own."""

    def __init__(self, call: Inference) -> None:
        self.call, self.count = call, 0

    def extent(self) -> Dim:
        self.count += 1
        return self.call.unknown(self.count - 1)

    def joined(self, *types: TensorType) -> TensorType:
        """The type of a value that is now one of `types` and now another."""
        first = types[0]
        shape = tuple(
            dims[0] if all(dim == dims[0] for dim in dims) else self.extent()
            for dims in zip(*(type.shape for type in types), strict=True)
        )
        return first.with_shape(*shape)


def _check_same_kind(what: str, first: TensorType, second: TensorType, where: str) -> None:
    if first.dtype is not second.dtype or first.rank != second.rank:
        raise LeptonError(
            f"{what} is {first} {where} {second}",
            notes=["element type and number of dimensions must be the same"],
            code="E103",
        )


def _condition(call: Inference, value: Value) -> None:
    if value.type.dtype is not DType.BOOL or any(dim != 1 for dim in value.type.shape):
        raise LeptonError(
            f"the condition of {call.definition.name} is {value.type}, should be one bool",
            code="E102",
        )


def _if_infer(call: Inference) -> Sequence[TensorType]:
    _condition(call, call[0])
    taken, other = (region.outputs for region in call.regions)
    if len(taken) != len(other):
        raise LeptonError(
            f"the branches of if give {len(taken)} and {len(other)} values", code="E104"
        )
    unknown = _Unknown(call)
    types: list[TensorType] = []
    for index, (a, b) in enumerate(zip(taken, other, strict=True)):
        where = "from one branch and from the other"
        _check_same_kind(f"result {index} of if", a.type, b.type, where)
        types.append(unknown.joined(a.type, b.type))
    return types


def _if_evaluate(call: Evaluation) -> list[Array]:
    region = call.regions[0 if bool(call[0].reshape(-1)[0]) else 1]
    return call.run_region(region, [])


IF = define(
    "if(cond)",
    "What the first region gives back where the condition holds, else what the second does.",
    infer=_if_infer,
    evaluate=_if_evaluate,
    onnx="If",
)


def _carried(
    unknown: _Unknown, starts: Sequence[Value], takes: Sequence[Value], gives: Sequence[Value]
) -> list[TensorType]:
    """The types of carried values once a loop ends, each checked at start and end of a turn."""
    types: list[TensorType] = []
    for index, start in enumerate(starts):
        taken, given = takes[index].type, gives[index].type
        what = f"carried value {index} of {unknown.call.definition.name}"
        _check_same_kind(what, start.type, taken, "at the start and inside the region")
        _check_same_kind(what, taken, given, "at the start of a turn and at its end")
        types.append(unknown.joined(start.type, taken, given))
    return types


def _counts(call: Inference, region: Region, inputs: int, outputs: int) -> None:
    if len(region.inputs) != inputs or len(region.outputs) < outputs:
        raise LeptonError(
            f"the region of {call.definition.name} takes {len(region.inputs)} values and gives "
            f"{len(region.outputs)}, should take {inputs} and give at least {outputs}",
            code="E104",
        )


def _loop_infer(call: Inference) -> Sequence[TensorType]:
    (region,) = call.regions
    starts = call.all("carried")
    _counts(call, region, 2 + len(starts), 1 + len(starts))
    for name in ("max_trip", "cond"):
        value = call.get(name)
        if value is not None and any(dim != 1 for dim in value.type.shape):
            raise LeptonError(f"{name} of loop is {value.type}, should be one element", code="E103")
    _condition(call, region.outputs[0])
    unknown = _Unknown(call)
    types = _carried(unknown, starts, region.inputs[2:], region.outputs[1:])
    turns = _turns(call, region)
    if turns is None:
        turns = unknown.extent()
    for value in region.outputs[1 + len(starts) :]:
        element = value.type
        shape = [dim if _steady(call, dim) else unknown.extent() for dim in element.shape]
        types.append(element.with_shape(turns, *shape))
    return types


def _turns(call: Inference, region: Region) -> Dim | None:
    """How often a loop turns, where nothing but its limit ends it."""
    limit = call.content("max_trip")
    start, again = call.get("cond"), _origin(region.outputs[0])
    endless = (start is None or _is_true(start)) and (again is region.inputs[1] or _is_true(again))
    if limit is None or not endless:
        return None
    count = limit.reshape(-1)[0]
    return max(count, 0) if isinstance(count, int) else count


def _origin(value: Value) -> Value:
    """The value that `value` is a mere copy of."""
    while value.producer is not None and value.producer.name == "identity":
        value = value.producer.operands[0]
    return value


def _is_true(value: Value) -> bool:
    return value.blob is not None and bool(value.blob.array.all())


def _steady(call: Inference, dim: Dim) -> bool:
    """True for an extent that no turn can change: those of the operands, and what is known."""
    outside = {name for type in call.types for extent in type.shape for name in symbols(extent)}
    changing = {str(name) for name in call.attrs.get("turn") or ()}  # pyright: ignore
    return all(
        name in outside or not (name in changing or FRESH.fullmatch(name)) for name in symbols(dim)
    )


def _loop_evaluate(call: Evaluation) -> list[Array]:
    (region,) = call.regions
    limit, condition = call.get("max_trip"), call.get("cond")
    most = None if limit is None else int(limit.reshape(-1)[0])
    go = condition is None or bool(condition.reshape(-1)[0])
    carried = call.all("carried")
    scanned: list[list[Array]] = [[] for _ in region.outputs[1 + len(carried) :]]
    turn = 0
    while go and (most is None or turn < most):
        inputs = [np.array(turn, np.int64), np.array(True), *carried]
        again, *given = call.run_region(region, inputs)
        go, carried = bool(again.reshape(-1)[0]), given[: len(carried)]
        for items, item in zip(scanned, given[len(carried) :], strict=True):
            items.append(item)
        turn += 1
    pairs = zip(scanned, call.result_types[len(carried) :], strict=True)
    return [*carried, *(_stacked(items, type, 0) for items, type in pairs)]


def _stacked(items: Sequence[Array], type: TensorType, axis: int) -> Array:
    """What a loop collected to a result of `type`; extents that no turn tells are 0."""
    if items:
        return np.stack(items, axis=axis)
    shape = [dim if isinstance(dim, int) else 0 for dim in type.shape]
    shape[axis] = 0
    return np.zeros(shape, type.dtype.numpy)


LOOP = define(
    "loop(max_trip?, cond?, carried*)",
    "Turns a region until its condition fails or its limit is reached; carries values from turn to "
    "turn and stacks the others it gives back. The symbol `turn`, if any, is the number of the "
    "turn inside the region.",
    infer=_loop_infer,
    evaluate=_loop_evaluate,
    attrs={"turn": Attr("dims")},
    onnx="Loop",
)


def _axes(call: Inference | Evaluation, name: str, count: int) -> tuple[int, ...]:
    axes = call.ints(name)
    if axes is None:
        return (0,) * count
    if len(axes) != count:
        raise LeptonError(
            f"{name} of scan has {len(axes)} entries, should have {count}", code="E104"
        )
    return axes


def _scan_infer(call: Inference) -> Sequence[TensorType]:
    (region,) = call.regions
    count = call.int("num_scan_inputs")
    states = len(call) - count
    if count < 1 or states < 0:
        raise LeptonError(
            f"num_scan_inputs of scan is {count}, with {len(call)} inputs", code="E108"
        )
    _counts(call, region, len(call), states)
    unknown = _Unknown(call)
    types = _carried(unknown, call.items[:states], region.inputs, region.outputs)
    length = _scan_length(call.items[states:], _axes(call, "scan_input_axes", count))
    rest = region.outputs[states:]
    for value, axis in zip(rest, _axes(call, "scan_output_axes", len(rest)), strict=True):
        rank = value.type.rank + 1
        if not -rank <= axis < rank:
            raise LeptonError(
                f"scan: output axis {axis} does not exist in {rank} dimensions", code="E107"
            )
        shape = [dim if _steady(call, dim) else unknown.extent() for dim in value.type.shape]
        shape.insert(axis % rank, length)
        types.append(value.type.with_shape(*shape))
    return types


def _scan_length(sequences: Sequence[Value], axes: Sequence[int]) -> Dim:
    """How many slices the scanned operands have, a known number where one of them says it."""
    lengths: list[Dim] = []
    for value, axis in zip(sequences, axes, strict=True):
        if not -value.type.rank <= axis < value.type.rank:
            raise LeptonError(f"scan: axis {axis} does not exist in {value.type}", code="E107")
        lengths.append(value.type.shape[axis])
    known = [extent for extent in lengths if isinstance(extent, int)]
    if len(set(known)) > 1:
        raise LeptonError(
            f"scan takes sequences of {known[0]} and {known[1]} elements", code="E103"
        )
    return known[0] if known else lengths[0]


def _scan_evaluate(call: Evaluation) -> list[Array]:
    (region,) = call.regions
    count = call.int("num_scan_inputs")
    states, sequences = list(call.items[: len(call) - count]), call.items[len(call) - count :]
    outputs = region.outputs[len(states) :]
    axes = _axes(call, "scan_input_axes", count)
    back = _axes(call, "scan_input_directions", count)
    slices = [
        np.moveaxis(array, axis, 0)[:: -1 if reverse else 1]
        for array, axis, reverse in zip(sequences, axes, back, strict=True)
    ]
    scanned: list[list[Array]] = [[] for _ in outputs]
    for turn in zip(*slices, strict=True):
        given = call.run_region(region, [*states, *(np.asarray(item) for item in turn)])
        states = given[: len(states)]
        for items, item in zip(scanned, given[len(states) :], strict=True):
            items.append(item)
    out_axes = _axes(call, "scan_output_axes", len(outputs))
    out_back = _axes(call, "scan_output_directions", len(outputs))
    types = call.result_types[len(states) :]
    stacks = [
        _stacked(items[::-1] if reverse else items, type, axis)
        for items, type, axis, reverse in zip(scanned, types, out_axes, out_back, strict=True)
    ]
    return [*states, *stacks]


SCAN = define(
    "scan(inputs*)",
    "Turns a region once for each slice of the last `num_scan_inputs` operands, the others carried "
    "from turn to turn; stacks what else the region gives back.",
    infer=_scan_infer,
    evaluate=_scan_evaluate,
    attrs={
        "num_scan_inputs": Attr("int", required=True),
        "scan_input_axes": Attr("ints"),
        "scan_input_directions": Attr("ints"),
        "scan_output_axes": Attr("ints"),
        "scan_output_directions": Attr("ints"),
    },
    onnx="Scan",
)
