# pyright: standard
"""Shared libraries of other packages, and the C functions in them that a program calls."""

from __future__ import annotations

import _ctypes
import ctypes
import weakref
from collections.abc import Sequence
from typing import Any

from leptonc.artifact import Artifact
from leptonc.ir.diagnostics import LeptonError, shown
from leptonc.ir.extension import ABI_VERSION
from leptonc.runtime.native import places_of

VERSION = "lepton_abi_version"
"""The variable of a library that says which header it was compiled with."""

_BIND = "leptonc_bind_{}"


class SharedLibrary:
    """A loaded shared library of C functions for operators."""

    def __init__(self, code: bytes | memoryview, what: str) -> None:
        """Load it; raises E813 where that fails or it is for another version of the header.

        `what` is what errors call it.
        """
        self.what = what
        self._library: Any = _opened(memoryview(code), what)
        _check_version(self._library, what)

    def address(self, symbol: str) -> int:
        """Where a function is; raises E813 where the library has none of that name."""
        function = getattr(self._library, symbol, None)
        if function is None:
            raise LeptonError(
                f"{self.what} has no function {shown(symbol)}",
                notes=['export it: extern "C" in C++, and no visibility that hides it'],
                code="E813",
            )
        return ctypes.cast(function, ctypes.c_void_p).value or 0

    def close(self) -> None:
        """Unload it; none of its functions may be running or be called again."""
        _ctypes.dlclose(self._library._handle)


def _opened(code: memoryview, what: str) -> Any:
    failures: list[str] = []
    for place in places_of(""):
        try:
            with place(code) as name:
                return ctypes.CDLL(name, mode=ctypes.RTLD_LOCAL)
        except OSError as error:
            failures.append(str(error).strip().splitlines()[-1])
    raise LeptonError(f"{what} does not load", notes=failures[:1], code="E813")


def _check_version(library: Any, what: str) -> None:
    try:
        version = ctypes.c_int.in_dll(library, VERSION).value
    except ValueError:
        raise LeptonError(
            f"{what} does not say which version of lepton_operator.h it is for",
            notes=["write LEPTON_OPERATOR_LIBRARY once in one of its files"],
            code="E813",
        ) from None
    if version != ABI_VERSION:
        raise LeptonError(
            f"{what} is for version {version} of lepton_operator.h, this is {ABI_VERSION}",
            notes=["compile it again with the header that this leptonc has"],
            code="E813",
        )


class BoundLibrary:
    """A loaded library and those of other packages, which stay loaded for as long as it is used."""

    def __init__(self, library: Any, carried: Sequence[SharedLibrary]) -> None:
        self._library = library
        weakref.finalize(self, _close_all, carried).atexit = False

    def __getitem__(self, name: str) -> Any:
        return self._library[name]


def bound(library: Any, artifact: Artifact) -> Any:
    """The loaded library of an artefact, once it has the C functions it calls; raises E813."""
    carried: dict[str, SharedLibrary] = {}
    for name in artifact.manifest.carried:
        with artifact.carried(name) as code:
            carried[name] = SharedLibrary(code, f"the library {name} in {shown(artifact.path)}")
    for function in artifact.manifest.functions:
        address = carried[function.member].address(function.symbol)
        library.get_function(_BIND.format(function.slot), True)(address)
    return BoundLibrary(library, tuple(carried.values())) if carried else library


def _close_all(libraries: Sequence[SharedLibrary]) -> None:
    for library in libraries:
        library.close()
