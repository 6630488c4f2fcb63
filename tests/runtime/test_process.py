"""What a process that only runs artefacts imports, and what it does without."""
# pyright: standard

from __future__ import annotations

import errno
import os
import tempfile
from pathlib import Path

import numpy as np
import pytest

from leptonc.ir.diagnostics import LeptonError
from leptonc.runtime import host, load, native
from tests.runtime.conftest import Artifacts, Run

X = np.ones((2, 4), "f4")
Y = X + np.array([1, 2, 3, 4], "f4")


def test_running_imports_neither_compiler_nor_onnx(artifacts: Artifacts, run_python: Run) -> None:
    code = """
import sys
import numpy as np
import leptonc
assert "numpy" not in leptonc.__dict__ and "leptonc.ir" not in sys.modules
session = leptonc.load(sys.argv[1])
session.run({"x": np.ones((2, 4), "f4")})
session.close()
forbidden = {"tvm", "onnx", "rich", "click", "leptonc.passes"}
forbidden |= {"leptonc.backends", "leptonc.tools", "leptonc.driver", "leptonc.ir.graph"}
found = forbidden & set(sys.modules)
assert not found, found
"""
    run_python(code, artifacts("affine"))


def test_importing_leptonc_imports_next_to_nothing(run_python: Run) -> None:
    code = """
import sys
before = set(sys.modules)
import leptonc
assert leptonc.__version__
new = {name.split(".")[0] for name in set(sys.modules) - before} - {"leptonc"}
assert new <= set(sys.stdlib_module_names), new
"""
    run_python(code)


def test_the_runtime_and_the_compiler_share_a_process(
    artifacts: Artifacts, run_python: Run
) -> None:
    code = """
import sys
import numpy as np
from leptonc.runtime import load
x = np.ones((2, 4), "f4")
with load(sys.argv[1]) as session:
    before = session.run({"x": x})["y"]
    import tvm
    assert tvm.runtime.tensor(x).numpy().sum() == 8
    assert (session.run({"x": x})["y"] == before).all()
with load(sys.argv[1], 2) as session:
    assert (session.run({"x": x})["y"] == before).all()
"""
    run_python(code, artifacts("parallel"))


@pytest.mark.parametrize("place", ["a folder/ü 名前.lepton", "x" * 240 + ".lepton"])
def test_any_path_and_a_bare_environment_do(
    artifacts: Artifacts, run_python: Run, tmp_path: Path, place: str
) -> None:
    path = tmp_path / place
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(artifacts("affine").read_bytes())
    code = """
import os, shutil, sys, tempfile
gone = tempfile.mkdtemp()
os.chdir(gone)
shutil.rmtree(gone)
for name in ("HOME", "PATH", "LANG", "TMPDIR", "XDG_RUNTIME_DIR"):
    os.environ.pop(name, None)
os.environ.update(HOME="/nonexistent", LC_ALL="C")
import numpy as np
from leptonc.runtime import load
load(sys.argv[1]).run({"x": np.ones((2, 4), "f4")})
"""
    run_python(code, path)


def test_a_run_changes_no_state_of_the_process(artifacts: Artifacts, run_python: Run) -> None:
    code = """
import gc, locale, os, signal, sys, threading, warnings
import numpy as np

def state():
    signals = [signal.getsignal(s) for s in signal.valid_signals() if s not in (9, 19)]
    return [dict(os.environ), os.getcwd(), locale.getlocale(), signals, sys.getswitchinterval(),
            np.geterr(), gc.isenabled(), os.sched_getaffinity(0), threading.active_count()]

from leptonc.runtime import load
before = state()
with load(sys.argv[1], 1) as session:
    session.run({"x": np.ones((2, 4), "f4")})
assert state() == before
"""
    run_python(code, artifacts("parallel"))


def test_sessions_leak_no_descriptors(artifacts: Artifacts) -> None:
    path = artifacts("affine")
    load(path).close()
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(20):
        with load(path) as session:
            session.run({"x": X})
    assert len(os.listdir("/proc/self/fd")) == before


def refuse(*_: object, **__: object) -> int:
    raise OSError(errno.EACCES, "Permission denied")


