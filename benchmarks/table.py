"""Makes BENCHMARKS.md from the newest results."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.cores import CHANGED
from benchmarks.kept import read
from leptonc.tools.bench import EXACT

INTRODUCTION = """# Benchmarks

Made by `make bench` from the newest file of `benchmarks/results/cpu`; not edited by hand. Each
model takes turns with the other runtimes on the same threads and the same inputs; latency is that
of the fastest call, the middle one in brackets. *Ratio* is leptonc's to that of the faster peer:
below one, leptonc is faster; *to fp32* is that of a model in bf16, or quantised, to leptonc's own
of it in fp32.
*Off* is the largest difference, in root mean squares of the output, from the model computed in
float64, and where a model rounds to bytes itself, from onnxruntime with its optimisations off.
*Error* is that of leptonc to that of onnxruntime, in bf16 of OpenVINO, which has it; below 1e-6, a
few roundings of fp32, all are equal. Where another commit was measured, it stands beside the model.
With several threads, *apart* is how many nanoseconds a line of the caches took from the first core
to the second, before the measurement or after it, whichever is more: 30 to 50 where they share a
third cache, 150 to 200 where they do not and all runtimes take longer. A virtual machine's cores
move between the two; rows with a different number do not compare.
OpenVINO's dynamic quantisation is off: on by default, it rounds the inputs of layers whose weights
alone were bytes, and outputs go off by 0.1 to 0.4.
"""
STARTS = """*Compile* starts with an empty cache, *again* with a filled one; both are whole
processes. *Peak* is the memory of all processes of the first compile, *planned* what the artefact's
plan takes for a run; beside a plan, *open* extents take memory too. *Load* is from a process with
numpy to the first result on the given inputs, *held* the most memory that such a process ever held,
with three runs.
"""
NOISE = 0.95
"""Ratios above this one are no lead."""
FEW_ROUNDINGS = 1e-6
"""Errors below this one, in root mean squares of the output, are equal."""


@dataclass(frozen=True)
class Line:
    """One measurement of one model."""

    model: str
    kind: str
    run: dict[str, Any]
    commit: str

    @property
    def name(self) -> str:
        """The model with its sizes."""
        sizes = [f"{key} {self.run[key]}" for key in ("batch", "length") if self.run.get(key)]
        sizes = [size for size in sizes if size != "batch 1"]
        return ", ".join([self.model, *sizes])

    @property
    def ratio(self) -> float | None:
        """The latency over that of the better peer; None where no peer runs the model."""
        ours, *others = self.run["rows"]
        known = [row["minimum"] for row in others if row["minimum"] and row["name"] != EXACT]
        return ours["minimum"] / min(known) if known and ours["minimum"] else None

    @property
    def error_ratio(self) -> float | None:
        """How far it is off, over how far the peer is that computes in the same precision."""
        peer = {"fp32": "ort", "bf16": "openvino"}.get(self.kind)
        ours, *others = self.run["rows"]
        theirs = [row["deviation"] for row in others if row["name"] == peer and row["deviation"]]
        if not theirs or not ours["deviation"]:
            return None
        return max(ours["deviation"], FEW_ROUNDINGS) / max(theirs[0], FEW_ROUNDINGS)

    @property
    def to_exact(self) -> float | None:
        """The latency over that of leptonc in fp32; None where that was not measured."""
        ours, *others = self.run["rows"]
        exact = [row["minimum"] for row in others if row["name"] == EXACT]
        return ours["minimum"] / exact[0] if exact and ours["minimum"] else None


def lines(report: dict[str, Any]) -> list[Line]:
    """All measurements, in the order in which they are kept."""
    return [
        Line(result["model"], result["kind"], run, run["commit"])
        for result in report["results"]
        for run in result["runs"]
    ]


def render(folder: Path) -> str:
    """The text of BENCHMARKS.md."""
    report = read(folder)
    return "\n".join([INTRODUCTION, *(_text(report) if report else ())]) + "\n"


def _text(report: dict[str, Any]) -> Iterator[str]:
    versions = {"leptonc": report["leptonc"], **report["versions"]}
    yield (
        f"{report['date']}, commit {report['commit']}, {report['cpu']}; "
        + ", ".join(f"{name} {version}" for name, version in versions.items())
        + f", Python {report['python']}, numpy {report['numpy']}"
    )
    yield ""
    yield "![ratios to the better peer](benchmarks/ratios.svg)"
    yield ""
    yield from _summary(lines(report))
    threads = sorted({line.run["threads"] for line in lines(report)})
    for count in threads:
        found = [line for line in lines(report) if line.run["threads"] == count]
        yield f"## Latency, {count} thread{'s' if count > 1 else ''}"
        yield ""
        yield from _latency(found, list(report["versions"]), report["commit"])
    yield "## Compiling, loading and memory"
    yield ""
    yield STARTS
    yield from _costs(report["results"], list(report["versions"]))
    yield from _problems(lines(report))


def _summary(found: Sequence[Line]) -> Iterator[str]:
    """How the ratios are in all."""
    groups: dict[tuple[str, int, str], list[Line]] = {}
    for line in found:
        text = "as given" if line.run.get("batch") in (None, 1) else f"batch {line.run['batch']}"
        groups.setdefault((line.kind, line.run["threads"], text), []).append(line)
    rows: list[list[str]] = []
    for (kind, threads, text), members in groups.items():
        ratios = [line.ratio for line in members if line.ratio is not None]
        if ratios:
            above = str(sum(ratio > NOISE for ratio in ratios))
            rows.append(
                [kind, str(threads), text, str(len(ratios)),
                 *_mean_and_worst({line.name: line.ratio for line in members}), above,
                 *_mean_and_worst({line.name: line.to_exact for line in members}),
                 *_mean_and_worst({line.name: line.error_ratio for line in members})]
            )  # fmt: skip
    heads = ["kind", "threads", "inputs", "measurements", "geometric mean", "worst"]
    heads += [f"above {NOISE}", "to fp32", "worst to fp32", "error", "worst error"]
    yield from table(heads, rows)


def _mean_and_worst(of_models: Mapping[str, float | None]) -> tuple[str, str]:
    """The mean of ratios, and the largest with the model's name."""
    ratios = {name: ratio for name, ratio in of_models.items() if ratio}
    if not ratios:
        return "-", "-"
    worst = max(ratios, key=lambda name: ratios[name])
    return f"{geometric_mean(ratios.values()):.2f}", f"{ratios[worst]:.2f} ({worst})"


