# pyright: standard
"""One piece of memory for all tensors of a run whose sizes are multiples of the same extents.

TVM's plan gives memory again only to tensors of the same size where extents are open, and keeps
each piece as large as the largest tensor in it where they are not. Here the tensors of a plan are
placed anew: sizes that differ by a number alone share an arena, whose unit is the product of their
extents, so that all places are known before the extents are.

Several threads have the same rows of images in all kernels. Where memory is used again for images
of other extents, a row lies where another thread had one: to write over what is in another core's
cache takes far longer than to compute it. So images of different extents lie apart, the small ones
first, if that is not too much memory.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

import tvm
import tvm_ffi
from tvm import relax
from tvm.ir import Call, GenericConst
from tvm.script.ir_builder import IRBuilder
from tvm.tirx.script import builder

from leptonc.backends.tvm.binding import PrimExpr, PrimFunc, tirx
from leptonc.backends.tvm.escapes import bindings_of, operator
from leptonc.backends.tvm.rooms import Room, place

T: Any = builder  # annotated with less than it takes

PLACE = "leptonc_place"
"""(arena, tensor, units) lets the tensor begin so many rows behind the start of the arena."""

MORE = 4 << 20
"""The bytes beside an arena that images apart may take: of the third cache, which weights need too.
With 7 MB more, cores that share it take 1.05 of the time for MobileNetV2."""
_IMAGE_RANK = 5
"""That of images in blocks of channels."""
_STORAGE = "relax.memory.alloc_storage"
_TENSOR = "relax.memory.alloc_tensor"
_DATA = 1
"""The number of a tensor's address among its fields."""


@dataclass(eq=False)
class Tensor(Room):
    """A tensor in planned memory."""

    value: Any = None
    """The call that makes it."""

    @property
    def image(self) -> tuple[int, ...]:
        """What tells which of its bytes are of which row: the same for the same extents."""
        shape, dtype = self.value.args[2:4]
        extents = list(shape.values)[2:]
        if len(shape.values) != _IMAGE_RANK or not all(
            isinstance(extent, tirx.IntImm) for extent in extents
        ):
            return ()
        return (*map(int, extents), tvm_ffi.dtype(str(dtype.value)).itemsize)


@dataclass(eq=False)
class Arena:
    """Memory for tensors of sizes in one unit: a byte, or a product of extents in bytes."""

    factors: Sequence[PrimExpr]
    tensors: list[Tensor] = field(default_factory=list[Tensor])
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

    def move_apart(self) -> None:
        """Images of the same extents alone share memory: the small ones, as far as that goes."""
        groups: dict[tuple[int, ...], list[Tensor]] = {}
        for tensor in self.tensors:
            groups.setdefault(tensor.image, []).append(tensor)
        ordered = sorted(groups.values(), key=lambda group: place(group) or 0)
        parts = [self.tensors]
        for count in range(1, len(ordered)):
            split = [*ordered[:count], list(chain(*ordered[count:]))]
            if sum(place(part) or 0 for part in split) > self.size + MORE:
                break
            parts = split
        self.size = 0
        for part in parts:
            end = place(part) or 0
            for tensor in part:
                tensor.offset += self.size
            self.size += end


@tvm.ir.transform.module_pass(opt_level=0)
class ShareArenas:
    """The tensors of `main` lie in as few pieces of memory as their sizes allow.

    Where `threads` run them, images of different extents share none. Runs on planned functions.
    What leaves `main` lies in no arena; tensors for which an arena would not be smaller than the
    pieces of memory in the plan stay in those.
    """

    def __init__(self, threads: int) -> None:
        self.threads = threads

    def transform_module(self, module: Any, context: Any) -> Any:
        """`module` with another `main`, and the function that it calls."""
        function = module["main"]
        arenas = arenas_of(function)
        for arena in arenas if self.threads > 1 else ():
            arena.move_apart()
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


def _tensors(function: Any) -> tuple[list[Tensor], set[Tensor]]:
    """The tensors in planned memory with their times of use, and those that leave the function."""
    found: list[Tensor] = []
    memory: dict[Any, set[Tensor]] = {}
    """For each variable the tensors whose memory it may be in."""
    for index, binding in enumerate(bindings_of(function)):
        value = binding.value
        read = _read(value, memory)
        for tensor in read:
            tensor.last = index
        if operator(value) == _TENSOR:
            found.append(Tensor(index, index, 0, value=value))
            read = {found[-1]}
        memory[binding.var] = read
    return found, _read(function.body.body, memory)


def _read(value: Any, memory: Mapping[Any, set[Tensor]]) -> set[Tensor]:
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
