# pyright: standard
"""The native runtime: TVM's virtual machine and thread pool, without TVM's compiler."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import importlib.util
import itertools
import os
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, TypeAlias

from leptonc.ir.diagnostics import LeptonError, shown_path
from leptonc.runtime.interface import interface

_CPU = 1
_PLAIN, _POOLED = 1, 2
_EXECUTABLE_MEMFD = 0x10  # MFD_EXEC, which Python does not name yet
_LAUNCH = b"__TVMBackendParallelLaunch"
_NUMBERS = b"vm.builtin.tensor_to_shape"
_CONTROL = (b"vm.builtin.read_if_cond", b"leptonc_turn")
_SIZES = b"vm.builtin.alloc_shape_heap"


class Native(NamedTuple):
    """The functions of the native runtime that sessions call."""

    load_library: Callable[[str, str], Any]
    array: Callable[[list[Any]], Any]
    array_item: Callable[[Any, int], Any]
    from_dlpack: Callable[..., Any]
    view: Callable[[Any, Any, Any, int], Any]
    shape: Callable[[tuple[int, ...]], Any]
    dtype: Callable[[str], Any]
    tensor: type
    function: Callable[[Callable[..., Any]], Any]
    """Makes a function of Python's callable from native code."""
    set_threads: Callable[[int], Any]
    """Sets how many threads a parallel loop started by the calling thread may take; 0 is the
    runtime's own choice."""
    free_memory: Callable[[], Any]
    """Gives back the memory that is kept for later runs."""
    forget_memory: Callable[[], Any]
    """Keeps no memory for later runs; the C library may."""


@functools.cache
def native() -> Native:
    """The native runtime, loaded at the first call; an error of the user's where it is missing."""
    try:
        parts = interface()
        library = ctypes.PyDLL(_runtime_path(), ctypes.RTLD_GLOBAL)
        set_threads = library._ZN3tvm7runtime9threading17SetMaxConcurrencyEi
    except (ImportError, OSError, AttributeError) as error:
        raise LeptonError(
            f"the native runtime does not load: {error}",
            notes=["install it again: pip install --force-reinstall apache-tvm apache-tvm-ffi"],
            code="E613",
        ) from None
    set_threads.argtypes, set_threads.restype = [ctypes.c_int], None
    # The pool would pin its threads to the first processors, whatever this process may use.
    ctypes.CDLL(None).setenv(b"TVM_BIND_THREADS", b"0", 0)
    find = parts["registry"].get_global_func
    tensors = parts["_tensor"]
    return Native(
        load_library=find("ffi.Module.load_from_file.so"),
        array=parts["container"].Array,
        array_item=find("ffi.ArrayGetItem"),
        from_dlpack=tensors.from_dlpack,
        view=find("runtime.TVMTensorCreateView"),
        shape=tensors.Shape,
        dtype=parts["_dtype"].dtype,
        tensor=tensors.Tensor,
        function=parts["_convert"].convert,
        set_threads=set_threads,
        free_memory=functools.partial(_free, find("vm.builtin.memory_manager.clear")),
        forget_memory=find("vm.builtin.memory_manager.clear"),
    )


def _free(clear: Callable[[], Any]) -> None:
    clear()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # other C libraries have none
    if trim is not None:
        trim(0)


def _runtime_path() -> str:
    """The runtime library inside TVM's distribution, found without importing it."""
    found = importlib.util.find_spec("tvm")
    for folder in (found.submodule_search_locations or ()) if found else ():
        path = os.path.join(folder, "lib", "libtvm_runtime.so")
        if os.path.isfile(path):
            return path
    raise ImportError("libtvm_runtime.so is not where apache-tvm keeps it")


def is_parallel(code: memoryview) -> bool:
    """Whether any kernel of the library starts parallel loops."""
    return _LAUNCH in bytes(code)


class Sizes(NamedTuple):
    """What the sizes of a program's tensors depend on."""

    shapes: bool
    """Whether any differs with the extents of the inputs."""
    data: bool
    """Whether any may differ from call to call whatever those are."""


def sizes_of(code: memoryview, *, told: bool = False) -> Sizes:
    """What sizes in the program depend on.

    Numbers that it reads may be checked alone: where the extents of inputs have `told` all that is
    planned, only the memory of choices and loops may still differ with data.
    """
    content = bytes(code)
    shapes, reads = _SIZES in content, _NUMBERS in content
    choice, loop = (name in content for name in _CONTROL)
    return Sizes(shapes, shapes and (choice or (reads and (loop or not told))))


def load_library(code: memoryview, path: str) -> Any:
    """The library, loaded from memory or, where that is forbidden, from a file that is gone after.

    A folder may be mounted such that nothing in it can be executed, so several are tried.
    """
    failures: list[str] = []
    for place in places_of(path):
        try:
            with place(code) as name:
                return native().load_library(name, "so")
        except (OSError, RuntimeError) as error:
            failures.append(str(error).strip().splitlines()[-1])
    raise LeptonError(
        f"the library in {shown_path(path)} does not load", notes=failures, code="E613"
    )


Place: TypeAlias = Callable[[memoryview], contextlib.AbstractContextManager[str]]


def places_of(path: str) -> Iterator[Place]:
    """Ways to have code under a name that the loader takes, the best first."""
    yield _in_memory
    yield from map(_in_folder, _folders(path))


_numbers = itertools.count()


@contextlib.contextmanager
def _in_memory(code: memoryview) -> Iterator[str]:
    try:
        descriptor = os.memfd_create("leptonc", os.MFD_CLOEXEC | _EXECUTABLE_MEMFD)
    except OSError:  # kernels before 6.3 do not know the flag
        descriptor = os.memfd_create("leptonc", os.MFD_CLOEXEC)
    with os.fdopen(descriptor, "wb") as file:
        file.write(code)
        file.flush()
        # The loader takes two equal paths for one library, and descriptors are used again: the
        # number of this load goes into the path, spelled in steps that lead nowhere.
        steps = "".join("./" if bit == "1" else "/" for bit in f"{next(_numbers):b}")
        yield f"/proc/self/fd/{steps}{descriptor}"


def _folders(path: str) -> Iterator[str]:
    import tempfile  # costs milliseconds, and is needed where memory cannot be executed

    yield tempfile.gettempdir()
    yield from filter(None, [os.environ.get("XDG_RUNTIME_DIR"), os.path.dirname(path)])


def _in_folder(folder: str) -> Place:
    @contextlib.contextmanager
    def place(code: memoryview) -> Iterator[str]:
        import tempfile

        with tempfile.NamedTemporaryFile(dir=folder, prefix=".leptonc-", suffix=".so") as file:
            file.write(code)
            file.flush()
            yield file.name

    return place


def new_machine(library: Any, *, pooled: bool) -> tuple[Any, Callable[..., Any]]:
    """A virtual machine for the library, and its main function; one thread may be in it at a time.

    The machine costs a tenth of a millisecond and no memory to speak of. A pool keeps what a
    program needs for the next call, which then finds its pages mapped; but it looks for exactly
    the size: where data tells sizes it would keep more and more, and memory comes from the C
    library.
    """
    machine = library["vm_load_executable"]()
    machine["vm_initialization"](_CPU, 0, _POOLED if pooled else _PLAIN)
    return machine, machine["main"]
