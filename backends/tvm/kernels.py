# pyright: standard
"""From a kernel's graph to a TIR function, through an emitter of its own or tensor expressions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tvm import te

from leptonc.backends.cpu.target import CpuTarget
from leptonc.backends.tvm.binding import PrimFunc, Tensor, tirx
from leptonc.backends.tvm.extension import is_elementwise, lower_extension
from leptonc.backends.tvm.lower.elementwise import lower as elementwise
from leptonc.backends.tvm.lower.parts import compute
from leptonc.backends.tvm.lowering import (
    TVM_DTYPE,
    DimTable,
    LowerCall,
    Rule,
    kernel_rules,
    literal,
    rules,
)
from leptonc.backends.tvm.schedule import schedule
from leptonc.backends.tvm.source import KernelSource, is_read
from leptonc.ir.blob import Array
from leptonc.ir.diagnostics import LeptonBug
from leptonc.ir.dims import symbol
from leptonc.ir.graph import Op, Value


def lower_kernel(source: KernelSource, cpu: CpuTarget) -> PrimFunc:
    """The function of one kernel: parameters are the inputs, the scalars, then the outputs."""
    from leptonc.backends.cpu.anchors import lower_anchored

    dims = DimTable()
    function = lower_anchored(source, cpu, dims) or _lower_opaque(source, cpu, dims)
    if function is not None:
        function = _with_scalars(function, source, dims)
    else:
        function = schedule(_lower_expressions(source, dims), cpu)
    return function.with_attr("global_symbol", source.name).with_attr("tirx.noalias", True)


def _with_scalars(function: PrimFunc, source: KernelSource, dims: DimTable) -> PrimFunc:
    """A function of inputs and outputs that takes all scalars in between, read or not."""
    scalars = [
        dims.variables[name] if name in dims.variables else tirx.Var(name, "int64")
        for name in source.scalars
    ]
    count = len(source.inputs)
    parameters = [*function.params[:count], *scalars, *function.params[count:]]
    return tirx.PrimFunc(parameters, function.body, function.ret_type, function.attrs)


def _lower_opaque(source: KernelSource, cpu: CpuTarget, dims: DimTable) -> PrimFunc | None:
    """The kernel (inputs, outputs) of an operation that brings a whole function."""
    ops = [op for op in source.graph if op.name not in ("return", "const", "dims")]
    table = kernel_rules()
    if len(ops) != 1 or ops[0].name not in table:
        return None
    (op,) = ops
    placeholders = _placeholders(source, dims)
    tensors = {slot: placeholders[v] for slot, v in enumerate(op.operands) if v in placeholders}
    return table[op.name](LowerCall(op, tensors, dims), cpu)


def _placeholders(source: KernelSource, dims: DimTable) -> dict[Value, Tensor]:
    found: dict[Value, Tensor] = {}
    for index, value in enumerate(source.graph.inputs):
        shape = [dims.expression(dim) for dim in value.type.shape]
        found[value] = te.placeholder(shape, TVM_DTYPE[value.type.dtype], name=f"p{index}")
    return found


def _lower_expressions(source: KernelSource, dims: DimTable) -> PrimFunc:
    """The kernel as one chain of tensor expressions."""
    table = rules()
    tensors = _placeholders(source, dims)
    parameters: list[Any] = list(tensors.values())
    for op in source.graph:
        if op.name != "return":
            _lower_op(op, tensors, dims, table)
    outputs: list[Tensor] = []
    for value in source.graph.outputs:
        tensor = tensors[value]
        if any(tensor.same_as(other) for other in (*parameters, *outputs)):
            tensor = copy_of(tensor)
        outputs.append(tensor)
    scalars = [dims.expression(symbol(name)) for name in source.scalars]
    return te.create_prim_func([*parameters, *scalars, *outputs])


def copy_of(tensor: Tensor) -> Tensor:
    """A stage that stores the same elements once more."""
    return compute(tensor.shape, lambda *index: tensor[index], name="copy")


def _lower_op(
    op: Op, tensors: dict[Value, Tensor], dims: DimTable, table: Mapping[str, Rule]
) -> None:
    if op.name == "const":
        blob = op.attrs["value"]
        tensors[op.result] = _constant(blob.array, op, dims)  # pyright: ignore
        return
    if op.name == "dims":
        tensors[op.result] = _extents(op, dims)
        return
    extension = op.definition.extension
    if op.name not in table and extension is None:
        raise LeptonBug(f"{op.name} has no lowering for TVM targets", op.location)
    given = {slot: tensors[value] for slot, value in enumerate(op.operands) if is_read(op, slot)}
    call = LowerCall(op, given, dims)
    if extension is None:
        results = table[op.name](call)
    else:
        results = elementwise(call) if is_elementwise(op) else lower_extension(call, extension)
    listed = [results] if isinstance(results, te.Tensor) else list(results)
    for value, tensor in zip(op.results, listed, strict=False):
        tensors[value] = tensor


def _constant(array: Array, op: Op, dims: DimTable) -> Tensor:
    """A small constant written into the code."""
    dtype = op.result.type.dtype
    numbers = [literal(number, dtype) for number in array.reshape(-1)]
    return _select(numbers, array.shape, TVM_DTYPE[dtype], dims)


def _extents(op: Op, dims: DimTable) -> Tensor:
    """Extents as data."""
    content = op.result.content
    assert content is not None
    dtype = TVM_DTYPE[op.result.type.dtype]
    numbers = [dims.expression(dim).astype(dtype) for dim in content.reshape(-1)]
    return _select(numbers, content.shape, dtype, dims)


def _select(numbers: list[Any], shape: tuple[int, ...], dtype: str, dims: DimTable) -> Tensor:
    extents = [dims.expression(extent) for extent in shape]

    def element(*index: Any) -> Any:
        if len(numbers) == 1:
            return numbers[0]
        position: Any = dims.expression(0)
        for at, extent in zip(index, extents, strict=True):
            position = position * extent + at
        chosen: Any = tirx.const(0, dtype)
        for at, number in reversed(list(enumerate(numbers))):
            chosen = tirx.Select(position == dims.expression(at), number, chosen)
        return chosen

    return compute(extents, element, name="constant")
