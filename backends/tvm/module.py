# pyright: standard
"""The Relax module of a graph: one `main` that calls one kernel a group over planned memory."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import tvm
from tvm import relax

from leptonc.backends.tvm.control import Controls
from leptonc.backends.tvm.control_flow import Control
from leptonc.backends.tvm.order import runnable
from leptonc.backends.tvm.regions import CONTROL, NO_CODE, demands, plain_symbols, scopes
from leptonc.backends.tvm.source import KernelSource, kernel_source
from leptonc.backends.tvm.weights import weights_of
from leptonc.ir.graph import Graph, Op
from leptonc.ir.table import Trait


@dataclass
class Program:
    """A Relax module without kernel bodies, the kernels it calls by name, its choices and loops."""

    module: tvm.IRModule
    kernels: dict[str, KernelSource] = field(default_factory=dict[str, KernelSource])
    controls: dict[str, Control] = field(default_factory=dict[str, Control])


def kernel_sources(graph: Graph) -> dict[Op, KernelSource]:
    """The kernel of each operation that needs one."""
    return {
        op: kernel_source(op)
        for region in scopes(graph)
        for op in region
        if op.name not in (*NO_CODE, *CONTROL, "extents") and not _is_alias(op)
    }


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
    block = relax.BlockBuilder()
    wanted = demands(graph, sources)
    controls = Controls(block, sources, wanted)
    for op in wanted:
        controls.add(op)
    main = controls.function()
    told = plain_symbols(dim for value in graph.inputs for dim in value.type.shape)
    order = runnable(graph, sources, wanted, told)
    inputs = [relax.Var(f"input_{i}", main.type(v.type)) for i, v in enumerate(graph.inputs)]
    weights = weights_of(graph)
    params = relax.Var("params", relax.TupleType([main.type(op.result.type) for op in weights]))
    with block.function("main", [*inputs, params]):
        for value, parameter in zip(graph.inputs, inputs, strict=True):
            main.take(value, parameter)
        for index, op in enumerate(weights):
            main.take(op.result, block.emit(relax.TupleGetItem(params, index)))
        main.operations(order)
        block.emit_func_output(block.emit(relax.Tuple(main.outputs(graph.outputs))))
    return Program(block.get(), controls.kernels, controls.described)
