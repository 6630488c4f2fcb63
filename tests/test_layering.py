"""Which part of leptonc may import which, read from the sources and seen in fresh processes."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LAYERS = ("ir", "passes", "backends", "tools")
OWN = frozenset({"ir", "passes", "backends", "tools", "runtime"})

MAY_IMPORT = {
    "ir": {"ir"},
    "passes": {"ir", "passes"},
    "backends": {"ir", "backends"},
}
"""For each layer the subpackages of leptonc it may import; the other layers may import all."""

KNOWS_ONNX = (
    "compiler/leptonc/onnx_",
    "compiler/leptonc/check",
    "tools/",
)
KNOWS_TVM = ("backends/",)
RUNTIME_MAY_ASK = "leptonc.backends.cpu.target"
"""The one module of a backend that the runtime needs: what this machine can do."""


def sources() -> list[Path]:
    """Every module of the package, once."""
    tops = [ROOT / "compiler" / "leptonc", *(ROOT / layer for layer in LAYERS)]
    links = {ROOT / "compiler" / "leptonc" / layer for layer in LAYERS}
    return sorted(
        path for top in tops for path in top.rglob("*.py") if not links & set(path.parents)
    )


def imported(path: Path) -> Iterator[str]:
    """The full names of what a module imports anywhere in it, type checking included."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} has a relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def violations(path: str, names: Iterator[str] | list[str]) -> list[str]:
    """What a module of the repository at `path` imports and must not."""
    layer = path.split("/")[0]
    found: list[str] = []
    for name in names:
        top, *rest = name.split(".")
        part = rest[0] if rest else ""
        own = top == "leptonc"
        if own and layer in MAY_IMPORT and part not in MAY_IMPORT[layer]:
            found.append(name)
        runtime = path.startswith("compiler/leptonc/runtime/")
        compiling = part in {"passes", "backends"} and not name.startswith(RUNTIME_MAY_ASK)
        if own and runtime and compiling:
            found.append(name)
        if top in {"onnx", "onnx_graphsurgeon"} and not path.startswith(KNOWS_ONNX):
            found.append(name)
        if top == "tvm" and not path.startswith(KNOWS_TVM):
            found.append(name)
        if top == "tests":
            found.append(name)
    return found


@pytest.mark.parametrize(
    "path", [pytest.param(path, id=path.relative_to(ROOT).as_posix()) for path in sources()]
)
def test_a_module_imports_only_what_its_layer_may(path: Path) -> None:
    assert violations(path.relative_to(ROOT).as_posix(), imported(path)) == []


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("ir/types.py", "leptonc.passes.base"),
        ("passes/base.py", "leptonc.backends.base"),
        ("passes/base.py", "leptonc.driver"),
        ("backends/cpu/emit.py", "leptonc.passes.base"),
        ("backends/cpu/emit.py", "onnx"),
        ("ir/interpret.py", "onnx.numpy_helper"),
        ("compiler/leptonc/driver.py", "tvm"),
        ("compiler/leptonc/runtime/session.py", "leptonc.passes"),
        ("compiler/leptonc/runtime/session.py", "leptonc.backends.cpu.backend"),
        ("ir/types.py", "leptonc"),
    ],
)
def test_a_forbidden_import_is_found(path: str, name: str) -> None:
    assert violations(path, [name]) == [name]


def loaded_by(statement: str) -> set[str]:
    """The top-level modules that a fresh interpreter has loaded after the statement."""
    report = f"{statement}\nimport sys\nprint(*{{name.split('.')[0] for name in sys.modules}})"
    done = subprocess.run(
        [sys.executable, "-c", report],
        cwd=ROOT / "compiler",
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


HEAVY = {"tvm", "tvm_ffi", "onnx", "onnx_graphsurgeon", "onnxruntime", "rich", "click"}


def test_importing_leptonc_loads_nothing_heavy() -> None:
    assert loaded_by("import leptonc") & HEAVY == set()


def test_importing_the_runtime_loads_no_compiler() -> None:
    assert loaded_by("import leptonc.runtime") & (HEAVY - {"tvm_ffi"}) == set()
    loaded = loaded_by("import leptonc.runtime\nimport sys\nprint('end')")
    assert "leptonc" in loaded


def test_the_command_line_loads_no_compiler_for_its_help() -> None:
    assert loaded_by("import leptonc.cli") & (HEAVY - {"rich", "click"}) == set()
