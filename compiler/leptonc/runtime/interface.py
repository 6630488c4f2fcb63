# pyright: standard
"""The parts of TVM's interface to native code that a runtime needs.

The package imports all of itself, and with it a tenth of Python's library: that takes longer than
everything else between a process and its first result. Its modules that are needed are imported
alone, under their own names; the rest follows when anybody asks the package for it.
"""

from __future__ import annotations

import ctypes
import importlib
import importlib.util
import os
import sys
import threading
from types import ModuleType
from typing import Any

NAME = "tvm_ffi"
_PARTS = ("core", "error", "registry", "_dtype", "container", "_tensor", "_convert", "module")
_LIBRARY = "libtvm_ffi.so"


class Package(ModuleType):
    """Stands for the package while only parts of it are there; has all of it once it is asked."""

    def __getattr__(self, name: str) -> Any:
        """A module of the package alone, or what it has once it is whole."""
        if name.startswith("__") and not name.startswith("__version"):
            raise AttributeError(name)  # asked of every module there is, by whoever looks for one
        module = f"{NAME}.{name}"
        if module in sys.modules or importlib.util.find_spec(module) is not None:
            return importlib.import_module(module)
        return getattr(_whole(self), name)


_change = threading.Lock()  # what stands in `sys.modules` belongs to the whole process


def _whole(package: Package) -> ModuleType:
    """The package as it imports itself, with the modules that were there before."""
    with _change:
        if sys.modules.get(NAME) is package:
            del sys.modules[NAME]
    whole = importlib.import_module(NAME)  # whoever else does so waits for it
    for name, module in list(vars(package).items()):  # Python sets those that it imports then
        if isinstance(module, ModuleType) and module.__name__ == f"{NAME}.{name}":
            setattr(whole, name, module)
    return whole


def interface() -> dict[str, ModuleType]:
    """The parts by name."""
    if NAME not in sys.modules:
        try:
            _import_parts()
        except (ImportError, AttributeError, OSError):  # another version, put together otherwise
            for name in [name for name in sys.modules if name.partition(".")[0] == NAME]:
                del sys.modules[name]
            importlib.import_module(NAME)
    return {part: importlib.import_module(f"{NAME}.{part}") for part in _PARTS}


def _import_parts() -> None:
    spec = importlib.util.find_spec(NAME)
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError(f"No module named {NAME!r}", name=NAME)
    (folder,) = spec.submodule_search_locations
    ctypes.CDLL(os.path.join(folder, "lib", _LIBRARY), ctypes.RTLD_GLOBAL)
    package = importlib.util.module_from_spec(spec)
    package.__class__ = Package
    with _change:
        sys.modules.setdefault(NAME, package)
    for part in _PARTS:
        importlib.import_module(f"{NAME}.{part}")
