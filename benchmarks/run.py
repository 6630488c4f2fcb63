"""Compiles, loads and runs the real models, beside onnxruntime, and keeps what it cost.

Results go to benchmarks/results as JSON, and from there into BENCHMARKS.md.
"""

from __future__ import annotations

import dataclasses
import datetime
import json
import platform
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import numpy as np

import leptonc
from benchmarks.table import render
from leptonc.tools.bench import compare
from leptonc.tools.bench_process import Cost, measure
from tests.models.zoo import MODELS, Model

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"
TABLE = ROOT / "BENCHMARKS.md"

COMPILE = """
import sys, leptonc
leptonc.compile(sys.argv[1], target="cpu", threads=1).save(sys.argv[2])
"""
START = """
import sys, numpy, leptonc.runtime
feeds = dict(numpy.load(sys.argv[2]))
leptonc.runtime.load(sys.argv[1]).run(feeds)
"""


def measured(model: Model, seconds: float, peers: tuple[str, ...]) -> dict[str, Any]:
    """Everything that is measured of one model, on the inputs of its first case."""
    with tempfile.TemporaryDirectory() as folder:
        artefact = Path(folder) / "model.lepton"
        environment = {"LEPTONC_CACHE": f"{folder}/cache", "PYTHONPATH": str(ROOT / "compiler")}
        compile_it = [sys.executable, "-c", COMPILE, str(model.path()), str(artefact)]
        cold = measure(compile_it, environment)
        warm = measure(compile_it, environment)
        feeds = model.feeds()
        np.savez(Path(folder) / "feeds.npz", allow_pickle=False, **feeds)
        start_it = [sys.executable, "-c", START, str(artefact), f"{folder}/feeds.npz"]
        start = min((measure(start_it, environment) for _ in range(3)), key=_seconds)
        session = leptonc.load(artefact)
        rows = compare(model.path(), feeds, session, peers, seconds)
        return {
            "model": model.name,
            "model_bytes": model.path().stat().st_size,
            "artefact_bytes": artefact.stat().st_size,
            "compile_seconds": round(cold.seconds, 2),
            "cached_compile_seconds": round(warm.seconds, 2),
            "compile_peak_bytes": cold.peak_bytes,
            "start_to_first_result_seconds": round(start.seconds, 3),
            "rows": [dataclasses.asdict(row) for row in rows],
        }


def _seconds(cost: Cost) -> float:
    return cost.seconds


def circumstances() -> dict[str, str]:
    """Where and with what the measurement was made."""
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    ).stdout.strip()
    return {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "commit": commit,
        "cpu": processor(),
        "python": platform.python_version(),
        "numpy": np.__version__,
        "leptonc": leptonc.__version__,
    }


def processor() -> str:
    """The processor's own name."""
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor()


def measure_all(
    models: list[Model], seconds: float, peers: tuple[str, ...]
) -> Iterator[dict[str, Any]]:
    """Measure the models one after the other."""
    for model in models:
        result = measured(model, seconds, peers)
        ours, *others = result["rows"]
        ratios = ", ".join(
            f"{ours['minimum'] / row['minimum']:.2f}x {row['name']}" for row in others
        )
        click.echo(f"{model.name}: {ours['minimum'] * 1e3:.3f} ms, {ratios}", err=True)
        yield result


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("names", nargs=-1, metavar="[MODEL]...")
@click.option("--seconds", default=10.0, show_default=True, help="How long to run each model.")
@click.option("--against", default="ort", show_default=True, help="Comma-separated runtimes.")
def main(names: tuple[str, ...], seconds: float, against: str) -> None:
    """Measure the named models, or all, and rewrite BENCHMARKS.md."""
    models = [MODELS[name] for name in names] or list(MODELS.values())
    report = circumstances()
    results = list(measure_all(models, seconds, tuple(against.split(","))))
    content = {**report, "results": results}
    RESULTS.mkdir(parents=True, exist_ok=True)
    file = RESULTS / f"{report['date']}-{report['commit']}.json"
    file.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    TABLE.write_text(render(RESULTS), encoding="utf-8")
    click.echo(f"wrote {file.relative_to(ROOT)} and {TABLE.name}")


if __name__ == "__main__":
    main()
