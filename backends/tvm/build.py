# pyright: standard
"""From a graph to one shared library: kernels, and the bytecode of the machine that calls them."""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import tvm
import tvm_ffi
from tvm import relax
from tvm.ir import TensorLoad

from leptonc.backends.base import LibraryReport, Progress
from leptonc.backends.cpu.target import CpuTarget, tvm_target
from leptonc.backends.tvm.arena import PLACE, ShareArenas, place_function, places_tensors
from leptonc.backends.tvm.binding import PrimFunc, tirx
from leptonc.backends.tvm.bytecode import write_bytecode
from leptonc.backends.tvm.c_function import c_operation, write_kernel, write_slots
from leptonc.backends.tvm.cache import Cache
from leptonc.backends.tvm.control_flow import Loop
from leptonc.backends.tvm.kernels import lower_kernel
from leptonc.backends.tvm.module import Program, kernel_sources, relax_program
from leptonc.backends.tvm.pipeline import PIPELINE
from leptonc.backends.tvm.planned import planned_bytes
from leptonc.backends.tvm.source import KernelSource
from leptonc.backends.tvm.support import refuse_unsupported
from leptonc.backends.tvm.turns import turn_functions
from leptonc.ir.diagnostics import LeptonBug, LeptonError
from leptonc.ir.extension_text import identities
from leptonc.ir.graph import Graph

LINKERS = ("ld", "ld.lld", "cc", "gcc", "clang")
"""Looked for in this order; the first two link directly, which is ten times faster."""
CROSS_LINKERS = ("ld.lld", "{}-linux-gnu-ld", "{}-linux-gnu-gcc")
"""The same for another machine than this one."""


def find_linker(machine: str = "") -> str:
    """The path of a linker for `machine`, this one where it is empty.

    Raises E502, which says what to install, where there is none.
    """
    names, package = LINKERS, "binutils (or a C compiler)"
    if machine not in ("", platform.machine()):
        names = tuple(name.format(machine) for name in CROSS_LINKERS)
        package = f"lld (or binutils-{machine}-linux-gnu)"
    for name in names:
        path = shutil.which(name)
        if path is not None:
            return path
    raise LeptonError(
        f"no linker {f'for {machine} ' * (names != LINKERS)}was found: looked for "
        f"{', '.join(names)}",
        notes=[f"install {package}, or put one on PATH"],
        code="E502",
    )


def build_library(
    graph: Graph, cpu: CpuTarget, path: Path, *,
    cache: Cache | None = None, progress: Progress | None = None, jobs: int = 1,
) -> LibraryReport:  # fmt: skip
    """Write the shared library of `graph`, which is in its final form, to `path`.

    With `jobs` above 1 kernels are compiled in that many forked processes.
    """
    linker = find_linker(cpu.machine)
    refuse_unsupported(graph)
    target = tvm_target(cpu)
    program = relax_program(graph, kernel_sources(graph))
    with tempfile.TemporaryDirectory(prefix="leptonc-", dir=path.parent) as name:
        folder = Path(name)
        missing = _cached_objects(program.kernels, cpu, folder, cache)
        _compile_all(missing, cpu, target, folder, progress, jobs)
        if cache is not None:
            for kernel, source in missing.items():
                cache.put(_key(source, cpu), (folder / f"{kernel}.o").read_bytes())
        planned, machine = _machine_objects(program, cpu.threads, target, folder)
        called = [op for kernel in program.kernels.values() if (op := c_operation(kernel))]
        if called:
            write_slots(called, target, folder / "slots.o")
            machine.append(folder / "slots.o")
        _link(linker, [*machine, *(folder / f"{kernel}.o" for kernel in program.kernels)], path)
    fixed = planned.pop("", 0)
    return LibraryReport(len(program.kernels), len(missing), fixed, planned)


def _key(source: KernelSource, cpu: CpuTarget) -> str:
    key = {"kernel": source.text, "cpu": repr(cpu), "tvm": tvm.__version__}
    return json.dumps({**key, "extensions": identities(source.graph)})


def _cached_objects(
    kernels: Mapping[str, KernelSource], cpu: CpuTarget, folder: Path, cache: Cache | None
) -> dict[str, KernelSource]:
    """Write the objects that the cache has; the kernels it does not have."""
    missing: dict[str, KernelSource] = {}
    for name, source in kernels.items():
        data = cache.get(_key(source, cpu)) if cache is not None else None
        if data is None:
            missing[name] = source
        else:
            (folder / f"{name}.o").write_bytes(data)
    return missing


def _compile_all(
    kernels: Mapping[str, KernelSource], cpu: CpuTarget, target: tvm.target.Target, folder: Path,
    progress: Progress | None, jobs: int,
) -> None:  # fmt: skip
    """One object file a kernel. Forking is safe: nothing of this process has started threads.

    Each process takes the next kernel that nobody has begun, the longest first: shares that are
    made before would leave some processes with nothing to do in the end.
    """
    todo = sorted(kernels.items(), key=lambda kernel: -len(kernel[1].text))
    children: list[int] = []
    for _ in range(1, min(jobs, len(todo))):
        child = os.fork()
        if child == 0:
            os._exit(_compile_quietly(todo, cpu, target, folder))
        children.append(child)
    for done, (name, source) in enumerate(todo):
        if progress is not None:
            progress("kernels", done, len(todo))
        if _begin(name, folder):
            compile_kernel(source, cpu, target, folder / f"{name}.o")
    for child in children:
        os.waitpid(child, 0)
    # what a child failed to make is made here, where its error can be told
    for name, source in todo:
        if not (folder / f"{name}.o").exists():
            compile_kernel(source, cpu, target, folder / f"{name}.o")


