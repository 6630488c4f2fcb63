"""No hostile model takes memory, processor time or a signal: all of them in one held child."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.robustness.test_hostile_models import REFUSED

ROOT = Path(__file__).parents[2]
MEMORY = 200 * 2**20
"""Bytes above those of the imports that all hostile models together may take."""

SECONDS = 300
"""Processor time of all of them; one that does not end reaches it."""

CHILD = """
import json, resource, sys
resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))
from leptonc.ir.diagnostics import LeptonError
from leptonc.onnx_import import import_model
from tests.robustness.models import relu
from tests.robustness.test_hostile_models import REFUSED

import_model(relu())
sources = {name: make() for name, (make, _, _) in REFUSED.items()}
sources = {n: s if isinstance(s, bytes) else s.SerializeToString() for n, s in sources.items()}
base = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
resource.setrlimit(resource.RLIMIT_DATA, (base * 1024 + 2 * MEMORY, -1))
refused = []
for name, source in sources.items():
    try:
        import_model(source)
    except LeptonError:
        refused.append(name)
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(json.dumps({"refused": refused, "above": (peak - base) * 1024}))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="limits of a process are Linux's here")
def test_hostile_models_stay_inside_memory_and_time() -> None:
    program = CHILD.replace("SECONDS", str(SECONDS)).replace("MEMORY", str(MEMORY))
    child = subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT,
        env={"PYTHONPATH": f"{ROOT / 'compiler'}:{ROOT}", "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert child.returncode == 0, child.stderr[-2000:]
    found = json.loads(child.stdout)
    assert found["refused"] == list(REFUSED)
    assert found["above"] < MEMORY
