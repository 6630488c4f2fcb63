"""Real models, from their file to numbers that a fresh process computes from the artefact."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import leptonc
from tests.models.reference import check, run_onnxruntime
from tests.models.zoo import MODELS, Model

ROOT = Path(__file__).parents[2]
COMPILER = str(ROOT / "compiler")

RUN = """
import sys, numpy, leptonc.runtime
session = leptonc.runtime.load(sys.argv[1])
for case in sys.argv[2:]:
    outputs = session.run(dict(numpy.load(case)))
    numpy.savez(case + ".out", **{str(n): array for n, array in enumerate(outputs.values())})
    print(*outputs, sep="\\n")
loaded = {"tvm", "onnx", "leptonc.passes"} & set(sys.modules)
assert not loaded, loaded
"""


def run_in_a_fresh_process(artefact: Path, cases: list[Path]) -> list[dict[str, np.ndarray]]:
    """The outputs of each case, by a process that loads the artefact alone."""
    done = subprocess.run(
        [sys.executable, "-c", RUN, str(artefact), *map(str, cases)],
        env={**os.environ, "PYTHONPATH": COMPILER},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    names = done.stdout.splitlines()
    results: list[dict[str, np.ndarray]] = []
    for case in cases:
        arrays = np.load(f"{case}.out.npz")
        mine, names = names[: len(arrays)], names[len(arrays) :]
        results.append({name: arrays[str(index)] for index, name in enumerate(mine)})
    return results


@pytest.mark.parametrize("model", [pytest.param(model, id=model.name) for model in MODELS.values()])
def test_a_saved_model_gives_the_reference_numbers(model: Model, tmp_path: Path) -> None:
    artefact = tmp_path / "model.lepton"
    leptonc.compile(model.path(), target="cpu").save(artefact)
    cases: list[Path] = []
    for case in range(len(model.cases)):
        cases.append(tmp_path / f"{case}.npz")
        np.savez(cases[-1], allow_pickle=False, **model.feeds(case))
    for case, outputs in enumerate(run_in_a_fresh_process(artefact, cases)):
        check(model, outputs, run_onnxruntime(model.path(), model.feeds(case)))
