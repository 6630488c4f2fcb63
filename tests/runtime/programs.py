# pyright: standard
"""Small programs in the calling convention of artefacts, built with TVM for the runtime's tests."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tvm.relax._ffi_api
import tvm.runtime._ffi_api
from tvm import relax, te, tirx
from tvm.relax import vm_build
from tvm.relax.backend.cpu_generic import pipeline

from leptonc.artifact import Manifest, TensorSpec, WeightSpec
from leptonc.artifact_writer import write_artifact
from leptonc.ir.types import DTYPE_OF_NAME

compiler: Any = tvm  # whose types pyright cannot see
TARGET = tvm.target.Target({"kind": "llvm", "num-cores": 2})
Shape = tuple[int | str, ...]


def extents(shape: Shape, symbols: dict[str, Any]) -> list[Any]:
    """The extents as TVM has them; expressions are Python over the names of symbols."""
    return [eval(dim, {}, symbols) if isinstance(dim, str) else dim for dim in shape]


class Program:
    """A Relax main function under construction: inputs and a tuple of weights, to outputs."""

    def __init__(
        self,
        inputs: Sequence[TensorSpec],
        weights: Sequence[WeightSpec] = (),
        symbols: Sequence[str] = (),
    ) -> None:
        self.inputs, self.weights = tuple(inputs), tuple(weights)
        self.symbols = {name: tirx.Var(name, "int64") for name in symbols}
        self.builder = relax.BlockBuilder()
        self.arguments = [relax.Var(f"in_{i}", self.type(t)) for i, t in enumerate(inputs)]
        self.parameters = relax.Var("params", relax.TupleType([self.type(w) for w in weights]))

    def type(self, spec: TensorSpec | WeightSpec) -> Any:
        """The Relax type of a tensor."""
        return relax.TensorType(extents(spec.shape, self.symbols), tvm_dtype(spec.dtype))

    def weight(self, index: int) -> Any:
        """One of the weights."""
        return relax.TupleGetItem(self.parameters, index)

    def call(self, name: str, function: Any, arguments: Sequence[Any], spec: TensorSpec) -> Any:
        """Emit a call of a kernel."""
        found = self.builder.add_func(function.with_attr("global_symbol", name), name)
        given = relax.Tuple(list(arguments))
        return self.builder.emit(relax.call_tir(found, given, self.type(spec)))

    def finish(self, body: Callable[[], Sequence[Any]]) -> bytes:
        """The library, once `body` has emitted the calls and named the results."""
        with self.builder.function("main", [*self.arguments, self.parameters]):
            with self.builder.dataflow():
                results = self.builder.emit_output(relax.Tuple(list(body())))
            self.builder.emit_func_output(results)
        return link(self.builder.get())


def tvm_dtype(name: str) -> str:
    """What compiled programs hold elements in."""
    dtype = DTYPE_OF_NAME[name]
    return "uint8" if dtype.is_narrow else str(dtype.numpy)


def link(module: Any) -> bytes:
    """The shared library of a module: bytecode and kernels."""
    with TARGET:
        passes = pipeline.dataflow_lower_passes(TARGET) + pipeline.finalize_passes(TARGET)
        module = tvm.transform.Sequential(passes)(module)
    if not any(isinstance(f, tirx.PrimFunc) for f in module.functions.values()):
        nothing = elementwise(lambda x: x, "float32", 1).with_attr("global_symbol", "nothing")
        module.update_func(tvm.ir.GlobalVar("nothing"), nothing)
    builder = relax.ExecBuilder()
    left = vm_build._vmcodegen(builder, module, "bytecode")
    library = compiler.tirx.build(vm_build._filter_tir(left), target=TARGET)
    linked = compiler.relax._ffi_api.VMLink(builder, TARGET, library, [], {})
    with tempfile.TemporaryDirectory() as folder:
        library.write_to_file(f"{folder}/kernels.o")
        bytecode = compiler.runtime._ffi_api.ModulePackImportsToLLVM(linked, False, str(TARGET), "")
        bytecode.write_to_file(f"{folder}/bytecode.o")
        objects = [f"{folder}/kernels.o", f"{folder}/bytecode.o"]
        options = ["-shared", "-s", "-z", "noexecstack", "-o", f"{folder}/library.so"]
        subprocess.run(["ld", *options, *objects], check=True)
        return Path(folder, "library.so").read_bytes()


def elementwise(
    function: Callable[..., Any], dtype: str, *ranks: int, parallel: bool = False
) -> Any:
    """A kernel that combines tensors of one shape (the first rank) and rows that broadcast."""
    rank = ranks[0]
    shape = tuple(tirx.Var(f"d{axis}", "int64") for axis in range(rank))
    tensors = [
        te.placeholder(shape[len(shape) - r :], dtype, name=f"t{i}") for i, r in enumerate(ranks)
    ]
    result = te.compute(
        shape,
        lambda *at: function(*(t[at[len(at) - t.ndim :]] if t.ndim else t() for t in tensors)),
        name="result",
    )
    kernel = compiler.te.create_prim_func([*tensors, result]).with_attr("tirx.noalias", True)
    if parallel:
        schedule = compiler.s_tir.Schedule(tvm.IRModule({"main": kernel}))
        schedule.parallel(schedule.get_loops("result")[0])
        kernel = schedule.mod["main"]
    return kernel


def affine(*, parallel: bool = False) -> tuple[Manifest, bytes, list[np.ndarray[Any, Any]]]:
    """An artefact of y = x + w over f32[n,4]; with `parallel`, in a parallel loop."""
    x, y = TensorSpec("x", "f32", ("n", 4)), TensorSpec("y", "f32", ("n", 4))
    w = WeightSpec("w", "f32", (4,))
    program = Program([x], [w], ["n"])
    kernel = elementwise(lambda a, b: a + b, "float32", 2, 1, parallel=parallel)
    code = program.finish(
        lambda: [program.call("add_row", kernel, [program.arguments[0], program.weight(0)], y)]
    )
    weight = np.array([1, 2, 3, 4], "f4")
    manifest = Manifest((x,), (y,), (w,), threads=1, provenance={"model": "affine"})
    return manifest, code, [weight]


def handed_on() -> tuple[Manifest, bytes, list[np.ndarray[Any, Any]]]:
    """Outputs that are the input itself, the weight itself, and one result twice."""
    x, w = TensorSpec("x", "f32", ("n", 4)), WeightSpec("w", "f32", (4,))
    program = Program([x], [w], ["n"])
    names = ("same", "weight", "once", "twice")
    shapes: list[Shape] = [("n", 4), (4,), ("n", 4), ("n", 4)]
    outputs = tuple(TensorSpec(n, "f32", s) for n, s in zip(names, shapes, strict=True))
    kernel = elementwise(lambda a, b: a + b, "float32", 2, 1)

    def body() -> list[Any]:
        given, weight = program.arguments[0], program.weight(0)
        result = program.call("add_row", kernel, [given, weight], outputs[2])
        return [given, weight, result, result]

    code = program.finish(body)
    return Manifest((x,), outputs, (w,)), code, [np.arange(4, dtype="f4")]


def copies(dtype: str, shape: Shape, symbols: Sequence[str] = ()) -> tuple[Manifest, bytes]:
    """An artefact of y = x for one element type, through a kernel that moves the bits."""
    x, y = TensorSpec("x", dtype, shape), TensorSpec("y", dtype, shape)
    program = Program([x], [], symbols)
    kernel = elementwise(lambda a: a, tvm_dtype(dtype), len(shape))
    code = program.finish(lambda: [program.call("copy", kernel, [program.arguments[0]], y)])
    return Manifest((x,), (y,)), code


def paired() -> tuple[Manifest, bytes]:
    """Two inputs that share a symbol, and a third whose extent is an expression of it."""
    inputs = (
        TensorSpec("a", "f32", ("n", 4)),
        TensorSpec("b", "f32", ("n", 4)),
        TensorSpec("mask", "i64", ("2*n+1",)),
    )
    outputs = (TensorSpec("sum", "f32", ("n", 4)), TensorSpec("mask_out", "i64", ("2*n+1",)))
    program = Program(inputs, [], ["n"])
    add, move = (
        elementwise(lambda a, b: a + b, "float32", 2, 2),
        elementwise(lambda a: a, "int64", 1),
    )

    def body() -> list[Any]:
        a, b, mask = program.arguments
        return [
            program.call("add", add, [a, b], outputs[0]),
            program.call("move", move, [mask], outputs[1]),
        ]

    return Manifest(inputs, outputs, dims={"n": 512}), program.finish(body)


def save(path: Path, manifest: Manifest, code: bytes, weights: Sequence[Any] = ()) -> Path:
    """Write an artefact and return its path."""
    write_artifact(path, manifest, code, weights)
    return path
