# pyright: standard
"""Compiles the kernel of one operation as the backend does, to run beside the row's meaning."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
from leptonc.ir.graph import Graph
from tests.ir.ops.single import one_op, run

TOLERANCE = {"float16": 2e-3, "bfloat16": 1e-2, "float32": 3e-6, "float64": 1e-12}
"""How far a kernel may be from the reference, relative to it, by the result's type."""


@cache
def cpu() -> CpuTarget:
    """A CPU like this machine's, with one thread."""
    return with_threads(detect(), 1)


def reason(graph: Graph) -> str:
    """Why the only operation of `graph` cannot be lowered."""
    (op,) = (op for op in graph if op.name not in ("const", "dims", "return"))
    return reasons()[op.name](op)


def compiled(graph: Graph) -> tuple[KernelSource, Any]:
    """The kernel of the only operation of `graph`, as a callable on tensors."""
    (op,) = (op for op in graph if op.name not in ("const", "dims", "return"))
    assert reason(graph) == ""
    source = kernel_source(op)
    function = lower_kernel(source, cpu())
    module = tirx.build(tvm.IRModule({source.name: function}), tvm_target(cpu()), PIPELINE)
    return source, tvm.runtime.Executable(module)[source.name]


Operands = Sequence[Array | None]


def run_kernel(graph: Graph, operands: Operands, like: Sequence[Array]) -> list[Array]:
    """What the kernel stores for the operands, in results of the types and shapes of `like`."""
    source, function = compiled(graph)
    arrays: list[Any] = []
    sizes: dict[str, int] = {}
    for value in source.inputs:
        data = operands[int(value.name[1:])]
        assert data is not None
        sizes.update((str(dim), n) for dim, n in zip(value.type.shape, data.shape, strict=True))
        arrays.append(_tensor(np.ascontiguousarray(data).reshape(data.shape)))
    stored = [_tensor(np.zeros(result.shape, result.dtype)) for result in like]
    function(*arrays, *(sizes[name] for name in source.scalars), *stored)
    pairs = zip(stored, like, strict=True)
    return [tensor.numpy().astype(result.dtype) for tensor, result in pairs]


def _tensor(array: Array) -> Any:
    if array.dtype.name != "bfloat16":
        return tvm.runtime.tensor(array)
    return tvm.runtime.empty(array.shape, "bfloat16").copyfrom(array)


def check_kernel(
    name: str,
    operands: Sequence[Array | None],
    attrs: Mapping[str, Any] | None = None,
    *,
    shapes: Mapping[int, Sequence[Dim | str]] | None = None,
    runtime: Sequence[int] = (),
    tolerance: float | None = None,
) -> list[Array]:
    """Hold the kernel of an operation against its reference meaning; gives what it stored."""
    graph = one_op(name, operands, attrs, shapes=shapes, runtime=runtime)
    expected = run(graph, operands)
    found = run_kernel(graph, operands, expected)
    types = [array.dtype.name for array in operands if array is not None]
    for mine, theirs in zip(found, expected, strict=True):
        near = TOLERANCE.get(theirs.dtype.name, 0.0) if tolerance is None else tolerance
        np.testing.assert_allclose(
            mine.astype(np.float64), theirs.astype(np.float64), rtol=near, atol=near * 1e-3,
            err_msg=f"{name} {dict(attrs or {})} of {types}",
        )  # fmt: skip
    return found
