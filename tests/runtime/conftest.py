# pyright: standard
"""Artefacts that the tests of the runtime load, built once."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
Run = Callable[..., str]


class Artifacts:
    """Builds each artefact at the first call for it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __call__(self, name: str, dtype: str = "f32") -> Path:
        """The path of an artefact: affine, parallel, handed_on, paired, copies or scalar."""
        path = self.folder / f"{name}-{dtype}.lepton"
        if not path.exists():
            from tests.runtime import programs

            make = {
                "affine": programs.affine,
                "parallel": lambda: programs.affine(parallel=True),
                "handed_on": programs.handed_on,
                "paired": programs.paired,
                "copies": lambda: programs.copies(dtype, ("n", 3), ["n"]),
                "scalar": lambda: programs.copies(dtype, ()),
            }
            programs.save(path, *make[name]())
        return path


@pytest.fixture(scope="session")
def artifacts(tmp_path_factory: pytest.TempPathFactory) -> Artifacts:
    return Artifacts(tmp_path_factory.mktemp("artifacts"))


@pytest.fixture
def run_python() -> Run:
    """Runs code in a fresh process and gives back what it prints; it must end well."""

    def run(code: str, *arguments: object, cwd: Path | None = None) -> str:
        done = subprocess.run(
            [sys.executable, "-X", "faulthandler", "-c", code, *map(str, arguments)],
            env={**os.environ, "PYTHONPATH": str(ROOT / "compiler")},
            cwd=cwd,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert not done.stderr, done.stderr
        return done.stdout

    return run
