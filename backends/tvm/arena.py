# pyright: standard
"""One piece of memory for all tensors of a run whose sizes are multiples of the same extents.

TVM's plan gives memory again only to tensors of the same size where extents are open, and keeps
each piece as large as the largest tensor in it where they are not. Here the tensors of a plan are
placed anew: sizes that differ by a number alone share an arena, whose unit is the product of their
extents, so that all places are known before the extents are.
"""

from __future__ import annotations

import math
from bisect import insort
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import tvm
import tvm_ffi
from tvm import relax
from tvm.ir import Call, GenericConst
from tvm.script.ir_builder import IRBuilder
from tvm.tirx.script import builder

from leptonc.backends.tvm.binding import PrimExpr, PrimFunc, tirx
from leptonc.backends.tvm.escapes import bindings_of, operator

T: Any = builder  # annotated with less than it takes

ALIGNMENT = 64
"""Bytes; where extents are open, every multiple of a tensor's place has it too."""
PLACE = "leptonc_place"
"""(arena, tensor, units) lets the tensor begin so many rows behind the start of the arena."""

_NEIGHBOURS = 1_000_000
"""Pairs of tensors in use at once that are looked at: a second of work. Chains of any length stay
far below it; a network of more has thousands of tensors in use at once, and keeps TVM's plan."""
_STORAGE = "relax.memory.alloc_storage"
_TENSOR = "relax.memory.alloc_tensor"
_DATA = 1
"""The number of a tensor's address among its fields."""


@dataclass(eq=False)
class Room:
    """A tensor, or what is known of it here."""

    first: int
    last: int
    """The steps between which it is in use, both included."""
    size: int
    """In units; rounded up to the alignment by `place`."""
    offset: int = 0
    """In units; 0 until it is placed."""


@dataclass(eq=False)
class _Tensor(Room):
    """A tensor in planned memory."""

    value: Any = None
    """The call that makes it."""


@dataclass(eq=False)
class Arena:
    """Memory for tensors of sizes in one unit: a byte, or a product of extents in bytes."""

    factors: Sequence[PrimExpr]
    tensors: list[_Tensor] = field(default_factory=list[_Tensor])
    size: int = 0

    def unit(self) -> PrimExpr:
        """The bytes of a unit."""
        return math.prod(self.factors, start=tirx.const(1, "int64"))

    def pays(self, users: Mapping[Any, int]) -> bool:
        """Whether it is smaller than the pieces of TVM's plan that nothing else needs then.

        `users` is how many tensors lie in each piece.
        """
        pieces: dict[Any, list[int]] = {}
        for tensor in self.tensors:
            pieces.setdefault(tensor.value.args[0], []).append(tensor.size)
        free = sum(max(sizes) for piece, sizes in pieces.items() if len(sizes) == users[piece])
        size = place(self.tensors)
        self.size = 0 if size is None else size
        return size is not None and size < free


