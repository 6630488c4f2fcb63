"""Compiles, loads and runs the real models beside other runtimes, and keeps what it cost.

Results go to benchmarks/results/cpu as JSON, and from there into BENCHMARKS.md.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np

from benchmarks.cores import in_one_place
from benchmarks.kept import RESULTS, ROOT, before, circumstances, keep, processor
from benchmarks.models import Case, cases, in_bf16, more_quantised
from benchmarks.plot import draw
from benchmarks.settings import LARGE, Setting, base_name, feeds_of, settings
from benchmarks.table import render
from benchmarks.turns import rows
from leptonc.artifact import Artifact
from leptonc.backends.cpu.target import detect, multiplies_bf16
from leptonc.ir.diagnostics import LeptonBug
from leptonc.ir.interpret import interpret
from leptonc.manifest import TensorSpec
from leptonc.onnx_import import import_model
from leptonc.tools.bench_peers import peer_of
from leptonc.tools.bench_process import Cost, measure

FOLDER = RESULTS / "cpu"
TABLE = ROOT / "BENCHMARKS.md"
PLOT = ROOT / "benchmarks" / "ratios.svg"
STARTS = 3

COMPILE = """
import sys, leptonc
model, artefact, threads, precision = sys.argv[1:]
leptonc.compile(model, target="cpu", threads=int(threads), precision=precision).save(artefact)
"""


@dataclass(frozen=True)
class Plan:
    """What to measure of each model."""

    peers: tuple[str, ...]
    threads: tuple[int, ...]
    batches: tuple[int, ...]
    seconds: float
    every: bool


def measured(
    case: Case, plan: Plan, known: dict[str, Any]
) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """What is known of one model after each measurement, and that; `known` is from before.

    Settings that are not measured keep what was known of them.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model, artefact = case.write(folder), folder / "model.lepton"
        artefacts = {1: artefact}
        result: dict[str, Any] = {
            "model": case.name, "kind": case.kind, "model_bytes": model.stat().st_size,
            **compiled(model, artefact, case.precision),
        }  # fmt: skip
        with Artifact.open(artefact) as opened:
            signature = opened.manifest.asked
        wanted = list(settings(case, signature, plan.threads, plan.batches, every=plan.every))
        if not wanted:
            click.echo(f"{case.name} has no batch", err=True)
            return
        result["starts"] = started(case, model, artefact, plan)
        runs = _still(known.get("runs", []), case, signature)
        for setting in wanted:
            if setting.threads not in artefacts:  # kernels for one thread have no parallel loops
                artefacts[setting.threads] = folder / f"model-{setting.threads}.lepton"
                compile_once(model, artefacts[setting.threads], setting.threads, case.precision)
            exact = artefacts[setting.threads].with_suffix(".exact")
            if case.floats is not None and not exact.exists():
                compile_once(case.floats(folder), exact, setting.threads, "fp32")
            runs = [run for run in runs if not setting.is_of(run)]
            files = model, artefacts[setting.threads], exact if exact.exists() else None
            run = run_once(case, setting, files, signature, plan)
            runs = sorted([*runs, run], key=_order)
            yield {**result, "runs": runs}, run


def _still(
    runs: Sequence[dict[str, Any]], case: Case, signature: Sequence[TensorSpec]
) -> list[dict[str, Any]]:
    """The measurements of settings that the model still has."""
    threads, batches = (sorted({run[name] or 1 for run in runs}) for name in ("threads", "batch"))
    kept = list(settings(case, signature, threads, batches, every=True))
    return [run for run in runs if any(setting.is_of(run) for setting in kept)]


def _order(run: dict[str, Any]) -> tuple[int, ...]:
    return run["threads"], run["batch"] or 0, run["length"] or 0


