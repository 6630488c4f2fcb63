"""What every measurement keeps: where it was made, and results that outlive an interrupted run."""

from __future__ import annotations

import datetime
import json
import platform
import subprocess
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import leptonc
from leptonc.backends.cpu.target import detect

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"


def circumstances() -> dict[str, str]:
    """Where and with what a measurement is made."""
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    ).stdout.strip()
    now = datetime.datetime.now(datetime.UTC)
    return {
        "date": now.date().isoformat(),
        "time": now.time().isoformat("seconds"),
        "commit": commit,
        "cpu": processor(),
        "python": platform.python_version(),
        "numpy": np.__version__,
        "leptonc": leptonc.__version__,
    }


def processor() -> str:
    """The processor's own name, its model, since names hide that, and the target it is to us."""
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    pairs = (line.partition(":") for line in reversed(lines))
    told = {key.strip(): value.strip() for key, _, value in pairs}
    name = told.get("model name", platform.processor())
    model = f"family {told.get('cpu family', '?')} model {told.get('model', '?')}"
    return f"{name} ({model}, {detect().name})"


def newest(reports: Sequence[dict[str, Any]]) -> dict[str, Any] | None:
    """The last report, of those that say no time the one that tells most."""
    return max(
        reports,
        key=lambda each: (each["date"], each.get("time", ""), len(each["results"])),
        default=None,
    )


def read(folder: Path) -> dict[str, Any] | None:
    """The newest report of a folder."""
    files = folder.glob("*.json")
    return newest([json.loads(file.read_text(encoding="utf-8")) for file in files])


def before(folder: Path, cpu: str) -> dict[str, dict[str, Any]]:
    """The newest results of a folder by model; none where another processor made them."""
    report = read(folder)
    if report is None or report["cpu"] != cpu:
        return {}
    return {result["model"]: result for result in report["results"]}


def keep(folder: Path, report: dict[str, Any], results: Iterable[dict[str, Any]]) -> Path:
    """Write the results so far; gives the file."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{report['date']}-{report['commit']}.json"
    content = {**report, "results": list(results)}
    file.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    return file
