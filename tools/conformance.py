"""Runs the conformance suites of the onnx package on leptonc and counts what passes."""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeAlias

import click
import onnx
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from leptonc.tools.conformance_cases import SUITES, Case, load_suite
from leptonc.tools.conformance_pool import Outcome, Run, for_lengths, run_all

KNOWN = Path("tests/data/conformance.json")
CACHE = Path(".cache/conformance")


def prepare_compiled(model: onnx.ModelProto, kernels: Path) -> Run:
    """Compile the model for the CPU, in this process, since a worker may well crash.

    Kernels that several tests have in common are built once, into the folder `kernels`.
    """
    import leptonc

    def compiled(lengths: dict[str, int]) -> Run:
        session = leptonc.compile(
            model, target="cpu", threads=1, cache=kernels, isolated=False, dims=lengths
        )
        return session.run

    return for_lengths(model, compiled)


def prepare_interpreted(model: onnx.ModelProto, kernels: Path) -> Run:
    """Import the model; the reference interpreter runs it."""
    from leptonc.groups import Groups
    from leptonc.ir.interpret import interpret
    from leptonc.onnx_import import import_model

    def interpreted(lengths: dict[str, int]) -> Run:
        graph = import_model(model, dims=lengths)
        groups = Groups.of(graph.metadata)
        return lambda feeds: groups.gather(interpret(graph, groups.spread(feeds)))

    return for_lengths(model, interpreted)


Known: TypeAlias = dict[str, dict[str, list[str]]]

COLUMNS: dict[str, Callable[[onnx.ModelProto, Path], Run]] = {
    "compiled": prepare_compiled,
    "interpreter": prepare_interpreted,
}


def select(suites: Iterable[str], pattern: str, cache: Path) -> list[Case]:
    """The tests whose suite is named and whose own name has the pattern in it."""
    return [
        case
        for suite in suites
        for case in load_suite(suite, cache)
        if re.search(pattern, case.name)
    ]


def passed(outcomes: Iterable[Outcome]) -> dict[str, list[str]]:
    """The sorted names of the tests that passed, by suite."""
    names: dict[str, list[str]] = {suite: [] for suite in SUITES}
    for outcome in outcomes:
        if not outcome.failure:
            names[outcome.case.suite].append(outcome.case.name)
    return {suite: sorted(found) for suite, found in names.items()}


def wanted(case: Case, listed: dict[str, list[str]], which: str | None) -> bool:
    """Whether the test is to run, given the tests known to pass."""
    return which is None or (case.name in listed.get(case.suite, ())) == (which == "known")


def fallen(known: dict[str, list[str]], outcomes: Iterable[Outcome]) -> list[Outcome]:
    """The outcomes of tests that are known to pass and now fail."""
    return [
        outcome
        for outcome in outcomes
        if outcome.failure and outcome.case.name in known.get(outcome.case.suite, ())
    ]


def run_column(
    column: str, cases: list[Case], kernels: Path, jobs: int, seconds: float, console: Console
) -> list[Outcome]:
    """Run the tests with a progress bar and give their outcomes in the order of `cases`."""
    outcomes: dict[str, Outcome] = {}

    def prepare(model: onnx.ModelProto) -> Run:
        return COLUMNS[column](model, kernels)

    with Progress(console=console, transient=True) as progress:
        task = progress.add_task(column, total=len(cases))
        for outcome in run_all(cases, prepare, jobs=jobs, seconds=seconds):
            outcomes[outcome.case.suite + outcome.case.name] = outcome
            progress.advance(task)
    return [outcomes[case.suite + case.name] for case in cases]


def counts(results: dict[str, list[Outcome]], suites: Iterable[str]) -> Table:
    """The table of passed and total, a row a suite and a column a way of running."""
    table = Table("suite", "tests", *results)
    for suite in suites:
        cells: list[str] = []
        for outcomes in results.values():
            mine = [outcome for outcome in outcomes if outcome.case.suite == suite]
            cells.append(f"{sum(not outcome.failure for outcome in mine)} / {len(mine)}")
        total = cells[0].partition(" / ")[2]
        table.add_row(suite, total, *cells)
    return table


def reasons(outcomes: Iterable[Outcome], limit: int) -> Iterator[str]:
    """The commonest reasons of failure, with numbers blanked so that like counts with like."""
    found: dict[str, list[str]] = {}
    for outcome in outcomes:
        if outcome.failure:
            line = " ".join(outcome.failure.split())[:200]
            found.setdefault(re.sub(r"\d+(\.\d+)?", "#", line), []).append(outcome.case.name)
    for reason, names in sorted(found.items(), key=lambda item: -len(item[1]))[:limit]:
        yield f"{len(names):5} {reason}  ({names[0]})"