def geometric_mean(ratios: Iterable[float]) -> float:
    """The mean of ratios."""
    found = [math.log(ratio) for ratio in ratios]
    return math.exp(math.fsum(found) / len(found))


def _ratio(found: float | None) -> str:
    return "-" if found is None else f"{found:.2f}"


def _latency(found: Sequence[Line], peers: Sequence[str], commit: str) -> Iterator[str]:
    names = ["leptonc", *peers]
    beside = any(line.to_exact is not None for line in found)
    together = all(line.run["threads"] == 1 for line in found)
    rows: list[list[str]] = []
    for line in found:
        given = {row["name"]: row for row in line.run["rows"]}
        other = "" if line.commit == commit else f" ({line.commit})"
        rows.append(
            [line.name + other, line.kind, *(_time(given.get(name)) for name in names),
             _ratio(line.ratio), *([_ratio(line.to_exact)] if beside else ()),
             *(() if together else [_apart(line.run)]),
             *(_off(given.get(name)) for name in names)]
        )  # fmt: skip
    heads = ["model", "kind", *(f"{name} ms" for name in names), "ratio"]
    heads += ["to fp32"] * beside + ["apart"] * (not together)
    yield from table([*heads, *(f"off, {name}" for name in names)], rows)


def _time(row: dict[str, Any] | None) -> str:
    if row is None or not row["minimum"]:
        return "-"
    return f"{row['minimum'] * 1e3:.3g} ({row['median'] * 1e3:.3g})"


def _apart(run: dict[str, Any]) -> str:
    """How far apart the cores were; all that was seen of them where they moved."""
    times = run.get("core_to_core_ns")
    if not times:
        return "-"
    moved = max(times) > CHANGED * min(times)
    return f"{min(times):.0f} to {max(times):.0f}" if moved else f"{max(times):.0f}"


def _off(row: dict[str, Any] | None) -> str:
    return "-" if row is None or row["deviation"] is None else f"{row['deviation']:.1e}"


def _costs(results: Sequence[dict[str, Any]], peers: Sequence[str]) -> Iterator[str]:
    names = ["leptonc", *peers]
    rows: list[list[str]] = []
    for result in results:
        starts = result.get("starts", {})
        rows.append(
            [result["model"], f"{result['compile_seconds']:.1f}",
             f"{result['cached_compile_seconds']:.1f}",
             f"{result['compile_peak_bytes'] / 1e6:.0f}",
             f"{result['artefact_bytes'] / 1e6:.1f}", _planned(result),
             *(_loading(starts.get(name)) for name in names),
             *(_held(starts.get(name)) for name in names)]
        )  # fmt: skip
    heads = ["model", "compile s", "again s", "peak MB", "artefact MB", "planned MB"]
    loads = [f"load, {name} ms" for name in names]
    yield from table([*heads, *loads, *(f"held, {name} MB" for name in names)], rows)


def _planned(result: dict[str, Any]) -> str:
    if "planned_bytes" not in result:
        return "-"
    return f"{result['planned_bytes'] / 1e6:.1f}{' + open' if result['is_open'] else ''}"


def _loading(start: dict[str, Any] | None) -> str:
    if start is None or "seconds" not in start:
        return "-"
    return f"{sum(start['seconds'][name] for name in ('import', 'load', 'first')) * 1e3:.0f}"


def _held(start: dict[str, Any] | None) -> str:
    return "-" if start is None or "problem" in start else f"{start['peak_bytes'] / 1e6:.0f}"


def _problems(found: Sequence[Line]) -> Iterator[str]:
    """What a runtime does not run, each reason once a model."""
    seen: set[tuple[str, str]] = set()
    told: list[str] = []
    for line in found:
        for row in line.run["rows"]:
            if row.get("problem") and (line.model, row["name"]) not in seen:
                seen.add((line.model, row["name"]))
                told.append(f"* {row['name']} on {line.name}: {row['problem']}")
    if told:
        yield "## Not run"
        yield ""
        yield from told


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """The lines of a table."""
    yield f"| {' | '.join(heads)} |"
    yield f"|{'---|' * len(heads)}"
    for row in rows:
        yield f"| {' | '.join(row)} |"
    yield ""
