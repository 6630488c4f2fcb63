# pyright: standard
"""A thin emitter over the TIR builder: explicit vectors, registers, loops and epilogues."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any

import tvm_ffi
from tvm.ir import Expr
from tvm.script.ir_builder import IRBuilder
from tvm.tirx import PrimFunc
from tvm.tirx.script import builder

from leptonc.backends.tvm.binding import Buffer, PrimExpr, tirx
from leptonc.backends.tvm.flatten import WHOLE

T: Any = builder  # annotated with less than it takes
Extent = int | PrimExpr
Shape = tuple[Extent, ...]
Apply = Callable[[PrimExpr, Sequence[PrimExpr], Sequence[Buffer]], PrimExpr]

# Graph inputs are whatever the user passes: vectors may begin at any element.
ALIGNMENT = 4
# TVM keeps an allocation on the stack below this size, and only in the scope "global".
STACK_BYTES = 1024
# An epilogue of more operations than this is emitted once in a loop, not once for each register.
UNROLLED_OPERATIONS = 24
# LLVM aligns a stack to what it holds when registers are given out, and what it then keeps there
# would lie across two lines of the cache: TVM says 16 bytes of everything. A byte says 64.
ALIGN_STACK = "leptonc_align_stack"
ALIGN_STACK_SOURCE = f"""
define i32 @{ALIGN_STACK}() alwaysinline {{
  %byte = alloca i8, align 64
  store volatile i8 0, ptr %byte
  ret i32 0
}}
"""


def unchanged(value: PrimExpr, index: Sequence[PrimExpr], buffers: Sequence[Buffer]) -> PrimExpr:
    """The value itself."""
    return value


@dataclass(frozen=True)
class Epilogue:
    """What a kernel does to each value before it stores it.

    `apply` gets the value as a scalar, the logical index of the output element, and a buffer
    for each operand. It is called inside vectorised loops, once for each store that the kernel
    emits, so it must only build expressions.
    """

    operands: tuple[tuple[Shape, str], ...] = ()
    apply: Apply = unchanged

    def parameters(self) -> list[tuple[str, Shape, str]]:
        """The kernel parameters that hold the operands."""
        return [(f"operand{i}", shape, dtype) for i, (shape, dtype) in enumerate(self.operands)]

    def is_long(self, rank: int, dtype: str = "float32") -> bool:
        """Whether unrolling it over the registers of a tile would cost more than it gains."""
        buffers = [tirx.decl_buffer(shape, dtype) for shape, dtype in self.operands]
        index = [tirx.Var(f"i{axis}", "int64") for axis in range(rank)]
        nodes: list[PrimExpr] = []
        value = self.apply(tirx.Var("value", dtype), index, buffers)
        tvm_ffi.structural_walk(value, (Expr, lambda node: nodes.append(node)))
        return len(nodes) > UNROLLED_OPERATIONS


IDENTITY = Epilogue()


def const(value: float, dtype: str = "float32") -> PrimExpr:
    """A constant."""
    return tirx.const(value, dtype)


def integer(value: Extent) -> PrimExpr:
    """An index: all index arithmetic of the kernels is in 64 bits."""
    return tirx.const(value, "int64") if isinstance(value, int) else value.astype("int64")


def ceildiv(value: Extent, divisor: Extent) -> Extent:
    """The quotient rounded up, of extents >= 0."""
    if isinstance(value, int) and isinstance(divisor, int):
        return -(-value // divisor)
    return tirx.floordiv(integer(value) + integer(divisor) - 1, integer(divisor))


def product(extents: Sequence[Extent]) -> Extent:
    """The product of extents, an int where all of them are."""
    fixed = math.prod(extent for extent in extents if isinstance(extent, int))
    free = [integer(extent) for extent in extents if not isinstance(extent, int)]
    return reduce(lambda a, b: a * b, free, integer(fixed)) if free else fixed


def serial(extent: Extent, start: Extent = 0) -> Any:
    """A loop over [start, start + extent)."""
    return T.serial(integer(start), integer(start) + integer(extent))


def outer_loop(extent: Extent, *, parallel: bool) -> Any:
    """A loop from zero whose steps the threads share, if parallel."""
    return (T.parallel if parallel else T.serial)(integer(0), integer(extent))


def align_stack() -> None:
    """Lets whole vectors on the stack be in one line of the cache each, for a register less."""
    T.evaluate(tirx.call_extern("int32", ALIGN_STACK))


def each_band(
    batch: Extent,
    bands: Sequence[tuple[int, int]],
    body: Callable[[PrimExpr, PrimExpr, int], None],
    *,
    parallel: bool,
) -> None:
    """Run `body(image, first, height)` for the bands of rows of all images.

    `bands` are at most two heights, with how many bands have each. Threads share all in one loop:
    of one for each height, short ones would leave them without work.
    """
    if parallel and len(bands) > 1:
        (high, many), (low, others) = bands
        count = many + others
        with outer_loop(product((batch, count)), parallel=True) as step:
            image, band = tirx.floordiv(step, count), tirx.floormod(step, count)
            with T.If(band < many):
                with T.Then():
                    body(image, band * high, high)
                with T.Else():
                    body(image, band * low + many * (high - low), low)
        return
    start = 0
    for height, count in bands:
        with outer_loop(product((batch, count)), parallel=parallel) as step:
            image, band = tirx.floordiv(step, count), tirx.floormod(step, count)
            body(image, band * height + start, height)
        start += height * count


def vectorized(extent: int) -> Any:
    """A loop whose steps are the lanes of one vector."""
    return T.vectorized(integer(0), integer(extent))


def ramp(index: Sequence[Extent], lanes: int) -> list[PrimExpr]:
    """The index of `lanes` neighbours along the last axis."""
    *head, last = (integer(i) for i in index)
    return [*head, tirx.Ramp(last, integer(1), lanes) if lanes > 1 else last]


def load(buffer: Buffer, index: Sequence[Extent], lanes: int = 1) -> PrimExpr:
    """`lanes` neighbours along the last axis."""
    return tirx.BufferLoad(buffer, ramp(index, lanes))


def store(buffer: Buffer, value: PrimExpr, index: Sequence[Extent], lanes: int = 1) -> None:
    """Writes `lanes` neighbours along the last axis."""
    T.buffer_store(buffer, value, ramp(index, lanes))


def broadcast(value: PrimExpr, lanes: int) -> PrimExpr:
    """The value in every lane."""
    return tirx.Broadcast(value, lanes) if lanes > 1 else value


def fma(a: PrimExpr, b: PrimExpr, c: PrimExpr) -> PrimExpr:
    """`a * b + c`, rounded once where the CPU can."""
    return tirx.call_llvm_pure_intrin(str(c.ty), "llvm.fmuladd", a, b, c)


def is_nan(x: PrimExpr) -> PrimExpr:
    """Whether an fp32, or each of a vector, is not-a-number.

    Written on the bits, because the simplifier takes `x != x` for false.
    """
    _, _, text = str(x.ty).partition("x")
    lanes = int(text or 1)
    bits = tirx.reinterpret("int32" + (f"x{lanes}" if lanes > 1 else ""), x)
    magnitude = bits & broadcast(tirx.const(0x7FFFFFFF, "int32"), lanes)
    return magnitude > broadcast(tirx.const(0x7F800000, "int32"), lanes)


class Register:
    """One vector register: a stack buffer of its own, which LLVM promotes.

    A single buffer for all of a tile's accumulators would be too large for TVM to keep on the
    stack, and would become a heap allocation for every tile.
    """

    def __init__(self, lanes: int, dtype: str = "float32") -> None:
        self.lanes = lanes
        self.buffer: Buffer = T.alloc_buffer((lanes,), dtype, scope="global", align=64)

    def get(self) -> PrimExpr:
        """The value last set."""
        return load(self.buffer, [0], self.lanes)

    def set(self, value: PrimExpr) -> None:
        """Replaces the value."""
        store(self.buffer, value, [0], self.lanes)

    def lane(self, lane: Extent) -> PrimExpr:
        """One lane of the value."""
        return load(self.buffer, [lane])


def let(value: PrimExpr) -> PrimExpr:
    """The value, computed here and kept in a register: for statements, not inside expressions."""
    dtype, _, lanes = str(value.ty).partition("x")
    register = Register(int(lanes or 1), dtype)
    register.set(value)
    return register.get()


def reduce_lanes(
    value: PrimExpr, lanes: int, combine: Callable[[PrimExpr, PrimExpr], PrimExpr]
) -> PrimExpr:
    """All lanes combined into a scalar, by halves; lanes is a power of two."""
    while lanes > 1:
        register = Register(lanes)
        register.set(value)
        lanes //= 2
        halves = (load(register.buffer, [start], lanes) for start in (0, lanes))
        value = combine(*halves)
    return let(value)


def prefetch(buffer: Buffer, index: Sequence[Extent], *, near: bool = False) -> None:
    """Asks for a line of data that is read soon; an address outside the buffer does no harm.

    It comes into the second cache, or into the first one if `near`.
    """
    address = tirx.address_of(load(buffer, index))
    T.evaluate(tirx.call_intrin("void", "tirx.prefetch", address, 0, 3 if near else 2, 1))


def view(buffer: Buffer, shape: Shape, dtype: str = "") -> Buffer:
    """The same memory under another shape, and as another type of as many bits."""
    return T.decl_buffer(shape, dtype or buffer.dtype, data=buffer.data, align=ALIGNMENT)


def workspace(shape: Shape, dtype: str = "float32") -> Buffer:
    """Memory of the current step of the current thread, freed where its scope ends."""
    return T.alloc_buffer(shape, dtype, scope="global", align=64)


def unflatten(position: PrimExpr, shape: Shape) -> list[PrimExpr]:
    """The index in `shape` of the element at a row-major position."""
    index: list[PrimExpr] = []
    for axis in reversed(range(len(shape))):
        if isinstance(shape[axis], int) and shape[axis] == 1:
            index.append(integer(0))
        elif all(isinstance(extent, int) and extent == 1 for extent in shape[:axis]):
            index.append(position)
            position = integer(0)
        else:
            index.append(tirx.floormod(position, integer(shape[axis])))
            position = tirx.floordiv(position, integer(shape[axis]))
    return index[::-1]


def function(
    name: str,
    parameters: Sequence[tuple[str, Shape, str]],
    body: Callable[..., None],
) -> PrimFunc:
    """A kernel whose body gets one buffer a parameter."""
    with IRBuilder() as made, T.prim_func():
        T.func_name(name)
        T.func_attr({"global_symbol": name, "tirx.noalias": True, WHOLE: True})
        buffers = [
            T.arg(label, T.buffer(shape, dtype, buffer_name=label, align=ALIGNMENT))
            for label, shape, dtype in parameters
        ]
        with T.attr(tirx.const(0, "int32"), "pragma_import_llvm", ALIGN_STACK_SOURCE):
            body(*buffers)
    function: Any = made.get()
    return function