def test_without_memory_files_a_folder_is_used(
    artifacts: Artifacts, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(os, "memfd_create", refuse)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with load(artifacts("affine")) as session:
        assert list(tmp_path.iterdir()) == []  # loaded and gone
        np.testing.assert_array_equal(session.run({"x": X})["y"], Y)


def test_older_kernels_do_not_know_the_flag_of_memory_files(
    artifacts: Artifacts, monkeypatch: pytest.MonkeyPatch
) -> None:
    create = os.memfd_create

    def old(name: str, flags: int) -> int:
        if flags & ~os.MFD_CLOEXEC:
            raise OSError(errno.EINVAL, "Invalid argument")
        return create(name, flags)

    monkeypatch.setattr(os, "memfd_create", old)
    with load(artifacts("affine")) as session:
        np.testing.assert_array_equal(session.run({"x": X})["y"], Y)


def test_when_nothing_can_be_executed_the_reasons_are_listed(
    artifacts: Artifacts, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path = tmp_path / "m.lepton"
    path.write_bytes(artifacts("affine").read_bytes())
    monkeypatch.setattr(os, "memfd_create", refuse)
    monkeypatch.setattr(tempfile, "NamedTemporaryFile", refuse)
    with pytest.raises(LeptonError, match=r"E613.*does not load") as caught:
        load(path)
    assert len(caught.value.notes) >= 2
    assert all("Permission denied" in note for note in caught.value.notes)


def test_a_missing_runtime_is_an_error_with_a_remedy(artifacts: Artifacts, run_python: Run) -> None:
    code = """
import sys, importlib.util
find = importlib.util.find_spec
importlib.util.find_spec = lambda name, *rest: None if name == "tvm" else find(name, *rest)
from leptonc import load, LeptonError
try:
    load(sys.argv[1])
except LeptonError as error:
    assert error.code == "E613" and "apache-tvm" in error.notes[0], error
else:
    raise AssertionError
"""
    run_python(code, artifacts("affine"))


def files(root: Path, contents: dict[str, str]) -> Path:
    for name, text in contents.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


V2 = {"proc/self/cgroup": "0::/a/b\n"}
V1 = {"proc/self/cgroup": "12:memory:/a\n3:cpu,cpuacct:/a\n"}


@pytest.mark.parametrize(
    ("contents", "threads"),
    [
        ({}, 8),
        (V2, 8),
        ({**V2, "sys/fs/cgroup/a/b/cpu.max": "max 100000"}, 8),
        ({**V2, "sys/fs/cgroup/a/b/cpu.max": "200000 100000"}, 2),
        ({**V2, "sys/fs/cgroup/a/b/cpu.max": "250000 100000"}, 2),
        ({**V2, "sys/fs/cgroup/a/cpu.max": "300000 100000"}, 3),
        ({**V2, "sys/fs/cgroup/cpu.max": "50000 100000"}, 1),
        ({**V2, "sys/fs/cgroup/cpu.max": "nonsense"}, 8),
        ({"proc/self/cgroup": "nonsense\n::\n"}, 8),
        (
            {
                **V1,
                "sys/fs/cgroup/cpu/a/cpu.cfs_quota_us": "400000\n",
                "sys/fs/cgroup/cpu/a/cpu.cfs_period_us": "100000\n",
            },
            4,
        ),
        (
            {
                **V1,
                "sys/fs/cgroup/cpu/a/cpu.cfs_quota_us": "-1\n",
                "sys/fs/cgroup/cpu/a/cpu.cfs_period_us": "100000\n",
            },
            8,
        ),
    ],
)
def test_threads_are_what_affinity_and_quota_allow(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, contents: dict[str, str], threads: int
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))
    assert host.available_threads(files(tmp_path, contents)) == threads


def test_threads_of_zero_are_as_many_as_may_be_used(artifacts: Artifacts) -> None:
    with load(artifacts("affine"), 0) as session:
        assert session.threads == host.available_threads()


def test_features_are_the_flags_of_the_first_processor(tmp_path: Path) -> None:
    text = "processor : 0\nflags\t\t: fpu avx2 fma\n\nprocessor : 1\nflags : other\n"
    root = files(tmp_path, {"proc/cpuinfo": text})
    assert host.machine_features(root) == {"fpu", "avx2", "fma"}
    arm = files(tmp_path / "arm", {"proc/cpuinfo": "Features : fp asimd\n"})
    assert host.machine_features(arm) == {"fp", "asimd"}
    assert host.machine_features(tmp_path / "nothing") == frozenset()


def test_the_native_runtime_is_loaded_once() -> None:
    assert native.native() is native.native()
