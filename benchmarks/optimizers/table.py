"""Makes OPTIMIZERS.md from the newest results."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks.kept import read

INTRODUCTION = """# Optimisers of ONNX models

Made by `make bench-optimizers` from the newest file of `benchmarks/results/optimizers`; not edited
by hand. Each tool rewrites each model in a process of its own. *Nodes* are those left, in all
nested graphs, constants not counted. The results then take turns in onnxruntime, on one thread,
the fastest call of each: once with onnxruntime's own graph optimisation off, once on; the numbers
are ratios to the original, below one is faster; *(original)* is the original once more, so its
ratios are noise. Tools with *+contrib* may write operators of
com.microsoft, which only onnxruntime runs; (c) marks results of other tools that do as well, and
that do not count against those that keep to the standard.
"""

SLOWER = 1.05
"""Ratios up to this one are noise."""
OURS = "leptonc"


def render(folder: Path) -> str:
    """The text of OPTIMIZERS.md."""
    report = read(folder)
    return "\n".join([INTRODUCTION, *(_text(report) if report else ())]) + "\n"


def _text(report: dict[str, Any]) -> Iterator[str]:
    results = report["results"]
    tools = list(results[0]["tools"])
    yield f"{report['date']}, commit {report['commit']}, {report['cpu']}; " + ", ".join(
        f"{name} {version}" for name, version in report["versions"].items()
    )
    yield ""
    yield "## All models"
    yield ""
    yield from _table(
        ["tool", "fewest nodes", "of them alone", "failed", "wrong", "slower, off", "slower, on",
         "median ratio, off", "median ratio, on", "seconds"],
        [_totals(tool, results) for tool in tools],
    )  # fmt: skip
    yield "*Fewest* counts models where no tool that keeps to the same operators leaves fewer"
    yield f"nodes; *slower* those above {SLOWER} of the original."
    yield ""
    yield "## Nodes left"
    yield ""
    yield from _table(
        ["model", "original", *tools],
        [
            [r["model"], str(r["original"]["nodes"]), *(_nodes(r, t) for t in tools)]
            for r in results
        ],
    )
    for level in ("off", "on"):
        yield f"## Latency in onnxruntime, its optimisation {level}"
        yield ""
        yield from _table(
            ["model", "original ms", *tools],
            [
                [r["model"], f"{r['original'][level]['milliseconds']:.3g}",
                 *(_ratio_text(r, tool, level) for tool in tools)]
                for r in results
            ],
        )  # fmt: skip
    yield "## Failures"
    yield ""
    for result in results:
        for tool, entry in result["tools"].items():
            reason = _failure(result, entry)
            if reason:
                yield f"* {tool} on {result['model']}: {reason}"


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    yield f"| {' | '.join(heads)} |"
    yield f"|{'---|' * len(heads)}"
    for row in rows:
        yield f"| {' | '.join(row)} |"
    yield ""


def rivals(tool: str, result: dict[str, Any]) -> list[str]:
    """The tools that used no operators that `tool` may not, itself included, and gave a model."""
    free = tool.endswith("+contrib")
    return [
        name for name, entry in result["tools"].items()
        if not _failure(result, entry) and (free or name == tool or not entry["foreign"])
    ]  # fmt: skip


def has_fewest(tool: str, result: dict[str, Any], *, alone: bool = False) -> bool:
    """True where no rival leaves fewer nodes, or with `alone` as few; failures never have."""
    names = rivals(tool, result)
    if tool not in names:
        return False
    tools = result["tools"]
    own = tools[tool]["nodes"]
    family = tool.partition("+")[0]
    apart = (family, "(original)")
    others = [tools[n]["nodes"] for n in names if n.partition("+")[0] not in apart]
    return all(own < other or (own == other and not alone) for other in others)


def ratio(result: dict[str, Any], tool: str, level: str) -> float | None:
    """The latency of a tool's result over that of the original; None where it does not run."""
    entry = result["tools"][tool].get(level, {})
    if "milliseconds" not in entry:
        return None
    return entry["milliseconds"] / result["original"][level]["milliseconds"]


def _failure(result: dict[str, Any], entry: dict[str, Any]) -> str:
    """Why the tool's result cannot be used; empty where it can."""
    if "problem" in entry:
        return entry["problem"]
    for level in ("off", "on"):
        if "problem" in entry[level]:
            return f"onnxruntime, optimisation {level}: {entry[level]['problem']}"
    return _wrong(result, entry)


def _wrong(result: dict[str, Any], entry: dict[str, Any]) -> str:
    """How far a result is off where that is too far."""
    if "off" in entry and "deviation" in entry["off"]:
        off = entry["off"]["deviation"]
        if not off <= result["tolerance"]:
            return f"off by {off:.2g} of the spread, {result['tolerance']:.2g} may be"
    return ""


def _nodes(result: dict[str, Any], tool: str) -> str:
    entry = result["tools"][tool]
    if _failure(result, entry):
        return "wrong" if _wrong(result, entry) else "failed"
    text = str(entry["nodes"])
    text = f"**{text}**" if has_fewest(tool, result) else text
    return f"{text} (c)" if entry["foreign"] and not tool.endswith("+contrib") else text


def _ratio_text(result: dict[str, Any], tool: str, level: str) -> str:
    value = ratio(result, tool, level)
    return "-" if value is None else f"{value:.2f}"


def _totals(tool: str, results: list[dict[str, Any]]) -> list[str]:
    entries = [(result, result["tools"][tool]) for result in results]
    wrong = sum(1 for result, entry in entries if _wrong(result, entry))
    failed = sum(1 for result, entry in entries if _failure(result, entry)) - wrong
    count = len(results)
    cells = [
        tool,
        f"{sum(has_fewest(tool, result) for result in results)} of {count}",
        str(sum(has_fewest(tool, result, alone=True) for result in results)),
        str(failed),
        str(wrong),
    ]
    every = {level: [ratio(r, tool, level) for r in results] for level in ("off", "on")}
    known = {level: sorted(v for v in values if v is not None) for level, values in every.items()}
    cells += [str(sum(value > SLOWER for value in values)) for values in known.values()]
    cells += [
        f"{values[len(values) // 2] if values else math.nan:.2f}" for values in known.values()
    ]
    return [*cells, f"{sum(entry.get('seconds', 0) for _, entry in entries):.0f}"]
