# pyright: standard
"""Functions that loops call in each turn: counting, and collecting the elements of scan outputs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import tvm
from tvm.script.ir_builder import IRBuilder
from tvm.tirx.script import builder

from leptonc.backends.tvm.binding import Buffer, PrimExpr, PrimFunc, tirx
from leptonc.backends.tvm.lowering import TVM_DTYPE
from leptonc.ir.types import TensorType

T: Any = builder  # annotated with less than it takes

TURN = "leptonc_turn"
"""(turns so far, limit, whether to go on) -> turns with the one that begins, or 0 to stop."""
ROOM = "leptonc_room"
"""(elements, how many there is room for, how many at first) -> room to get, or 0."""

_ALIGNMENT = 1  # byte; elements are copied, not computed with


def append_name(type: TensorType) -> str:
    """The function (element, count, memory) that stores the element as the last of `count`."""
    return f"leptonc_append_{TVM_DTYPE[type.dtype]}_{type.rank}"


def carry_name(type: TensorType) -> str:
    """The function (old memory, count, new memory) that copies all elements but the last."""
    return f"leptonc_carry_{TVM_DTYPE[type.dtype]}_{type.rank}"


def turn_functions(scans: Iterable[TensorType]) -> dict[str, PrimFunc]:
    """The functions that loops with scan outputs of these elements call."""
    found = {TURN: _numbers(TURN, _turn), ROOM: _numbers(ROOM, _room)}
    for type in scans:
        found[append_name(type)] = _copies(append_name(type), type, _append)
        found[carry_name(type)] = _copies(carry_name(type), type, _carry)
    return found


def _number(value: int) -> PrimExpr:
    return tirx.const(value, "int64")


def _turn(done: PrimExpr, limit: PrimExpr, go: PrimExpr) -> PrimExpr:
    again = tirx.And(done < limit, go != _number(0))
    return tirx.Select(again, done + _number(1), _number(0))


def _room(count: PrimExpr, capacity: PrimExpr, first: PrimExpr) -> PrimExpr:
    larger = tirx.max(first, tirx.max(count, capacity * _number(2)))
    return tirx.Select(count <= capacity, _number(0), larger)


def _numbers(name: str, body: Callable[..., PrimExpr]) -> PrimFunc:
    """A function of three numbers that returns one."""
    with IRBuilder() as made, T.prim_func():
        T.func_name(name)
        T.func_attr({"global_symbol": name})
        numbers = [T.arg(label, T.int64()) for label in ("a", "b", "c")]
        T.func_ret(tvm.ir.PrimType("int64"))
        T.Return(body(*numbers))
    return made.get()


def _copies(
    name: str, type: TensorType, body: Callable[[Buffer, PrimExpr, Buffer], None]
) -> PrimFunc:
    """A function of a tensor, a number and another tensor."""

    def extents(label: str, rank: int) -> list[PrimExpr]:
        return [tirx.Var(f"{label}{axis}", "int64") for axis in range(rank)]

    element = extents("n", type.rank)
    if body is _append:
        shapes = (element, [*extents("capacity", 1), *element])
    else:
        shapes = (extents("old", type.rank + 1), [*extents("capacity", 1), *element])
    with IRBuilder() as made, T.prim_func():
        T.func_name(name)
        T.func_attr({"global_symbol": name, "tirx.noalias": True})
        dtype = TVM_DTYPE[type.dtype]
        source = T.arg("source", T.buffer(shapes[0], dtype, buffer_name="source", align=_ALIGNMENT))
        count = T.arg("count", T.int64())
        to = T.arg("to", T.buffer(shapes[1], dtype, buffer_name="to", align=_ALIGNMENT))
        body(source, count, to)
    return made.get()


def _append(element: Buffer, count: PrimExpr, memory: Buffer) -> None:
    last = count - _number(1)
    _for_each(element.shape, lambda at: T.buffer_store(memory, element[tuple(at)], [last, *at]))


def _carry(old: Buffer, count: PrimExpr, new: Buffer) -> None:
    """Nothing is read of the old memory before there were elements, whatever its extents are."""
    extents = [count - _number(1), *new.shape[1:]]
    _for_each(extents, lambda at: T.buffer_store(new, old[tuple(at)], list(at)))


def _for_each(extents: Sequence[PrimExpr], body: Callable[[list[PrimExpr]], None]) -> None:
    """Run `body` for each index of a box."""

    def nest(axis: int, index: list[PrimExpr]) -> None:
        if axis == len(extents):
            body(index)
            return
        with T.serial(_number(0), extents[axis]) as at:
            nest(axis + 1, [*index, at])

    nest(0, [])
