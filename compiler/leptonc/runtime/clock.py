# pyright: standard
"""A function of native code that notes the time, and takes nothing apart that it is given.

One of Python's gets its arguments as Python's objects: that takes longer than many a kernel does.
"""

from __future__ import annotations

import ctypes
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

_NAME = "leptonc.clock"


class _Text(ctypes.Structure):
    _fields_ = (("data", ctypes.c_char_p), ("size", ctypes.c_size_t))


_Call = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int32, ctypes.c_void_p
)


@contextmanager
def clock(notes: list[int]) -> Iterator[Any]:
    """A function that adds the nanoseconds of each of its calls to `notes`; gone after.

    For `Session.observed`: it is called before and after each call of a program.
    """
    import tvm_ffi
    from tvm_ffi.libinfo import find_libtvm_ffi
    from tvm_ffi.registry import remove_global_func

    library = ctypes.CDLL(find_libtvm_ffi())
    call = _Call(_noting(notes.append))
    handle = ctypes.c_void_p()
    made = library.TVMFFIFunctionCreate(None, call, None, ctypes.byref(handle))
    name = _NAME.encode()
    text = _Text(name, len(name))
    if made or library.TVMFFIFunctionSetGlobal(ctypes.byref(text), handle, 1):
        raise OSError("the native runtime takes no function")
    library.TVMFFIObjectDecRef(handle)
    try:
        yield tvm_ffi.get_global_func(_NAME)
    finally:
        remove_global_func(_NAME)
        del call  # not before: native code had its address


def _noting(add: Callable[[int], None]) -> Callable[..., int]:
    now = time.perf_counter_ns

    def note(*_: object) -> int:
        add(now())
        return 0

    return note
