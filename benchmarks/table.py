"""Makes BENCHMARKS.md from the results that stand beside this file."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

INTRODUCTION = """# Benchmarks

Made by `make bench` from `benchmarks/results/*.json`; not edited by hand. Each model takes turns
with the other runtimes on one thread and the same inputs; latency is that of the fastest call,
the middle one in brackets. *Off* is the largest difference from onnxruntime with its
optimisations off, in root mean squares of the output. *Compile* starts with an empty cache,
*again* with a filled one; both are whole processes, as is *start*: from nothing to the first
result of a saved artefact. *Peak* is the memory of all processes of the first compile.
"""


def render(folder: Path) -> str:
    """The text of BENCHMARKS.md: of each model the newest result, a table for each measurement."""
    reports = [json.loads(path.read_text(encoding="utf-8")) for path in folder.glob("*.json")]
    reports.sort(key=lambda report: (report["date"], len(report["results"])), reverse=True)
    seen: set[str] = set()
    parts = [INTRODUCTION]
    for report in reports:
        fresh = [result for result in report["results"] if result["model"] not in seen]
        seen |= {result["model"] for result in fresh}
        if fresh:
            parts.append("\n".join(_section(report, fresh)) + "\n")
    return "\n".join(parts)


def _section(report: dict[str, Any], results: list[dict[str, Any]]) -> Iterator[str]:
    peers = [row["name"] for row in results[0]["rows"][1:]]
    versions = ", ".join(f"{row['name']} {row['version']}" for row in results[0]["rows"])
    yield f"## {report['date']}, commit {report['commit']}, {report['cpu']}"
    yield ""
    yield f"{versions}, Python {report['python']}, numpy {report['numpy']}"
    yield ""
    heads = ["model", "leptonc ms", *(f"{p} ms" for p in peers), *(f"vs {p}" for p in peers)]
    heads += ["off", "compile s", "again s", "peak MB", "start s", "artefact MB"]
    yield f"| {' | '.join(heads)} |"
    yield f"|{'---|' * len(heads)}"
    for result in results:
        yield f"| {' | '.join(_cells(result))} |"


def _cells(result: dict[str, Any]) -> Iterator[str]:
    ours, *others = result["rows"]
    yield result["model"]
    for row in (ours, *others):
        yield f"{row['minimum'] * 1e3:.3g} ({row['median'] * 1e3:.3g})"
    for row in others:
        yield f"{ours['minimum'] / row['minimum']:.2f}x"
    yield f"{ours['deviation']:.1e}"
    yield f"{result['compile_seconds']:.1f}"
    yield f"{result['cached_compile_seconds']:.1f}"
    yield f"{result['compile_peak_bytes'] / 1e6:.0f}"
    yield f"{result['start_to_first_result_seconds']:.2f}"
    yield f"{result['artefact_bytes'] / 1e6:.1f}"
