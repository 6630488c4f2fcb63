# pyright: standard
"""The Relax functions of choices and loops: one a region, and one that stands for the operation."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from tvm import relax

from leptonc.backends.tvm.control_flow import Called, Choice, Control, Loop
from leptonc.backends.tvm.function import FunctionBuilder
from leptonc.backends.tvm.lowering import TVM_DTYPE
from leptonc.backends.tvm.order import runnable
from leptonc.backends.tvm.regions import Demand, plain_symbols, turn_of
from leptonc.backends.tvm.source import KernelSource
from leptonc.ir.graph import Op, Region, Value
from leptonc.ir.types import TensorType

_OPAQUE = "leptonc.control"
"""What the function of a choice or loop pretends to call."""


class Controls:
    """Builds choices and loops, inner ones before those around them."""

    def __init__(
        self, block: relax.BlockBuilder, sources: Mapping[Op, KernelSource],
        demands: Mapping[Op, Demand],
    ) -> None:  # fmt: skip
        self.block, self.sources, self.demands = block, sources, demands
        self.kernels: dict[str, KernelSource] = {}
        """The kernels that are called, by name."""
        self.called: dict[Op, Called] = {}
        """How the operations built so far are called."""
        self.described: dict[str, Control] = {}
        """What stands behind the functions they are called by."""

    def function(self) -> FunctionBuilder:
        """A builder of one function."""
        return FunctionBuilder(self.block, self.sources, self.kernels, self.called)

    def add(self, op: Op) -> None:
        """Build a choice or loop whose inner ones are built."""
        name = f"control_{len(self.called)}"
        sizes = tuple(sorted(self.demands[op].sizes))
        if op.name == "if":
            operands, scans = op.operands, ()
            control: Control = self._choice(op, name, sizes)
        else:
            control = self._loop(op, name, sizes)
            operands, scans = op.operands[op.operand_names.count("max_trip") :], control.scans
        operands = (*operands, *self.demands[op].captures)
        stand_in = self._stand_in(name, operands, bool(sizes) + (op.name == "loop"), op.results)
        self.called[op] = Called(stand_in, operands, sizes, scans)
        self.described[name] = control

    def _stand_in(
        self, name: str, operands: Sequence[Value], shapes: int, results: Sequence[Value]
    ) -> relax.Expr:
        """A function that nothing is known of but the ranks it takes and gives."""
        parameters: list[Any] = [
            *(relax.Var(f"operand_{i}", _ranked(v.type)) for i, v in enumerate(operands)),
            *(relax.Var(f"shape_{i}", relax.ShapeType(ndim=-1)) for i in range(shapes)),
        ]
        out = relax.TupleType([_ranked(value.type) for value in results])
        with self.block.function(name, parameters):
            function = relax.ExternFunc(_OPAQUE)  # pyright: ignore[reportArgumentType]
            call = relax.Call(function, parameters, ty_args=[out])
            self.block.emit_func_output(self.block.emit(call))
        return self.block.get().get_global_var(name)

    def _choice(self, op: Op, name: str, sizes: Sequence[str]) -> Choice:
        names = (f"{name}_then", f"{name}_else")
        for label, region in zip(names, op.regions, strict=True):
            self._region(label, op, region, (), region.outputs, sizes)
        return Choice(names, len(op.results))

    def _loop(self, op: Op, name: str, sizes: Sequence[str]) -> Loop:
        (region,) = op.regions
        carried = len(op.operands_called("carried"))
        endless = is_endless(region)
        outputs = region.outputs[1:] if endless else region.outputs
        self._region(f"{name}_turn", op, region, region.inputs[2:], outputs, sizes)
        scans = tuple(value.type for value in region.outputs[1 + carried :])
        message = {
            "nodes": op.location.nodes, "plain": True,
            "messages": ["an element of a scan output has {} elements along an axis, others had "
                         "another number"],
        }  # fmt: skip
        return Loop(
            region=f"{name}_turn", conditional=op.operand("cond") is not None, endless=endless,
            carried=carried, captured=len(self.demands[op].captures), counted=bool(turn_of(op)),
            scans=scans, message="leptonc" + json.dumps(message),
        )  # fmt: skip

    def _region(
        self, name: str, op: Op, region: Region, inputs: Sequence[Value],
        outputs: Sequence[Value], sizes: Sequence[str],
    ) -> None:  # fmt: skip
        """The function of a region: tensors, then shapes of sizes and of the turn's number."""
        made, turn = self.function(), turn_of(op)
        taken = (*inputs, *self.demands[op].captures)
        told = plain_symbols(dim for value in taken for dim in value.type.shape)
        order = runnable(region, self.sources, self.demands, {*told, *sizes, turn})
        parameters = [relax.Var(f"input_{i}", made.type(v.type)) for i, v in enumerate(taken)]
        shapes = [made.bind(sizes, "sizes")] if sizes else []
        if turn:
            shapes.append(made.bind([turn], "turn"))
        with self.block.function(name, [*parameters, *shapes]):
            for value, parameter in zip(taken, parameters, strict=True):
                made.take(value, parameter)
            made.operations(order)
            results = relax.Tuple([made.read(value) for value in outputs])
            self.block.emit_func_output(self.block.emit(results))


def is_endless(region: Region) -> bool:
    """True for the region of a loop that no turn can end."""
    again = region.outputs[0]
    while again.producer is not None and again.producer.name == "identity":
        again = again.producer.operands[0]
    return again is region.inputs[1] or (again.blob is not None and bool(again.blob.array.all()))


def _ranked(type: TensorType) -> relax.TensorType:
    return relax.TensorType(dtype=TVM_DTYPE[type.dtype], ndim=type.rank)