def compiled(model: Path, artefact: Path, precision: str) -> dict[str, Any]:
    """What compiling costs, with an empty cache and with a filled one; the artefact is there."""
    cold, warm = (compile_once(model, artefact, 1, precision) for _ in range(2))
    with Artifact.open(artefact) as opened:
        plan, signature = opened.manifest.plan, opened.manifest.inputs
    return {
        "artefact_bytes": artefact.stat().st_size,
        "planned_bytes": plan.get("peak", 0),
        "is_open": any(isinstance(extent, str) for spec in signature for extent in spec.shape),
        "compile_seconds": round(cold.seconds, 2),
        "cached_compile_seconds": round(warm.seconds, 2),
        "compile_peak_bytes": cold.peak_bytes,
    }


def compile_once(model: Path, artefact: Path, threads: int, precision: str) -> Cost:
    """Compile for so many threads in a process of its own, with a cache beside the artefact."""
    environment = {"LEPTONC_CACHE": str(artefact.parent / "cache"), **_environment()}
    command = [sys.executable, "-c", COMPILE, str(model), str(artefact), str(threads), precision]
    return measure(command, environment)


def started(case: Case, model: Path, artefact: Path, plan: Plan) -> dict[str, Any]:
    """For each runtime how it starts in a fresh process, the best of several."""
    feeds = artefact.parent / "feeds.npz"
    np.savez(feeds, allow_pickle=False, **case.feeds())
    found: dict[str, Any] = {}
    for runtime in ("leptonc", *plan.peers):
        file = artefact if runtime == "leptonc" else model
        command = [sys.executable, "-m", "leptonc.tools.bench_start", runtime, str(file)]
        try:
            told = [
                json.loads(measure([*command, str(feeds), "1"], _environment()).printed)
                for _ in range(STARTS)
            ]
            best = min(told, key=lambda each: sum(each["seconds"].values()))
            memory = {
                name: min(each[name] for each in told) for name in ("peak_bytes", "bare_bytes")
            }
            found[runtime] = {**best, **memory}
        except LeptonBug as problem:
            found[runtime] = {"problem": str(problem.notes[0])[-300:]}
    return found


def _environment() -> dict[str, str]:
    """As where leptonc is installed: its modules are compiled once, not in every process."""
    return {"PYTHONPATH": str(ROOT / "compiler"), "PYTHONDONTWRITEBYTECODE": ""}


def run_once(
    case: Case, setting: Setting, files: tuple[Path, Path, Path | None],
    signature: Sequence[TensorSpec],
    plan: Plan,
) -> dict[str, Any]:  # fmt: skip
    """One setting measured."""
    model, artefact, exact = files
    feeds = artefact.parent / "setting.npz"
    given = feeds_of(case, setting, signature)
    np.savez(feeds, allow_pickle=False, **given)
    expected = None
    if case.is_of_floats:  # the same whatever the number of threads
        expected = artefact.parent / f"expected-{setting.batch}-{setting.length}.npz"
        if not expected.exists():
            exact_outputs = interpret(import_model(model), given, widen=True)
            np.savez(expected, allow_pickle=False, **exact_outputs)

    def turns() -> list[dict[str, Any]]:
        return rows(
            model, artefact, feeds, plan.peers, threads=setting.threads, seconds=plan.seconds,
            precision=case.precision, exact=exact, expected=expected,
        )  # fmt: skip

    if setting.threads == 1:
        return {**asdict(setting), "rows": turns()}
    found, apart = in_one_place(turns)
    return {**asdict(setting), "rows": found, "core_to_core_ns": apart}


def told(name: str, run: dict[str, Any]) -> str:
    """One line about one measurement."""
    sizes = ", ".join(f"{key} {run[key]}" for key in ("threads", "batch", "length") if run[key])
    ours = run["rows"][0]
    if ours.get("problem"):
        return f"{name}, {sizes}: {ours['problem']}"
    ratios = [
        f"{ours['minimum'] / row['minimum']:.2f}x {row['name']}"
        if not row.get("problem")
        else f"{row['name']} does not run it"
        for row in run["rows"][1:]
    ]
    return ", ".join([f"{name}, {sizes}: {ours['minimum'] * 1e3:.3f} ms", *ratios])


