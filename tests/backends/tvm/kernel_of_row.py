# pyright: standard
"""Compiles kernels of one operation as the backend does, to run beside the row's meaning."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
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
from leptonc.ir.dims import Dim, substitute
from leptonc.ir.graph import Graph, Op, Value
from leptonc.ir.table import Evaluation
from leptonc.ir.types import DType
from tests.ir.ops.against_onnx import TOLERANCE as OF_SUMS
from tests.ir.ops.single import Attributes, one_op, run

TOLERANCE = {"float16": 2e-3, "bfloat16": 1e-2, "float32": 5e-6, "float64": 1e-12}
"""How far an elementwise kernel may be from the reference, relative to it, by the result's type."""

Operands = Sequence[Array | None]
Shapes = Mapping[int, Sequence[Dim | str]]


@cache
def cpu() -> CpuTarget:
    """A CPU like this machine's, with one thread."""
    return with_threads(detect(), 1)


def only_op(graph: Graph) -> Op:
    """The operation that `graph` is about."""
    (op,) = (op for op in graph if op.name not in ("const", "dims", "return"))
    return op


def reason(graph: Graph) -> str:
    """Why the only operation of `graph` cannot be lowered; empty where it can."""
    op = only_op(graph)
    return reasons()[op.name](op) if op.name in reasons() else ""


def reason_of(
    name: str, operands: Operands, attrs: Attributes | None = None, *, runtime: Sequence[int] = ()
) -> str:
    """Why an operation on such operands cannot be lowered; empty where it can."""
    return reason(one_op(name, operands, attrs, runtime=runtime))


class RowKernel:
    """The compiled kernel of one operation.

    `shapes` gives inputs symbolic extents, by slot; shape-like operands are constants but for those
    in `runtime`; only the results in `used` are in use, where some are given.
    """

    def __init__(
        self, name: str, operands: Operands, attrs: Attributes | None = None, *,
        shapes: Shapes | None = None, runtime: Sequence[int] = (), used: Sequence[int] = (),
    ) -> None:  # fmt: skip
        self.name, self.attrs, self.runtime = name, attrs, runtime
        self.graph = one_op(name, operands, attrs, shapes=shapes, runtime=runtime)
        self.used = used or range(len(self.graph.outputs))
        if used:
            _return_only(self.graph, used)
        self.source = kernel_source(only_op(self.graph))
        self.function = _library([self.source], detect())[self.source.name]

    def run(self, operands: Operands) -> list[Array]:
        """The results for operands of fitting extents."""
        sizes: dict[str, Dim] = dict(_sizes(self.source, operands))
        like = [
            np.empty(
                [int(str(substitute(dim, sizes))) for dim in value.type.shape],
                value.type.dtype.numpy,
            )
            for value in self.source.outputs
        ]
        return run_kernel(self.function, self.source, operands, like)

    def check(self, operands: Operands, tolerance: float = 0.0) -> list[Array]:
        """The results, found near the interpreter's."""
        everything = run(one_op(self.name, operands, self.attrs, runtime=self.runtime), operands)
        expected = [everything[result] for result in self.used]
        found = self.run(operands)
        for mine, theirs in zip(found, expected, strict=True):
            _compare(mine, theirs, tolerance, tolerance, self.name)
        return found

    def check_exactness(self, operands: Operands, scale: float = 1) -> list[Array]:
        """The results, found near the operation's meaning in double precision."""
        given = [array for array in operands if array is not None]
        exact = [a.astype(np.float64) if DType.of(a.dtype).is_float else a for a in given]
        op = only_op(self.graph)
        assert op.definition.evaluate is not None
        with np.errstate(all="ignore"):
            meaning = op.definition.evaluate(
                Evaluation(op.definition, exact, op.operand_names, op.attrs)
            )
        everything = [meaning] if isinstance(meaning, np.ndarray) else list(meaning)
        found = self.run(operands)
        for mine, result in zip(found, self.used, strict=True):
            near = scale * OF_SUMS.get(mine.dtype.name, 0.0)
            is_float = DType.of(mine.dtype).is_float
            theirs = everything[result] if is_float else everything[result].astype(mine.dtype)
            _compare(mine.astype(theirs.dtype), theirs, near, near, self.name)
        return found


def check_kernel(
    name: str, operands: Operands, attrs: Attributes | None = None, *more: Operands,
    shapes: Shapes | None = None, runtime: Sequence[int] = (), tolerance: float = 0.0,
) -> None:  # fmt: skip
    """Compile once; hold the results for `operands` and each of `more` against the meaning."""
    kernel = RowKernel(name, operands, attrs, shapes=shapes, runtime=runtime)
    for arrays in (operands, *more):
        kernel.check(arrays, tolerance)