def _begin(name: str, folder: Path) -> bool:
    """Whether this process is the first to begin with the kernel."""
    try:
        os.close(os.open(folder / f"{name}.begun", os.O_CREAT | os.O_EXCL | os.O_CLOEXEC))
    except FileExistsError:
        return False
    return True


def _compile_quietly(
    kernels: Iterable[tuple[str, KernelSource]],
    cpu: CpuTarget,
    target: tvm.target.Target,
    folder: Path,
) -> int:
    try:
        for name, source in kernels:
            if _begin(name, folder):
                temporary = folder / f"{name}.part.o"  # TVM goes by the end of the name
                compile_kernel(source, cpu, target, temporary)
                temporary.rename(folder / f"{name}.o")
    except BaseException:
        return 1
    return 0


def compile_kernel(
    source: KernelSource, cpu: CpuTarget, target: tvm.target.Target, path: Path
) -> None:
    """Write the object file of one kernel."""
    try:
        called = c_operation(source)
        if called is not None:
            write_kernel(source, called, target, path)
            return
        function = lower_kernel(source, cpu)
        module = tvm.IRModule({source.name: function})
        tirx.build(module, target, PIPELINE).write_to_file(str(path))
    except (LeptonBug, LeptonError):
        raise
    except Exception as problem:
        lines = str(problem).strip().splitlines()
        summary = lines[-1] if lines else type(problem).__name__
        raise LeptonBug(
            f"the kernel of {source.op.name} does not compile: {summary}",
            source.op.location,
            notes=[f"its operations:\n{source.text}"],
        ) from problem


def _machine_objects(
    program: Program, threads: int, target: tvm.target.Target, folder: Path
) -> tuple[dict[str, int], list[Path]]:
    """The memory plan in bytes, and the objects of the bytecode and its helpers."""
    with target:
        module = tvm.transform.Sequential(memory_passes(threads))(program.module)
        planned = planned_bytes(module)
        module = tvm.transform.Sequential(_machine_passes())(module)
    builder = relax.ExecBuilder()
    write_bytecode(builder, module, program.controls)
    functions: dict[Any, Any] = {
        name: _in_slot_order(function)
        for name, function in sorted(module.functions.items(), key=lambda item: item[0].name_hint)
        if isinstance(function, tirx.PrimFunc)
    }
    loops = [control for control in program.controls.values() if isinstance(control, Loop)]
    if loops:
        functions |= turn_functions(type for loop in loops for type in loop.scans)
    if places_tensors(module):
        functions[PLACE] = place_function()
    functions = functions or {"leptonc_unused": _unused_function()}
    library = tirx.build(tvm.IRModule(functions), target=target)
    executable = tvm_ffi.get_global_func("relax.VMLink")(builder, target, library, [], {})
    machine, bytecode = folder / "machine.o", folder / "bytecode.o"
    library.write_to_file(str(machine))
    pack = tvm_ffi.get_global_func("runtime.ModulePackImportsToLLVM")
    pack(executable, False, str(target), "").write_to_file(str(bytecode))
    return planned, [machine, bytecode]


def memory_passes(threads: int) -> list[Any]:
    """TVM's own way down to allocations, with places in arenas of ours.

    Its reshape recognition is left out, which our kernels break.
    """
    transform = relax.transform
    return [
        transform.ToNonDataflow(), transform.RemovePurityChecking(), transform.CallTIRRewrite(),
        transform.StaticPlanBlockMemory(), ShareArenas(threads), transform.LowerAllocTensor(),
    ]  # fmt: skip


def _machine_passes() -> list[Any]:
    """TVM's own way from there to its machine."""
    transform = relax.transform
    return [
        transform.KillAfterLastUse(),
        transform.LowerRuntimeBuiltin(), transform.ComputePrimValue(), transform.VMShapeLower(),
        transform.AttachGlobalSymbol(),
    ]  # fmt: skip


def _in_slot_order(function: PrimFunc) -> PrimFunc:
    """A function that computes extents, its stores by slot: TVM's order varies between runs."""
    body = function.body
    if not isinstance(body, tirx.SeqStmt) or not all(
        isinstance(s, tirx.BufferStore) for s in body.seq
    ):
        return function
    stores = sorted(body.seq, key=lambda store: int(store.indices[0]))
    written = {int(store.indices[0]) for store in stores}
    reads: list[int] = []
    for store in stores:
        tvm_ffi.structural_walk(
            store.value, (TensorLoad, lambda load: reads.append(int(load.indices[0])))
        )
    if written & set(reads):
        return function
    return function.with_body(tirx.SeqStmt(stores))


def _unused_function() -> PrimFunc:
    """TVM links no library without a function in it."""
    from tvm.script.ir_builder import IRBuilder
    from tvm.tirx.script import builder as T  # noqa: N812

    with IRBuilder() as ib, T.prim_func():
        T.func_name("leptonc_unused")
        T.func_attr({"global_symbol": "leptonc_unused"})
        T.evaluate(tirx.const(0, "int32"))
    return ib.get()


def _link(linker: str, objects: Iterable[Path], path: Path) -> None:
    """Join the objects; nothing of the C library is needed."""
    direct = Path(linker).name.endswith("ld")
    flags = ["-z", "noexecstack", "-z", "relro", "--gc-sections"]
    if not direct:
        flags = [
            "-nostdlib",
            *(f"-Wl,{flag}" for flag in ("-z,noexecstack", "-z,relro", "--gc-sections")),
        ]
    command = [linker, "-shared", "-s", *flags, "-o", str(path), *map(str, objects)]
    finished = subprocess.run(command, capture_output=True, text=True, check=False)
    if finished.returncode:
        raise LeptonError(
            f"{linker} failed with status {finished.returncode}",
            notes=[finished.stderr.strip()[:500] or "it said nothing"],
            code="E503",
        )
