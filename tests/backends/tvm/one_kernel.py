# pyright: standard
"""Compiles kernels of one operation as the backend does, to run beside the row's meaning."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np
import tvm
from tvm import tirx

from leptonc.backends.cpu.target import CpuTarget, detect, tvm_target, with_threads
from leptonc.backends.tvm.kernels import lower_kernel
from leptonc.backends.tvm.lowering import reasons
from leptonc.backends.tvm.pipeline import PIPELINE
from leptonc.backends.tvm.source import KernelSource, kernel_source
from leptonc.ir.blob import Array
from leptonc.ir.dims import Dim
from leptonc.ir.graph import Graph, Op
from tests.ir.ops.single import one_op, run

TOLERANCE = {"float16": 2e-3, "bfloat16": 1e-2, "float32": 5e-6, "float64": 1e-12}
"""How far a kernel may be from the reference, relative to it, by the result's type."""

Operands = Sequence[Array | None]


@dataclass
class Case:
    """One operation on operands; `shapes` gives inputs symbolic extents, by slot.

    Shape-like operands are constants, but for those in `runtime`.
    """

    name: str
    operands: Operands
    attrs: Mapping[str, Any] = field(default_factory=dict)
    shapes: Mapping[int, Sequence[Dim | str]] | None = None
    tolerance: float | None = None
    runtime: Sequence[int] = ()

    def graph(self) -> Graph:
        """The graph of the operation alone."""
        return one_op(
            self.name, self.operands, self.attrs, shapes=self.shapes, runtime=self.runtime
        )


@cache
def cpu() -> CpuTarget:
    """A CPU like this machine's, with one thread."""
    return with_threads(detect(), 1)


def only_op(graph: Graph) -> Op:
    """The operation that `graph` is about."""
    (op,) = (op for op in graph if op.name not in ("const", "dims", "return"))
    return op


def reason(graph: Graph) -> str:
    """Why the only operation of `graph` cannot be lowered."""
    op = only_op(graph)
    return reasons()[op.name](op)


def check_kernels(cases: Sequence[Case]) -> list[list[Array]]:
    """Hold each kernel against its reference meaning; gives what the kernels stored.

    All of them are one module, which takes a third of the time.
    """
    graphs = [case.graph() for case in cases]
    assert [reason(graph) for graph in graphs] == [""] * len(graphs)
    sources = [kernel_source(only_op(graph)) for graph in graphs]
    functions = {source.name: lower_kernel(source, cpu()) for source in sources}
    module = tirx.build(tvm.IRModule(functions), tvm_target(cpu()), PIPELINE)
    library = tvm.runtime.Executable(module)
    found: list[list[Array]] = []
    for case, graph, source in zip(cases, graphs, sources, strict=True):
        expected = run(graph, case.operands)
        found.append(run_kernel(library[source.name], source, case.operands, expected))
        _compare(case, found[-1], expected)
    return found


def check_kernel(
    name: str, operands: Operands, attrs: Mapping[str, Any] | None = None, **more: Any
) -> list[Array]:
    """Hold one kernel against its reference meaning; gives what it stored."""
    return check_kernels([Case(name, operands, attrs or {}, **more)])[0]


def run_kernel(
    function: Any, source: KernelSource, operands: Operands, like: Sequence[Array]
) -> list[Array]:
    """What the kernel stores for the operands, in results of the types and shapes of `like`."""
    arrays: list[Any] = []
    sizes: dict[str, int] = {}
    for value in source.inputs:
        data = operands[int(value.name[1:])]
        assert data is not None
        sizes.update((str(dim), n) for dim, n in zip(value.type.shape, data.shape, strict=True))
        arrays.append(_tensor(np.ascontiguousarray(data).reshape(data.shape)))
    garbage = [np.full(result.shape, 77).astype(result.dtype) for result in like]
    stored = [_tensor(array) for array in garbage]
    function(*arrays, *(sizes[name] for name in source.scalars), *stored)
    pairs = zip(stored, like, strict=True)
    return [tensor.numpy().astype(result.dtype) for tensor, result in pairs]


def _tensor(array: Array) -> Any:
    if array.dtype.name != "bfloat16":
        return tvm.runtime.tensor(array)
    return tvm.runtime.empty(array.shape, "bfloat16").copyfrom(array)


def _compare(case: Case, found: Sequence[Array], expected: Sequence[Array]) -> None:
    types = [array.dtype.name for array in case.operands if array is not None]
    for mine, theirs in zip(found, expected, strict=True):
        near = case.tolerance
        if near is None:
            near = TOLERANCE.get(theirs.dtype.name, 0.0)
        exact = theirs.dtype.kind in "iub"
        np.testing.assert_allclose(
            mine if exact else mine.astype(np.float64),
            theirs if exact else theirs.astype(np.float64), rtol=near, atol=near * 0.1,
            err_msg=f"{case.name} {dict(case.attrs)} of {types}",
        )  # fmt: skip
