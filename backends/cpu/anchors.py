# pyright: standard
"""Groups around an operation with a kernel of its own: that kernel, the rest its epilogue."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tvm_ffi
from tvm.ir import Var

from leptonc.backends.cpu.anchor_kernels import ANCHORS, PLAIN, ROUNDING, Anchor
from leptonc.backends.cpu.emit import Epilogue
from leptonc.backends.cpu.rounded_bytes import rounded_bytes
from leptonc.backends.cpu.target import CpuTarget
from leptonc.backends.tvm.binding import PrimExpr, PrimFunc, tirx
from leptonc.backends.tvm.lower.elementwise import scalar_of
from leptonc.backends.tvm.lowering import TVM_DTYPE, DimTable, literal
from leptonc.backends.tvm.source import KernelSource
from leptonc.backends.tvm.vector_math import let
from leptonc.ir.graph import Op, Value
from leptonc.ir.types import DType, TensorType


def lower_anchored(source: KernelSource, cpu: CpuTarget, dims: DimTable) -> PrimFunc | None:
    """The function (inputs, outputs) of a kernel around one anchor; None without an anchor."""
    found = _anchor_of(source)
    if found is None:
        return None
    operands = [value for value in source.graph.inputs if _is_read_outside(value, found)]
    program = _Epilogue(source, found, operands)
    shapes = tuple(
        (tuple(dims.expression(dim) for dim in value.type.shape), TVM_DTYPE[value.type.dtype])
        for value in operands
    )
    out = source.graph.outputs[0]
    trivial = program.result is found.results[0]
    epilogue = Epilogue(shapes) if trivial else Epilogue(shapes, program.apply)
    function = ANCHORS[found.name](Anchor(found, dims, epilogue, TVM_DTYPE[out.type.dtype], cpu))
    if function is None:
        return None
    parameters = [*found.operands, *operands]
    return _in_input_order(function, parameters, source)


def _anchor_of(source: KernelSource) -> Op | None:
    """The one anchor, where everything else in the group follows it element by element."""
    anchors = [op for op in source.graph if op.name in ANCHORS]
    if len(anchors) != 1 or len(source.graph.outputs) != 1:
        return None
    anchor = anchors[0]
    if any(value.producer is not None for value in anchor.operands):
        return None
    for op in source.graph:
        if op is anchor or op.name == "return":
            continue
        if op.name in ("const", "dims"):
            if any(extent != 1 for extent in op.result.type.shape):
                return None
        elif scalar_of(op) is None:
            return None
    if source.graph.outputs[0].type.shape != anchor.results[0].type.shape:
        return None
    if anchor.name in PLAIN and source.graph.outputs[0] is not anchor.results[0]:
        return None
    return anchor


def _is_read_outside(value: Value, anchor: Op) -> bool:
    return any(user is not anchor for user in value.users)


def _computed(out: Value, anchor: Op) -> Value:
    """What a kernel computes of an output: not the rounding, where it does that as it stores."""
    last = out.producer
    rounds = anchor.name in ROUNDING and out.type.dtype is DType.BF16
    if rounds and last is not None and last.name == "cast":
        value = last.operands[0]
        if value.type.dtype is DType.F32 and len(value.uses) == 1:
            return value
    return out


class _Epilogue:
    """The elementwise operations behind the anchor as one scalar expression."""

    def __init__(self, source: KernelSource, anchor: Op, operands: Sequence[Value]) -> None:
        self.graph, self.anchor, self.operands = source.graph, anchor, operands
        self.result = _computed(source.graph.outputs[0], anchor)
        out = source.graph.outputs[0]
        self.bytes = rounded_bytes(self.result)
        left_out = {anchor} if self.result is out else {anchor, out.producer}
        if self.bytes is not None:
            left_out |= self.bytes.steps
        self.ops = [
            op
            for op in source.graph
            if op not in left_out and op.name not in ("return", "const", "dims")
        ]

    def apply(self, value: PrimExpr, index: Sequence[PrimExpr], buffers: Sequence[Any]) -> PrimExpr:
        """What the group gives where the anchor gives `value`, at `index` of its result."""
        known: dict[Value, PrimExpr] = {self.anchor.results[0]: value}
        for operand, buffer in zip(self.operands, buffers, strict=True):
            known[operand] = tirx.BufferLoad(buffer, _aligned(operand.type, index))
        for op in self.graph:
            if op.name == "const":
                blob = op.result.blob
                assert blob is not None
                known[op.result] = literal(blob.array.reshape(-1)[0], blob.type.dtype)
        return self._rest(0, known)

    def _rest(self, at: int, known: dict[Value, PrimExpr]) -> PrimExpr:
        """The expression of the operations from `at` on; what several read is bound to a name."""
        if at == len(self.ops):
            bytes = self.bytes
            return known[self.result] if bytes is None else bytes.apply(known[bytes.source])
        op = self.ops[at]
        scalar = scalar_of(op)
        assert scalar is not None
        expression = scalar(op, [known[value] for value in op.operands])
        if len(op.results[0].uses) < 2:
            return self._rest(at + 1, {**known, op.results[0]: expression})
        return let(expression, lambda bound: self._rest(at + 1, {**known, op.results[0]: bound}))


def _aligned(type: TensorType, index: Sequence[PrimExpr]) -> list[PrimExpr]:
    """The index of the element that broadcasting reads for the element at `index`."""
    tail = list(index)[len(index) - type.rank :]
    return [
        tirx.const(0, "int64") if dim == 1 else at for dim, at in zip(type.shape, tail, strict=True)
    ]


def _in_input_order(function: PrimFunc, values: Sequence[Value], source: KernelSource) -> PrimFunc:
    """The function with one parameter for each distinct input, in the kernel's order."""
    *given, out = function.params
    first: dict[Value, Any] = {}
    replaced: dict[Any, Any] = {}
    for value, parameter in zip(values, given, strict=True):
        if value in first:
            replaced[parameter] = first[value]
        else:
            first[value] = parameter
    body = function.body
    if replaced:
        body = tvm_ffi.structural_map(
            body, (Var, lambda variable: replaced.get(variable, variable))
        )
    parameters = [first[value] for value in source.graph.inputs]
    return tirx.PrimFunc([*parameters, out], body, function.ret_type, function.attrs)
