"""Sequences and optionals, taken apart while a model is imported.

The IR has tensors only. A sequence whose length is known at compile time is a tuple of them, an
empty optional is nothing; operators on them move tensors about and leave no operation behind.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import TypeAlias

import numpy as np

from leptonc.ir.diagnostics import LeptonError
from leptonc.ir.dims import Dim
from leptonc.ir.graph import Attribute, Value
from leptonc.ir.types import DType
from leptonc.onnx_scope import Call, Meaning

LONGEST_SEQUENCE = 10_000
"""Tensors that a sequence may be cut into."""

Rule: TypeAlias = "Callable[[Call, Sequence[Meaning]], Sequence[Meaning]]"


def _sequence(operands: Sequence[Meaning], index: int = 0) -> tuple[Value, ...]:
    value = operands[index] if index < len(operands) else None
    if not isinstance(value, tuple):
        raise LeptonError(f"input {index} should be a sequence", code="E014")
    return value


def _tensor(operands: Sequence[Meaning], index: int) -> Value | None:
    value = operands[index] if index < len(operands) else None
    if isinstance(value, tuple):
        raise LeptonError(f"input {index} is a sequence, should be a tensor", code="E014")
    return value if isinstance(value, Value) else None


def known_number(value: Meaning) -> int | None:
    """The only element of a tensor, where it is known to be a certain integer or truth."""
    if not isinstance(value, Value):
        return None
    known = value.content if value.blob is None else value.blob.array.astype(object)
    number = None if known is None or known.size != 1 else known.reshape(-1)[0]
    return int(number) if isinstance(number, int | bool) else None


def _place(call: Call, value: Value | None, length: int, default: int, last: int) -> int | Value:
    """A place in a sequence, counted from its start, or the tensor that holds it."""
    if value is None:
        return default
    index = known_number(value)
    if index is None:
        return value
    if not -length <= index <= last:
        raise LeptonError(
            f"{call.op_type}: position {index} is not in a sequence of {length}", code="E110"
        )
    return index + length if index < 0 else index


def _stack(call: Call, items: Sequence[Value]) -> Value:
    """All tensors in one, from which run time chooses; they have to be alike."""
    if not items:
        raise LeptonError(f"{call.op_type}: the sequence has no tensors", code="E110")
    different = next((item for item in items if item.type != items[0].type), None)
    if different is not None:
        raise LeptonError(
            f"{call.op_type} gets its position at run time, and the tensors are {items[0].type} "
            f"and {different.type}",
            notes=["with a position that is known at compile time they may differ"],
            code="E109",
        )
    axis = call.build.const(np.array([0], np.int64))
    return call.build.op(
        "concat", [call.build.unsqueeze(item, axis) for item in items], {"axis": 0}
    ).result


def _from_start(call: Call, place: Value, length: int, last: int) -> Value:
    """A position of run time counted from the start, as a scalar; checked to be one."""
    build = call.build
    number = build.cast(place, to=DType.I64) if place.type.dtype is not DType.I64 else place
    row = build.reshape(number, build.const(np.array([1], np.int64)))
    behind = build.add(row, build.const(np.array([length], np.int64)))
    row = build.where(build.less(row, build.const(np.array([0], np.int64))), behind, row)
    least = build.greater_or_equal(row, build.const(np.array([0], np.int64)))
    good = build.and_(least, build.less_or_equal(row, build.const(np.array([last], np.int64))))
    fault = f"{call.op_type} is given a position outside a sequence of {length}"
    build.op("extents", [build.cast(good, to=DType.I64)], {"names": (1,), "fault": fault})
    return build.reshape(row, build.const(np.zeros(0, np.int64)))


def _chosen(call: Call, stack: Value, index: Value) -> Value:
    return call.build.gather(stack, index, axis=0)


def _construct(call: Call, operands: Sequence[Meaning]) -> Sequence[Meaning]:
    return [tuple(value for value in operands if isinstance(value, Value))]


def _empty(call: Call, operands: Sequence[Meaning]) -> Sequence[Meaning]:
    return [()]


def _at(call: Call, operands: Sequence[Meaning]) -> Sequence[Meaning]:
    items = _sequence(operands)
    place = _place(call, _tensor(operands, 1), len(items), 0, len(items) - 1)
    if isinstance(place, int):
        return [items[place]]
    stack = _stack(call, items)
    return [_chosen(call, stack, _from_start(call, place, len(items), len(items) - 1))]


def _insert(call: Call, operands: Sequence[Meaning]) -> Sequence[Meaning]:
    items, item = _sequence(operands), _tensor(operands, 1)
    if item is None:
        raise LeptonError("SequenceInsert lacks its tensor", code="E014")
    count = len(items)
    place = _place(call, _tensor(operands, 2), count, count, count)
    if isinstance(place, int):
        return [(*items[:place], item, *items[place:])]
    stack, start = _stack(call, [*items, item]), _from_start(call, place, count, count)
    kept: list[Value] = []
    for at in range(count + 1):
        before = _scalar(call, at), _scalar(call, max(at - 1, 0))
        here = call.build.where(call.build.equal(start, before[0]), _scalar(call, count), before[1])
        index = call.build.where(call.build.less(before[0], start), before[0], here)
        kept.append(_chosen(call, stack, index))
    return [tuple(kept)]


def _erase(call: Call, operands: Sequence[Meaning]) -> Sequence[Meaning]:
    items = _sequence(operands)
    count = len(items)
    place = _place(call, _tensor(operands, 1), count, count - 1, count - 1)
    if isinstance(place, int):
        return [(*items[:place], *items[place + 1 :])]
    stack, start = _stack(call, items), _from_start(call, place, count, count - 1)
    kept: list[Value] = []
    for at in range(count - 1):
        here, behind = _scalar(call, at), _scalar(call, at + 1)
        kept.append(
            _chosen(call, stack, call.build.where(call.build.less(here, start), here, behind))
        )
    return [tuple(kept)]


def _scalar(call: Call, number: int) -> Value:
    return call.build.const(np.array(number, np.int64))


def _length(call: Call, operands: Sequence[Meaning]) -> Sequence[Meaning]:
    return [call.build.const(np.array(len(_sequence(operands)), np.int64))]


def _split(call: Call, operands: Sequence[Meaning]) -> Sequence[Meaning]:
    x, split = _tensor(operands, 0), _tensor(operands, 1)
    assert x is not None
    axis: int = call.take("axis", "int", 0)
    if not -x.type.rank <= axis < x.type.rank:
        raise LeptonError(f"axis {axis} does not exist in {x.type}", code="E107")
    if split is not None and split.type.rank == 1 and split.blob is None:
        return [_parts_of_run_time(call, x, split, axis)]
    extent: Dim = x.type.shape[axis]
    known = None if split is None else split.content
    if split is not None and split.blob is not None:
        known = split.blob.array.astype(object)
    if not isinstance(extent, int) or (split is not None and known is None):
        raise LeptonError("SplitToSequence needs to know its parts at compile time", code="E109")
    if known is None or known.ndim == 0:
        size = 1 if known is None else int(known.reshape(-1)[0])
        if size < 1:
            raise LeptonError(f"SplitToSequence cannot make parts of {size}", code="E108")
        if extent // size > LONGEST_SEQUENCE:
            raise LeptonError(
                f"SplitToSequence makes {-(-extent // size)} parts, more than {LONGEST_SEQUENCE}",
                code="E018",
            )
        sizes = [min(size, extent - start) for start in range(0, extent, size)]
    else:
        sizes = [int(part) for part in known]
    if not sizes:
        return [()]
    parts = call.build.const(np.array(sizes, np.int64))
    pieces = call.build.op("split", [x, parts], {"axis": axis}).results
    if split is None and not call.take("keepdims", "int", 1):
        axes = call.build.const(np.array([axis], np.int64))
        return [tuple(call.build.squeeze(piece, axes=axes) for piece in pieces)]
    return [tuple(pieces)]


def _parts_of_run_time(call: Call, x: Value, split: Value, axis: int) -> tuple[Value, ...]:
    """As many parts as `split` has elements; how large they are is told by a run."""
    (count,) = split.type.shape
    if not isinstance(count, int):
        raise LeptonError("SplitToSequence needs to know how many parts it makes", code="E109")
    if split.type.dtype is not DType.I64:
        split = call.build.cast(split, to=DType.I64)
    attrs: dict[str, Attribute] = {"axis": axis, "num_outputs": count}
    return tuple(call.build.op("split", [x, split], attrs).results)


def _concat(call: Call, operands: Sequence[Meaning]) -> Sequence[Meaning]:
    items, axis = _sequence(operands), call.take("axis", "int", 0)
    if call.take("new_axis", "int", 0):
        at = call.build.const(np.array([axis], np.int64))
        items = tuple(call.build.unsqueeze(item, at) for item in items)
    if not items:
        raise LeptonError("ConcatFromSequence has nothing to join", code="E104")
    return [call.build.op("concat", items, {"axis": axis}).result]


def _optional(call: Call, operands: Sequence[Meaning]) -> Sequence[Meaning]:
    return [operands[0] if operands else None]


def _has_element(call: Call, operands: Sequence[Meaning]) -> Sequence[Meaning]:
    present = bool(operands) and operands[0] is not None
    return [call.build.const(np.array(present))]


def _get_element(call: Call, operands: Sequence[Meaning]) -> Sequence[Meaning]:
    if not operands or operands[0] is None:
        raise LeptonError("OptionalGetElement of an optional that is empty", code="E014")
    return [operands[0]]


SEQUENCE: Mapping[tuple[str, str], Rule] = MappingProxyType({
    ("", "SequenceConstruct"): _construct,
    ("", "SequenceEmpty"): _empty,
    ("", "SequenceAt"): _at,
    ("", "SequenceInsert"): _insert,
    ("", "SequenceErase"): _erase,
    ("", "SequenceLength"): _length,
    ("", "SplitToSequence"): _split,
    ("", "ConcatFromSequence"): _concat,
    ("", "Optional"): _optional,
    ("", "OptionalHasElement"): _has_element,
    ("", "OptionalGetElement"): _get_element,
})  # fmt: skip
"""The operators on sequences and optionals."""