def check_lowering(
    name: str, operands: Operands, *more: Operands,
    symbolic: Sequence[int] = (), scale: float = 1, **attrs: Any,
) -> None:  # fmt: skip
    """Compile once, the extents of the operands in `symbolic` unknown; hold sums against doubles.

    Attributes may be lists; `scale` times the tolerance of sums is allowed.
    """
    tuples = {key: tuple(item) if isinstance(item, list) else item for key, item in attrs.items()}
    shapes: dict[int, list[Dim | str]] = {}
    for slot in symbolic:
        array = operands[slot]
        assert array is not None
        shapes[slot] = [f"s{slot}_{axis}" for axis in range(array.ndim)]
    kernel = RowKernel(name, operands, tuples, shapes=shapes)
    for arrays in (operands, *more):
        kernel.check_exactness(arrays, scale)


@dataclass
class Case:
    """One operation on operands, with the arguments of `RowKernel`."""

    name: str
    operands: Operands
    attrs: Mapping[str, Any] = field(default_factory=dict)
    shapes: Shapes | None = None
    tolerance: float | None = None
    runtime: Sequence[int] = ()


def check_kernels(cases: Sequence[Case]) -> list[list[Array]]:
    """Hold each kernel against its reference meaning; gives what the kernels stored.

    All of them are one module, which takes a third of the time.
    """
    graphs = [
        one_op(case.name, case.operands, case.attrs, shapes=case.shapes, runtime=case.runtime)
        for case in cases
    ]
    assert [reason(graph) for graph in graphs] == [""] * len(graphs)
    sources = [kernel_source(only_op(graph)) for graph in graphs]
    library = _library(sources, cpu())
    found: list[list[Array]] = []
    for case, graph, source in zip(cases, graphs, sources, strict=True):
        expected = run(graph, case.operands)
        found.append(run_kernel(library[source.name], source, case.operands, expected))
        types = [array.dtype.name for array in case.operands if array is not None]
        for mine, theirs in zip(found[-1], expected, strict=True):
            default = TOLERANCE.get(theirs.dtype.name, 0.0)
            near = default if case.tolerance is None else case.tolerance
            _compare(mine, theirs, near, near * 0.1, f"{case.name} {dict(case.attrs)} of {types}")
    return found


def run_kernel(
    function: Any, source: KernelSource, operands: Operands, like: Sequence[Array]
) -> list[Array]:
    """What the kernel stores for the operands, in results of the types and shapes of `like`."""
    sizes = _sizes(source, operands)
    arrays = [_tensor(_operand(value, operands)) for value in source.inputs]
    # what is not written shows
    garbage = [np.full(result.shape, 77).astype(result.dtype) for result in like]
    stored = [_tensor(array) for array in garbage]
    function(*arrays, *(sizes[name] for name in source.scalars), *stored)
    pairs = zip(stored, like, strict=True)
    return [_array(np.asarray(t.numpy()), r.dtype).reshape(r.shape) for t, r in pairs]


def _array(stored: Array, dtype: np.dtype[Any]) -> Array:
    return stored.view(dtype) if DType.of(dtype).is_narrow else stored.astype(dtype)


def _return_only(graph: Graph, used: Sequence[int]) -> None:
    last = graph.last
    assert last is not None
    last.set_operands([last.operands[result] for result in used])
    graph.output_names = tuple(graph.output_names[result] for result in used)


def _library(sources: Iterable[KernelSource], machine: CpuTarget) -> Any:
    functions = {source.name: lower_kernel(source, machine) for source in sources}
    module = tirx.build(tvm.IRModule(functions), tvm_target(machine), PIPELINE)
    return tvm.runtime.Executable(module)


def _operand(value: Value, operands: Operands) -> Array:
    array = operands[int(value.name[1:])]
    assert array is not None
    return array


def _sizes(source: KernelSource, operands: Operands) -> dict[str, int]:
    """What each symbol stands for, by the operands that are no constants."""
    return {
        str(dim): extent
        for value in source.op.operands
        if value.producer is None
        for dim, extent in zip(value.type.shape, _operand(value, operands).shape, strict=True)
    }


def _tensor(array: Array) -> Any:
    array = np.ascontiguousarray(array).reshape(array.shape)
    if DType.of(array.dtype).is_narrow:
        array = array.view(np.uint8)
    if array.dtype.name != "bfloat16":
        return tvm.runtime.tensor(array)
    return tvm.runtime.empty(array.shape, "bfloat16").copyfrom(array)


def _compare(mine: Array, theirs: Array, rtol: float, atol: float, what: str) -> None:
    assert mine.dtype == theirs.dtype, what
    assert mine.shape == theirs.shape, what
    if theirs.dtype.kind in "iub" and not rtol:
        np.testing.assert_array_equal(mine, theirs, err_msg=what)
    else:
        np.testing.assert_allclose(
            mine.astype(np.float64), theirs.astype(np.float64), rtol=rtol, atol=atol, err_msg=what
        )
