"""Optimises every model with every tool, runs the results in onnxruntime, and writes the table."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np
import onnx

from benchmarks.kept import RESULTS, ROOT, before, circumstances, keep, processor
from benchmarks.models import Case, cases
from benchmarks.optimizers.contenders import CONTENDERS, versions
from benchmarks.optimizers.latency import LEVELS
from benchmarks.optimizers.table import render

FOLDER = RESULTS / "optimizers"
TABLE = ROOT / "benchmarks" / "OPTIMIZERS.md"
AGAIN = "(original)"
"""The original once more, as if a tool had made it: what it differs by is noise."""
PATIENCE = 600
"""Seconds after which a tool counts as not having survived."""


def nodes(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    """The nodes of a graph and of those inside its nodes; constants count as data."""
    for node in graph.node:
        if node.op_type != "Constant":
            yield node
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                yield from nodes(inner)


def described(path: Path) -> dict[str, Any]:
    """The number of nodes and the bytes of a model."""
    model = onnx.ModelProto.FromString(path.read_bytes())
    bodies = (function.node for function in model.functions)
    found = [*nodes(model.graph), *(node for body in bodies for node in body)]
    foreign = sorted({node.domain for node in found} - {"", "ai.onnx", "ai.onnx.ml"})
    return {"nodes": len(found), "bytes": path.stat().st_size, "foreign": foreign}


def optimized(tool: str, source: Path, target: Path) -> dict[str, Any]:
    """What one tool made of a model, or why it made nothing."""
    command = [sys.executable, "-m", "benchmarks.optimizers.contenders", tool]
    start = time.perf_counter()
    try:
        done = subprocess.run(
            [*command, str(source), str(target)], cwd=ROOT, timeout=PATIENCE,
            capture_output=True, text=True, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return {"problem": f"not done after {PATIENCE} s"}
    seconds = round(time.perf_counter() - start, 2)
    if done.returncode or not target.exists():
        lines = done.stderr.strip().splitlines() or [f"ended with {done.returncode}"]
        return {"problem": lines[-1][:300], "seconds": seconds}
    return {**described(target), "seconds": seconds}


def timed(level: str, seconds: float, feeds: Path, files: Sequence[Path]) -> list[dict[str, Any]]:
    """For each file how it runs in onnxruntime."""
    command = [sys.executable, "-m", "benchmarks.optimizers.latency", level, str(seconds)]
    done = subprocess.run(
        [*command, str(feeds), *map(str, files)], cwd=ROOT, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    if done.returncode:
        if len(files) == 1:
            return [{"problem": f"onnxruntime ended with {done.returncode}"}]
        # One of them ends the process: each by itself against the first.
        first = timed(level, seconds, feeds, files[:1])
        return first + [timed(level, seconds, feeds, [files[0], f])[-1] for f in files[1:]]
    return json.loads(done.stdout.splitlines()[-1])


def measured(case: Case, tools: Iterable[str], seconds: float) -> dict[str, Any]:
    """Everything that is measured of one model."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        source = case.write(folder)
        feeds = folder / "feeds.npz"
        np.savez(feeds, allow_pickle=False, **case.feeds())
        targets = {AGAIN: source} | {tool: folder / f"{tool}.onnx" for tool in tools}
        made = {tool: optimized(tool, source, targets[tool]) for tool in tools}
        made[AGAIN] = {**described(source), "seconds": 0.0}
        alive = [tool for tool, result in made.items() if "problem" not in result]
        files = [source, *(targets[tool] for tool in alive)]
        original = described(source)
        for level in LEVELS:
            first, *rest = timed(level, seconds, feeds, files)
            original[level] = first
            for tool, entry in zip(alive, rest, strict=True):
                made[tool][level] = entry
        return {
            "model": case.name, "kind": case.kind, "tolerance": case.tolerance,
            "original": original, "tools": made,
        }  # fmt: skip


def summary(result: dict[str, Any]) -> str:
    """One line about one model."""
    parts = [
        f"{tool} {entry.get('nodes', 'failed')}" for tool, entry in result["tools"].items()
    ]  # fmt: skip
    return f"{result['model']}: {result['original']['nodes']} nodes; {', '.join(parts)}"


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("names", nargs=-1, metavar="[MODEL]...")
@click.option("--seconds", default=5.0, show_default=True, help="How long all forms take turns.")
@click.option("--tools", default=",".join(CONTENDERS), help="Comma-separated tools.")
def main(names: tuple[str, ...], seconds: float, tools: str) -> None:
    """Measure all models, or the named ones again, and rewrite benchmarks/OPTIMIZERS.md."""
    report = {**circumstances(), "versions": versions()}
    results = before(FOLDER, processor()) if names else {}
    file = RESULTS
    for case in cases():
        if not names or case.name in names:
            results[case.name] = measured(case, tools.split(","), seconds)
            click.echo(summary(results[case.name]), err=True)
            file = keep(FOLDER, report, results.values())
            TABLE.write_text(render(FOLDER), encoding="utf-8")
    click.echo(f"wrote {file.relative_to(ROOT)} and {TABLE.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