def read_known(path: Path) -> Known:
    """The names of the tests known to pass, by way of running and by suite."""
    if not path.exists():
        return {}
    return json.loads(path.read_text(encoding="utf-8"))


def read_report(path: Path) -> dict[str, dict[str, str]]:
    """Why tests failed when each way of running was last looked at."""
    if not path.exists():
        return {}
    return json.loads(path.read_text(encoding="utf-8"))


def write_json(path: Path, content: object) -> None:
    """Write `content` so that a change of one entry is a change of one line."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def failures(results: dict[str, list[Outcome]]) -> dict[str, dict[str, str]]:
    """Why each failed test failed, by way of running and by name."""
    return {
        column: {
            f"{outcome.case.suite}/{outcome.case.name}": outcome.failure
            for outcome in outcomes
            if outcome.failure
        }
        for column, outcomes in results.items()
    }


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--suite", "suites", multiple=True, type=click.Choice(SUITES), help="Only this one.")
@click.option("--filter", "pattern", default="", help="Only tests whose name this regex finds.")
@click.option("--compiled-only", "column", flag_value="compiled", help="Leave the interpreter out.")
@click.option("--interpreter-only", "column", flag_value="interpreter", help="Compile nothing.")
@click.option("--jobs", default=2, show_default=True, help="Tests that run at the same time.")
@click.option("--seconds", default=60.0, show_default=True, help="Time limit of one test.")
@click.option("--reasons", "limit", default=0, help="Show this many of the commonest reasons.")
@click.option("--verbose", is_flag=True, help="Show every failure.")
@click.option("--known", default=KNOWN, show_default=True, type=click.Path(path_type=Path))
@click.option("--known-only", "which", flag_value="known", help="Only tests known to pass.")
@click.option("--others-only", "which", flag_value="others", help="Only tests not known to pass.")
@click.option("--part", type=(int, int), default=(1, 1), help="Every n-th test from the k-th: K N.")
@click.option("--update", is_flag=True, help="Add what passes now to the tests known to pass.")
@click.option("--kernels", type=click.Path(path_type=Path), help="Keep kernels in this folder.")
@click.option("--report", type=click.Path(path_type=Path), default=CACHE / "failures.json")
def main(
    suites: tuple[str, ...],
    pattern: str,
    column: str | None,
    jobs: int,
    seconds: float,
    limit: int,
    *,
    verbose: bool,
    known: Path,
    which: str | None,
    part: tuple[int, int],
    update: bool,
    kernels: Path | None,
    report: Path,
) -> None:
    r"""Run onnx's conformance suites on compiled models and on the reference interpreter.

    Ends with status 1 if a test fails that is known to pass.

    \b
    Examples:
      python -m leptonc.tools.conformance --filter '^test_conv' --verbose
      python -m leptonc.tools.conformance --interpreter-only --suite node --reasons 20
    """
    console, progress = Console(), Console(stderr=True)
    before = read_known(known)
    suites = suites or SUITES
    cases = select(suites, pattern, CACHE)[part[0] - 1 :: part[1]]
    results: dict[str, list[Outcome]] = {}
    lost: list[Outcome] = []
    for name in [column] if column else COLUMNS:
        listed = before.get(name, {})
        chosen = [case for case in cases if wanted(case, listed, which)]
        with _folder(kernels) as folder:
            results[name] = run_column(name, chosen, folder, jobs, seconds, progress)
        lost += fallen(listed, results[name])
    console.print(counts(results, suites))
    every = [outcome for outcomes in results.values() for outcome in outcomes]
    for line in reasons(every, limit):
        click.echo(line)
    for outcome in every if verbose else lost:
        if outcome.failure:
            click.echo(f"{outcome.case.name}: {outcome.failure}")
    write_json(report, {**read_report(report), **failures(results)})
    if update:
        now = {name: passed(rows) for name, rows in results.items()}
        write_json(known, merge(read_known(known), now))
    if lost:
        progress.print(f"{len(lost)} tests fail that are known to pass")
        raise SystemExit(1)


@contextmanager
def _folder(path: Path | None) -> Generator[Path]:
    """The folder that was asked for, or one that goes away."""
    if path is not None:
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="leptonc-") as folder:
        yield Path(folder)


def merge(before: Known, now: Known) -> Known:
    """The lists of `before` with those of `now` added."""
    return {
        column: {
            suite: sorted({*_listed(before, column, suite), *_listed(now, column, suite)})
            for suite in SUITES
        }
        for column in COLUMNS
    }


def _listed(known: Known, column: str, suite: str) -> list[str]:
    return known.get(column, {}).get(suite, [])


if __name__ == "__main__":
    main()
