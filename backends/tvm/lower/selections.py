# pyright: standard
"""Lowering of rows that tell where elements stand that were picked by value."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tvm import te, tirx
from tvm.tirx import PrimFunc
from tvm.tirx.script import builder as T  # noqa: N812

from leptonc.backends.cpu import emit
from leptonc.backends.tvm.lower.indexing import compute
from leptonc.backends.tvm.lower.opaque import Kernel, kernel
from leptonc.backends.tvm.lower.sorting import (
    PLACE_BITS,
    Lines,
    Merging,
    key_dtype,
    key_in,
    key_of,
    packed,
    place_in,
    sort_by_digits,
)
from leptonc.backends.tvm.lowering import TVM_DTYPE, KernelRule, LowerCall, Reason, Rule
from leptonc.ir.dims import product
from leptonc.ir.ops.broadcasting import normalized_axis

ZERO = tirx.const(0, "int64")
ONE = tirx.const(1, "int64")


def _leading(call: LowerCall) -> te.Tensor:
    return compute(call, lambda *index: call[0](*index))


def _counter() -> emit.Register:
    register = emit.Register(1, "int64")
    register.set(ZERO)
    return register


def _non_zero_places(call: LowerCall, cpu: Any) -> PrimFunc:
    shape = call.op.operands[0].type.shape
    *outer, last = shape or (1,)

    def body(job: Kernel) -> None:
        found, target = _counter(), job.outputs[0]
        with emit.serial(job.count(outer)) as row:
            head = emit.unflatten(row, tuple(call.dim(dim) for dim in outer)) if outer else []
            head = [emit.let(at) for at in head]
            with emit.serial(call.dim(last)) as column:
                index = [*head, column] if shape else []
                with T.If(_is_set(job.read(0, index))), T.Then():
                    for axis, at in enumerate(index):
                        emit.store(target, at, [axis, found.lane(0)])
                    found.set(found.lane(0) + 1)

    return kernel(call, cpu, body)


def _is_set(element: Any) -> Any:
    key = key_of(element)
    return key != tirx.const(0, str(key.ty))


class _Sorted:
    """The elements or slices of a tensor in order: where each is from, whether the last was equal.

    Places are counted along the axis of the slices, or through the whole tensor.
    """

    def __init__(self, place: Callable[[Any], Any], same: Callable[[Any], Any]) -> None:
        self.place, self.same = place, same


def _sorted_elements(x: Callable[[Any], Any], extent: Any, dtype: str) -> _Sorted:
    """By keys, with places beside them or, where both fit, in the same number."""
    key = key_dtype(dtype)
    narrow = key == "int32"
    lines = Lines(extent, ("int64",) if narrow else (key, "int64"))
    with emit.serial(extent) as at:
        number = key_of(x(at))
        emit.store(lines.buffers[0], packed(number, at) if narrow else number, [at])
        if not narrow:
            emit.store(lines.buffers[1], at, [at])
    sort_by_digits(lines, extent, PLACE_BITS if narrow else 0)
    if narrow:
        return _Sorted(
            lambda at: place_in(lines.at(at)),
            lambda at: key_in(lines.at(at)) == key_in(lines.at(at - 1)),
        )
    return _Sorted(lambda at: lines.at(at, 1), lambda at: lines.at(at) == lines.at(at - 1))


def _sorted_slices(x: Callable[[Any], Any], extent: Any, outer: Any, inner: Any) -> _Sorted:
    """By the first of their elements that differ."""
    step, sign = _counter(), emit.Register(1, "int32")
    lines = Lines(extent, ("int64",))

    def element(place: Any) -> Any:
        row, column = tirx.floordiv(step.lane(0), inner), tirx.floormod(step.lane(0), inner)
        return key_of(x((row * extent + place) * inner + column))

    def compare(i: Any, j: Any) -> Any:
        # where one run is used up this compares to no purpose, but with a place that is there
        first, second = (emit.let(lines.at(tirx.min(at, extent - 1))) for at in (i, j))
        step.set(ZERO)
        sign.set(tirx.const(0, "int32"))
        with T.While(tirx.all(step.lane(0) < outer * inner, sign.lane(0) == 0)):
            a, b = emit.let(element(first)), emit.let(element(second))
            sign.set((a > b).astype("int32") - (a < b).astype("int32"))
            step.set(step.lane(0) + 1)
        return sign.lane(0)

    with emit.serial(extent) as at:
        emit.store(lines.buffers[0], at, [at])
    Merging(lines, lambda i, j: compare(i, j) > 0).sort(extent)
    return _Sorted(lines.at, lambda at: compare(at - 1, at) == 0)


class _Groups:
    """Where equal elements stood first, which group each is in, and how many are in each."""

    def __init__(self, job: Kernel, extent: Any) -> None:
        self.job, self.extent = job, extent
        self.first, self.inverse, self.counts = (
            job.outputs[at] if at in job.outputs else emit.workspace((extent,), "int64")
            for at in range(3)
        )
        self.found = _counter()

    def collect(self, line: _Sorted) -> None:
        """In the order of the elements."""
        with emit.serial(self.extent) as at:
            place = emit.let(line.place(at))
            later: Any = tirx.max(at, ONE)
            with T.If(tirx.any(at == 0, tirx.Not(line.same(later)))), T.Then():
                emit.store(self.first, place, [self.found.lane(0)])
                emit.store(self.counts, ZERO, [self.found.lane(0)])
                self.found.set(self.found.lane(0) + 1)
            group = self.found.lane(0) - 1
            emit.store(self.inverse, group, [place])
            emit.store(self.counts, emit.load(self.counts, [group]) + 1, [group])

    def renumber(self) -> None:
        """In the order in which the groups begin."""
        first, counts, number = (emit.workspace((self.extent,), "int64") for _ in range(3))
        with emit.serial(self.found.lane(0)) as at:
            emit.store(first, emit.load(self.first, [at]), [at])
            emit.store(counts, emit.load(self.counts, [at]), [at])
        known = _counter()
        with emit.serial(self.extent) as place:
            group = emit.let(emit.load(self.inverse, [place]))
            with T.If(emit.load(first, [group]) == place), T.Then():
                emit.store(self.first, place, [known.lane(0)])
                emit.store(self.counts, emit.load(counts, [group]), [known.lane(0)])
                emit.store(number, known.lane(0), [group])
                known.set(known.lane(0) + 1)
            emit.store(self.inverse, emit.load(number, [group]), [place])


def _unique_places(call: LowerCall, cpu: Any) -> PrimFunc:
    axis, type = call.op.attrs["axis"], call.op.operands[0].type
    scalars = not isinstance(axis, int)
    at = 0 if scalars else normalized_axis(call.known, axis, type.rank)
    extent = call.dim(product(type.shape) if scalars else type.shape[at])

    def body(job: Kernel) -> None:
        x = _flat(job, call)
        if scalars:
            line = _sorted_elements(x, extent, TVM_DTYPE[type.dtype])
        else:
            outer, inner = (job.count(dims) for dims in (type.shape[:at], type.shape[at + 1 :]))
            line = _sorted_slices(x, extent, outer, inner)
        groups = _Groups(job, extent)
        groups.collect(line)
        if not call.op.int("sorted"):
            groups.renumber()
        if 3 in job.outputs:
            emit.store(job.outputs[3], groups.found.lane(0), [0])

    return kernel(call, cpu, body)


def _flat(job: Kernel, call: LowerCall) -> Callable[[Any], Any]:
    """The elements of the operand by their row-major position."""
    value = call.op.operands[0]
    if value not in job.inputs:  # one number, known
        return lambda position: job.read(0, [ZERO] * value.type.rank)
    flat = emit.view(job.inputs[value], (job.count(value.type.shape),))
    return lambda position: emit.load(flat, [position])


RULES: dict[str, Rule] = {"leading": _leading}
KERNELS: dict[str, KernelRule] = {
    "non_zero_places": _non_zero_places, "unique_places": _unique_places,
}  # fmt: skip
REASONS: dict[str, Reason] = {}
