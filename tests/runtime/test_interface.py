"""Only parts of TVM's interface are imported; whoever wants the whole has it, before or after."""

from __future__ import annotations

import subprocess
import sys

import pytest

PARTS = "from leptonc.runtime.native import native; native()"
AFTER = {
    "an attribute": "import tvm_ffi; assert tvm_ffi.structural_equal(1, 1)",
    "a name": "from tvm_ffi import StructuralKey",
    "a version": "import tvm_ffi; assert tvm_ffi.__version__[0].isdigit()",
    "a module": "import tvm_ffi.structural; tvm_ffi.structural.structural_equal(1, 1)",
    "a module that was not imported": "import tvm_ffi; tvm_ffi.serialization.to_json_graph_str(1)",
    "a part": "import tvm_ffi; import tvm_ffi.core; tvm_ffi.Map; tvm_ffi.core.Tensor",
    "the compiler": "import tvm; assert tvm.runtime.tensor([1]).numpy()[0] == 1",
}
SAME = """
import tvm_ffi
whole = tvm_ffi.Map.__mro__ and sys.modules['tvm_ffi']
assert native().tensor is tvm_ffi.Tensor is whole.Tensor is whole.core.Tensor
assert native().array is whole.Array is whole.container.Array
"""
CROWD = """
import threading
def use():
    import tvm_ffi
    found.append((tvm_ffi.Map, tvm_ffi.core.Tensor, tvm_ffi.Array))
found = []
threads = [threading.Thread(target=use) for _ in range(8)]
for thread in threads: thread.start()
for thread in threads: thread.join()
assert len(found) == 8 and len(set(found)) == 1
"""


def run(code: str) -> None:
    """Run it in a process of its own, with warnings as errors."""
    command = [sys.executable, "-W", "error", "-c", f"import sys\n{code}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("use", AFTER.values(), ids=AFTER.keys())
def test_what_was_not_imported_comes_when_it_is_asked_for(use: str) -> None:
    """The package is whole for others."""
    run(f"{PARTS}\n{use}")


def test_only_parts_are_imported() -> None:
    """What starts a process of its own, writes C++ or looks for packages is not needed."""
    unneeded = "'subprocess', 'importlib.metadata', 'tvm_ffi.cpp', 'tvm_ffi.dataclasses'"
    run(f"{PARTS}\nassert not {{{unneeded}}} & sys.modules.keys()")


def test_asking_what_nobody_has_imports_nothing() -> None:
    """Modules are asked for such names by tools that look at all of them."""
    ask = "import tvm_ffi; assert not hasattr(tvm_ffi, '__wrapped__')"
    run(f"{PARTS}\n{ask}\nassert 'tvm_ffi.cpp' not in sys.modules")


def test_the_parts_are_those_of_the_whole() -> None:
    """No class exists twice."""
    run(f"{PARTS}\n{SAME}")


def test_many_threads_ask_at_once() -> None:
    """All of them get the same package."""
    run(f"{PARTS}\n{CROWD}")


def test_a_package_that_was_there_before_is_used() -> None:
    """Its classes are the runtime's."""
    run(f"import tvm_ffi\n{PARTS}\nassert native().array is tvm_ffi.Array")


def test_another_layout_of_the_package_is_imported_whole() -> None:
    """Parts that are not there are an optimisation that is not."""
    run(
        "import leptonc.runtime.interface as interface\n"
        "interface._LIBRARY = 'elsewhere.so'\n"
        f"{PARTS}\nassert 'tvm_ffi.cpp' in sys.modules"
    )


def test_no_package_is_said() -> None:
    """As an error of the user's."""
    run(
        "import leptonc.runtime.interface as interface\n"
        "from leptonc.ir.diagnostics import LeptonError\n"
        "from leptonc.runtime.native import native\n"
        "sys.modules['tvm_ffi'] = None\n"
        "try: native()\n"
        "except LeptonError as error: assert error.code == 'E613', error\n"
        "else: raise AssertionError"
    )