def write(report: dict[str, Any], results: dict[str, dict[str, Any]]) -> Path:
    """Keep the results so far, and rewrite the table and the plot."""
    file = keep(FOLDER, report, results.values())
    TABLE.write_text(render(FOLDER), encoding="utf-8")
    PLOT.write_text(draw({**report, "results": list(results.values())}), encoding="utf-8")
    return file


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("names", nargs=-1, metavar="[MODEL]...")
@click.option("--seconds", default=4.0, show_default=True, help="How long runtimes take turns.")
@click.option(
    "--against", default="ort,openvino", show_default=True, help="Comma-separated runtimes."
)
@click.option(
    "--threads", default="1,2", show_default=True, help="Comma-separated numbers of threads."
)
@click.option("--batch", default="1", show_default=True, help="Comma-separated sizes of batches.")
@click.option(
    "--all", "every", is_flag=True, help="Batches of 8 too, and all lengths by all threads."
)
@click.option(
    "--precision",
    type=click.Choice(["own", "bf16", "both"]),
    default="both" if multiplies_bf16(detect()) else "own",
    show_default=True,
    help="The models' own types, or those of floats in bf16, beside the same in fp32.",
)
@click.option("--resume", is_flag=True, help="Leave out models that this commit has results of.")
def main(
    names: tuple[str, ...], seconds: float, against: str, threads: str, batch: str, precision: str,
    *, every: bool, resume: bool,
) -> None:  # fmt: skip
    """Measure the named models, or all, and rewrite BENCHMARKS.md.

    Every result is kept as soon as it is there, in place of what was known of the same model and
    setting; what is not measured stays as it was. Without options some 30 minutes on two idle
    cores, an hour where there is bf16, with --all two hours.
    """
    peers = tuple(filter(None, against.split(",")))
    for peer in peers:
        peer_of(peer).version()
    batches = {*map(int, batch.split(",")), *((LARGE,) if every else ())}
    counts = tuple(map(int, threads.split(",")))
    plan = Plan(peers, counts, tuple(sorted(batches)), seconds, every)
    chosen = [*cases(), *more_quantised(), *in_bf16()]
    report = {**circumstances(), "versions": {name: peer_of(name).version() for name in peers}}
    known = before(FOLDER, processor())
    results = {case.name: known[case.name] for case in chosen if case.name in known}
    for case in chosen:
        old = results.get(case.name, {})
        done = resume and is_done(old, plan, str(report["commit"]))
        asked = precision == "both" or (case.precision == "bf16") == (precision == "bf16")
        if not done and asked and (not names or base_name(case) in names or case.name in names):
            measure_model(case, plan, report, results)
    click.echo(f"wrote {write(report, results).relative_to(ROOT)} and {TABLE.name}")


def is_done(result: dict[str, Any], plan: Plan, commit: str) -> bool:
    """True where a commit has every measurement of a model in the batches that are wanted."""
    runs = [run for run in result.get("runs", []) if run["commit"] == commit]
    found = {run["batch"] or 1 for run in runs}
    return result.get("commit") == commit and result["complete"] and found.issuperset(plan.batches)


def measure_model(
    case: Case, plan: Plan, report: dict[str, Any], results: dict[str, dict[str, Any]]
) -> None:
    """Measure one model, and keep each result at once; one that does not compile is said so."""
    try:
        for result, run in measured(case, plan, results.get(case.name, {})):
            run["commit"] = report["commit"]
            results[case.name] = {**result, "commit": report["commit"], "complete": False}
            click.echo(told(case.name, run), err=True)
            write(report, results)
    except LeptonBug as problem:
        click.echo(f"{case.name}: {problem}", err=True)
        return
    if case.name in results:
        results[case.name]["complete"] = True
        write(report, results)


if __name__ == "__main__":
    main()
