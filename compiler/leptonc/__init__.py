"""leptonc: compiles ONNX models into artefacts that run.

Everything named here is imported when it is first used, so that `import leptonc` costs nothing and
running an artefact never loads the compiler.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from leptonc.api import compile, optimize
    from leptonc.ir.diagnostics import LeptonError
    from leptonc.ir.graph import Graph
    from leptonc.runtime import Session, load
    from leptonc.targets import Target

__version__ = "0.1.0"

__all__ = [
    "Graph", "LeptonError", "Session", "Target", "__version__", "compile", "load", "optimize",
]  # fmt: skip

_HOMES = {
    "Graph": "leptonc.ir.graph",
    "LeptonError": "leptonc.ir.diagnostics",
    "Session": "leptonc.runtime",
    "Target": "leptonc.targets",
    "compile": "leptonc.api",
    "load": "leptonc.runtime",
    "optimize": "leptonc.api",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'leptonc' has no attribute {name!r}")
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
