# pyright: standard
"""One function of the Relax module: the operations of a region, in an order that can run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from tvm import relax

from leptonc.backends.tvm.assumptions import Assumption, assumptions
from leptonc.backends.tvm.binding import tirx
from leptonc.backends.tvm.checks import Fault, check, extent_fault
from leptonc.backends.tvm.control_flow import Called
from leptonc.backends.tvm.lowering import TVM_DTYPE, DimTable
from leptonc.backends.tvm.regions import (
    CONTROL,
    KNOWN,
    changes_count,
    content_of,
    names_of,
    plain_symbols,
    symbols_of,
    told_by,
)
from leptonc.backends.tvm.source import KernelSource, kernel_source
from leptonc.ir.diagnostics import LeptonBug
from leptonc.ir.dims import Dim, product, symbol
from leptonc.ir.graph import Graph, Op, Value
from leptonc.ir.location import Location
from leptonc.ir.types import TensorType

NO_LIMIT = 2**63 - 1
"""The limit of a loop without one."""


class FunctionBuilder:
    """Emits calls of kernels for a region, and knows which symbols have a variable so far."""

    def __init__(
        self,
        block: relax.BlockBuilder,
        sources: Mapping[Op, KernelSource],
        kernels: dict[str, KernelSource],
        called: Mapping[Op, Called],
    ) -> None:
        self.block, self.sources, self.kernels = block, sources, kernels
        self.called = called
        self.dims = DimTable()
        self.values: dict[Value, relax.Expr] = {}
        self.compared: set[Assumption] = set()
        self.bound: set[str] = set()
        """Symbols whose variables have a number at the place that is built."""

    def type(self, type: TensorType) -> relax.TensorType:
        """The Relax type of a tensor."""
        return relax.TensorType(self._shape(type.shape), TVM_DTYPE[type.dtype])

    def _shape(self, shape: Iterable[Dim]) -> list[Any]:
        return [self.dims.expression(dim) for dim in shape]

    def take(self, value: Value, parameter: relax.Expr) -> None:
        """Read `value` from a parameter of the function, whose extents are known on entry."""
        self.values[value] = parameter
        self.bound |= plain_symbols(value.type.shape)

    def bind(self, sizes: Iterable[str], name: str) -> relax.Var:
        """A parameter whose extents are these sizes."""
        names = list(sizes)
        self.bound.update(names)
        numbers = [self.dims.expression(symbol(size)) for size in names]
        return relax.Var(name, relax.ShapeType(numbers))

    def let(self, size: str, number: Any) -> None:
        """Take a symbol for a number."""
        self.dims.variables[size] = number
        self.bound.add(size)

    def operations(self, ops: Iterable[Op]) -> None:
        """Emit operations, which stand in an order that can run."""
        for op in ops:
            self._operation(op)

    def _operation(self, op: Op) -> None:
        if op.name == "extents":
            self._extents(op)
            return
        if op.name in CONTROL:
            self._control(op, self.called[op])
            return
        self._check_views(op)
        self._check_assumptions(op)
        if op not in self.sources:
            shape = relax.ShapeExpr(self._shape(op.result.type.shape))
            view = relax.op.reshape(self.read(op.operands[0]), shape)
            self.values[op.result] = self.block.emit(view)
        else:
            source = self.sources[op]
            self.values.update(zip(source.outputs, self._call(source), strict=True))

    def _check_views(self, op: Op) -> None:
        """Other shapes of the same memory have as many elements."""
        for view in op.regions[0] if op.name == "group" else (op,):
            if changes_count(view):
                before, after = view.operands[0].type.shape, view.result.type.shape
                self._check_counts(view.location, before, after)

    def _check_assumptions(self, op: Op) -> None:
        """Extents that an operation takes for equal are equal; what was compared stays so."""
        new = [each for each in assumptions(op) if each not in self.compared]
        if not new:
            return
        self.compared.update(new)
        faults: list[Fault] = []
        for each in new:
            found, wanted = (self.dims.expression(dim) for dim in (each.found, each.wanted))
            holds = found >= wanted if each.is_least else found.equal(wanted)
            if each.broadcasts:
                holds = tirx.Or(holds, found.equal(tirx.const(1, "int64")))
            least = "at least " if each.is_least else ""
            either = " or 1" if each.broadcasts else ""
            message = (
                f"{each.what} has {{}} elements along an axis, should have "
                f"{least}{each.wanted}{either}"
            )
            faults.append(Fault(holds, found, message))
        self.block.emit(check(op.location, faults))

    def _check_counts(
        self, location: Location, before: Sequence[Dim], after: Sequence[Dim]
    ) -> None:
        count, wanted = (self.dims.expression(product(shape)) for shape in (before, after))
        shape = ", ".join(map(str, after))
        message = f"a tensor of {{}} elements cannot become one of shape [{shape}]"
        self.block.emit(check(location, [Fault(count.equal(wanted), count, message)]))

    def _extents(self, op: Op) -> None:
        """Bind the symbols that the elements are from here on, once they are checked."""
        (row,) = op.operands
        names = names_of(op)
        if row.content is not None:
            numbers = self._shape(row.content.reshape(-1))
        else:
            numbers = [tirx.Var(f"number_{i}", "int64") for i in range(len(names))]
            given = self.block.emit(relax.op.tensor_to_shape(self.read(row)))
            self.block.match_cast(given, relax.ShapeType(numbers))
        faults: list[Fault] = []
        why = f": {op.str('fault')}" if op.attrs["fault"] else ""
        for index, (dim, number) in enumerate(zip(names, numbers, strict=True)):
            if str(dim) in plain_symbols([dim]) - self.bound:
                self.let(str(dim), number)
                faults.append(extent_fault(number, f"size {index}", why))
            else:
                holds = number.equal(self.dims.expression(dim))
                message = f"size {index} is {{}}, should be {dim}{why}"
                if "{}" in why:  # it says what the number is
                    message = op.str("fault")
                faults.append(Fault(holds, number, message))
        self.block.emit(check(op.location, faults))
        if row in self.values:
            self.values[op.result] = self.values[row]

    def _control(self, op: Op, called: Called) -> None:
        """Call what stands for a choice or a loop; what it gives back tells new sizes."""
        arguments = [self.read(value) for value in called.operands]
        if called.sizes:
            arguments.append(relax.ShapeExpr([self.dims.variables[name] for name in called.sizes]))
        if op.name == "loop":
            arguments.append(relax.ShapeExpr([self._limit(op), *self._elements(called)]))
        results = self.block.emit(relax.Call(called.function, arguments))
        for index, value in enumerate(op.results):
            if value.is_used:
                part = self.block.emit(relax.TupleGetItem(results, index))
                self.values[value] = self.block.match_cast(part, self.type(value.type))
        self.bound |= told_by(op)

    def _limit(self, op: Op) -> Any:
        """How often a loop turns at most."""
        limit = op.operand("max_trip")
        if limit is None:
            return tirx.const(NO_LIMIT, "int64")
        known = content_of(limit)
        if known:
            return self.dims.expression(known[0])
        number = tirx.Var("limit", "int64")
        one = relax.ShapeExpr([tirx.const(1, "int64")])
        row = self.block.emit(relax.op.reshape(self.read(limit), one))
        given = self.block.emit(relax.op.tensor_to_shape(row))
        self.block.match_cast(given, relax.ShapeType([number]))
        return number

    def _elements(self, called: Called) -> list[Any]:
        """The extents of the elements that a loop collects, 0 where only turns will tell."""
        return [
            self.dims.expression(dim if symbols_of([dim]) <= self.bound else 0)
            for type in called.scans
            for dim in type.shape
        ]

    def _call(self, source: KernelSource) -> list[relax.Expr]:
        self.kernels.setdefault(source.name, source)
        arguments = [self.read(value) for value in source.inputs]
        types = [self.type(value.type) for value in source.outputs]
        if not types:
            return []
        scalars = [relax.prim_value(self.dims.variables[name]) for name in source.scalars]
        out = types if len(types) > 1 else types[0]
        given: Any = [*arguments, *scalars]
        result = self.block.emit(relax.call_dps_packed(source.name, given, out))
        if len(types) == 1:
            return [result]
        return [self.block.emit(relax.TupleGetItem(result, index)) for index in range(len(types))]

    def read(self, value: Value) -> relax.Expr:
        """The tensor of a value; extents and numbers that are needed as data get a kernel."""
        if value not in self.values:
            producer = value.producer
            if producer is None or producer.name not in KNOWN:
                raise LeptonBug(f"{value.name!r} is read before it is made")
            (self.values[value],) = self.copy(value)
        return self.values[value]

    def copy(self, value: Value) -> list[relax.Expr]:
        """`value` stored once more."""
        return self._call(_copy_kernel(value))

    def outputs(self, values: Sequence[Value]) -> list[relax.Expr]:
        """The values, each in memory of its own: a caller may keep it as long as it likes.

        What a choice or a loop gives back may be memory that was there before: the session looks.
        """
        outputs: list[relax.Expr] = []
        seen: set[Value] = set()
        for value in values:
            made = value.producer in self.sources or value.producer in self.called
            owned = value.producer is not None and made and value not in seen
            outputs.append(self.values[value] if owned else self.copy(value)[0])
            seen.add(value)
        return outputs


def _copy_kernel(value: Value) -> KernelSource:
    """A kernel that stores `value` once more."""
    from leptonc.ir.build import Builder

    scratch = Graph("copy", [])
    region = Builder(scratch)
    op = region.op("identity", [value])
    region.return_(op.result)
    source = kernel_source(op)
    op.results[0].replace_uses_with(value)
    scratch.erase(scratch.terminator)
    scratch.erase(op)
    return source