def place(rooms: Sequence[Room]) -> int | None:
    """Give each room the lowest place free while it is in use, large ones first; the end of all.

    None, and no places, where more of them are in use at once than can be looked at.
    """
    neighbours = _neighbours(rooms)
    if neighbours is None:
        return None
    end, placed = 0, set[Room]()
    for room in rooms:
        room.size = -(-room.size // ALIGNMENT) * ALIGNMENT
    for room in sorted(rooms, key=lambda each: (-each.size, each.first)):
        beside = [other for other in neighbours[room] if other in placed]
        room.offset = 0
        for other in sorted(beside, key=lambda each: each.offset):
            if other.offset - room.offset >= room.size:
                break
            room.offset = max(room.offset, other.offset + other.size)
        placed.add(room)
        end = max(end, room.offset + room.size)
    return end


def _neighbours(rooms: Iterable[Room]) -> dict[Room, list[Room]] | None:
    """For each room those in use at the same time; None for more pairs than the limit."""
    found: dict[Room, list[Room]] = {}
    pairs, present = 0, list[Room]()
    for room in sorted(rooms, key=lambda each: each.first):
        while present and present[0].last < room.first:
            present.pop(0)
        pairs += len(present)
        if pairs > _NEIGHBOURS:
            return None
        found[room] = list(present)
        for other in present:
            found[other].append(room)
        insort(present, room, key=lambda each: each.last)
    return found


@tvm.ir.transform.module_pass(opt_level=0)
class ShareArenas:
    """The tensors of `main` lie in as few pieces of memory as their sizes allow.

    Runs on planned functions. What leaves `main` lies in no arena; tensors for which an arena
    would not be smaller than the pieces of memory in the plan stay in those.
    """

    def transform_module(self, module: Any, context: Any) -> Any:
        """`module` with another `main`, and the function that it calls."""
        function = module["main"]
        arenas = arenas_of(function)
        if arenas:
            module = tvm.IRModule(module.functions, attrs=module.attrs)
            module[module.get_global_var("main")] = _Mover(arenas).visit_expr(function)
        return module


def place_function() -> PrimFunc:
    """The function that moves a tensor to its place.

    TVM's machine makes tensors at an offset too, but tells kernels the start of the memory and
    the offset, and they take tensors at their own addresses alone.
    """
    rows, unit = (tirx.Var(name, "int64") for name in ("rows", "unit"))
    with IRBuilder() as made, T.prim_func():
        T.func_name(PLACE)
        T.func_attr({"global_symbol": PLACE})
        arena = T.arg("arena", T.buffer((rows, unit), "uint8", buffer_name="arena", align=1))
        tensor, units = T.arg("tensor", T.handle()), T.arg("units", T.int64())
        address = T.handle_add_byte_offset(arena.data, units * unit)
        T.evaluate(T.tvm_struct_set(tensor, 0, _DATA, address))
    return made.get()


def places_tensors(module: Any) -> bool:
    """Whether `main` calls the function that moves tensors."""
    return any(operator(binding.value) == PLACE for binding in bindings_of(module["main"]))


def arenas_of(function: Any) -> list[Arena]:
    """Where tensors of a planned function lie from now on; the others stay where they are."""
    arenas: dict[Any, Arena] = {}
    tensors, leaving = _tensors(function)
    users = Counter(tensor.value.args[0] for tensor in tensors)
    for tensor in tensors:
        if tensor not in leaving:
            shape, dtype = tensor.value.args[2:4]
            count, factors = units(shape.values)
            tensor.size = count * tvm_ffi.dtype(str(dtype.value)).itemsize
            key = tvm_ffi.StructuralKey(tvm_ffi.Array(factors))
            arenas.setdefault(key, Arena(factors)).tensors.append(tensor)
    return [arena for arena in arenas.values() if arena.pays(users)]


def _tensors(function: Any) -> tuple[list[_Tensor], set[_Tensor]]:
    """The tensors in planned memory with their times of use, and those that leave the function."""
    found: list[_Tensor] = []
    memory: dict[Any, set[_Tensor]] = {}
    """For each variable the tensors whose memory it may be in."""
    for index, binding in enumerate(bindings_of(function)):
        value = binding.value
        read = _read(value, memory)
        for tensor in read:
            tensor.last = index
        if operator(value) == _TENSOR:
            found.append(_Tensor(index, index, 0, value=value))
            read = {found[-1]}
        memory[binding.var] = read
    return found, _read(function.body.body, memory)


def _read(value: Any, memory: Mapping[Any, set[_Tensor]]) -> set[_Tensor]:
    variables = relax.analysis.free_vars(value)
    return {tensor for variable in variables for tensor in memory.get(variable, ())}


def units(sizes: Iterable[PrimExpr]) -> tuple[int, list[PrimExpr]]:
    """A product as a number, and the factors that are none."""
    count, factors, waiting = 1, list[PrimExpr](), list(sizes)
    while waiting:
        factor = waiting.pop()
        if isinstance(factor, tirx.Mul):
            waiting += [factor.a, factor.b]
        elif isinstance(factor, tirx.IntImm):
            count *= int(factor)
        else:
            factors.append(factor)
    return count, sorted(factors, key=str) if len(factors) > 1 else factors


@relax.expr_functor.mutator
class _Mover(relax.expr_functor.PyExprMutator):
    """Moves tensors into arenas, each allocated before its first tensor."""

    def __init__(self, arenas: Iterable[Arena]) -> None:
        super().__init__()
        self.move = relax.ExternFunc(PLACE)  # pyright: ignore[reportArgumentType]
        self.places = {
            tensor.value: (arena, tensor) for arena in arenas for tensor in arena.tensors
        }
        self.storages: dict[Any, Any] = {}
        """The allocations in the plan, which are made only where a tensor is left in them."""
        self.made: dict[Any, Any] = {}
        """Memory by its allocation in the plan, or by the arena: there with the arena as rows."""

    def visit_var_binding_(self, binding: Any) -> None:
        """Leave allocations for later, and move each tensor once it is made."""
        if operator(binding.value) == _STORAGE:
            self.storages[binding.var] = binding.value
            return
        super().visit_var_binding_(binding)
        if binding.value in self.places:
            arena, tensor = self.places[binding.value]
            units = relax.prim_value(tensor.offset)
            moved = [self.made[arena][1], self.visit_expr(binding.var), units]
            self.builder_.emit(Call(self.move, moved, None, [relax.TupleType([])]))

    def visit_call_(self, op: Any) -> Any:
        """The call; of an allocation the one in the arena."""
        call = op
        if operator(call) != _TENSOR:
            return super().visit_call_(call)
        piece, *rest = call.args
        if call in self.places:
            memory, _ = self._arena(self.places[call][0], call)
        else:
            if piece not in self.made:
                self.made[piece] = self.builder_.emit(self.storages[piece])
            memory = self.made[piece]
        return Call(call.op, [memory, *rest], call.attrs)

    def _arena(self, arena: Arena, first: Any) -> tuple[Any, Any]:
        """The memory of an arena, and a tensor that is all of it, a unit a row."""
        if arena not in self.made:
            piece, zero, _, dtype, *rest = first.args
            planned = self.storages[piece]
            rows, unit = tirx.const(arena.size, "int64"), arena.unit()
            size = relax.ShapeExpr([rows * unit])
            memory = self.builder_.emit(Call(planned.op, [size, *planned.args[1:]]))
            bytes = GenericConst(tvm_ffi.dtype("uint8"), dtype.ty)
            whole = [memory, zero, relax.ShapeExpr([rows, unit]), bytes, *rest]
            self.made[arena] = memory, self.builder_.emit(Call(first.op, whole))
        return self.made[arena]
