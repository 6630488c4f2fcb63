# pyright: standard
"""The Relax module of a graph: one `main` that calls one kernel a group over planned memory."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import tvm
from tvm import relax

from leptonc.backends.tvm.lowering import TVM_DTYPE, DimTable
from leptonc.backends.tvm.source import KernelSource, kernel_source
from leptonc.backends.tvm.weights import weights_of
from leptonc.ir.diagnostics import LeptonError
from leptonc.ir.graph import Graph, Op, Value
from leptonc.ir.table import Trait
from leptonc.ir.types import TensorType

NO_CODE = ("const", "dims", "return")


@dataclass
class Program:
    """A Relax module without kernel bodies, and the kernels it calls by name."""

    module: tvm.IRModule
    kernels: dict[str, KernelSource] = field(default_factory=dict[str, KernelSource])


def kernel_sources(graph: Graph) -> dict[Op, KernelSource]:
    """The kernel of each operation that needs one."""
    return {op: kernel_source(op) for op in graph if op.name not in NO_CODE and not _is_alias(op)}


def _is_alias(op: Op) -> bool:
    """True for an operation whose result is its operand's memory under another shape."""
    if len(op.results) != 1 or not op.operands or op.operands[0].type.dtype != op.result.type.dtype:
        return False
    inner = (
        [op] if op.name != "group" else [one for one in op.regions[0] if one.name not in NO_CODE]
    )
    return all(one.definition.has(Trait.VIEW) for one in inner)


def relax_program(graph: Graph, sources: Mapping[Op, KernelSource]) -> Program:
    """The module whose `main(inputs..., params)` returns a tuple of the graph's outputs."""
    return _Builder(graph, sources).program()


class _Builder:
    def __init__(self, graph: Graph, sources: Mapping[Op, KernelSource]) -> None:
        self.graph, self.sources = graph, sources
        self.block = relax.BlockBuilder()
        self.dims = DimTable()
        self.values: dict[Value, relax.Expr] = {}
        self.kernels: dict[str, KernelSource] = {}

    def type(self, type: TensorType) -> relax.TensorType:
        """The Relax type of a tensor."""
        return relax.TensorType(
            [self.dims.expression(dim) for dim in type.shape], TVM_DTYPE[type.dtype]
        )

    def program(self) -> Program:
        inputs = [
            relax.Var(f"input_{i}", self.type(v.type)) for i, v in enumerate(self.graph.inputs)
        ]
        weights = weights_of(self.graph)
        params = relax.Var("params", relax.TupleType([self.type(op.result.type) for op in weights]))
        self.values.update(zip(self.graph.inputs, inputs, strict=True))
        with self.block.function("main", [*inputs, params]):
            with self.block.dataflow():
                for index, op in enumerate(weights):
                    self.values[op.result] = self.block.emit(relax.TupleGetItem(params, index))
                for op in self.graph:
                    if op.name not in NO_CODE:
                        self._operation(op)
                outputs = self.block.emit_output(relax.Tuple(self._outputs()))
            self.block.emit_func_output(outputs)
        return Program(self.block.get(), self.kernels)

    def _operation(self, op: Op) -> None:
        if op not in self.sources:
            shape = relax.ShapeExpr([self.dims.expression(dim) for dim in op.result.type.shape])
            self.values[op.result] = self.block.emit(
                relax.op.reshape(self._read(op.operands[0]), shape)
            )
            return
        source = self.sources[op]
        results = self._call(source)
        self.values.update(zip(source.outputs, results, strict=True))

    def _call(self, source: KernelSource) -> list[relax.Expr]:
        self.kernels.setdefault(source.name, source)
        arguments = [self._read(value) for value in source.inputs]
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

    def _read(self, value: Value) -> relax.Expr:
        """The tensor of a value; extents and numbers that are needed as data get a kernel."""
        if value not in self.values:
            producer = value.producer
            if producer is None or producer.name not in ("const", "dims"):
                raise LeptonError(f"{value.name!r} is read before it is made", code="E900")
            (self.values[value],) = self._call(_copy_kernel(value))
        return self.values[value]

    def _outputs(self) -> list[relax.Expr]:
        """The outputs, each in memory of its own: a caller may keep it as long as it likes."""
        outputs: list[relax.Expr] = []
        seen: set[Value] = set()
        for value in self.graph.outputs:
            owned = (
                value.producer is not None and value.producer in self.sources and value not in seen
            )
            outputs.append(self.values[value] if owned else self._call(_copy_kernel(value))[0])
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
