"""What a model is computed in where that is not fp32, and how far it is off for it."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from leptonc.backends.tvm.cache import Cache, code_digest
from leptonc.ir.blob import Array
from leptonc.ir.diagnostics import LeptonError, shown
from leptonc.ir.extension_text import extension_rows
from leptonc.ir.graph import Graph
from leptonc.ir.text import print_graph
from leptonc.passes.observers import Observer

if TYPE_CHECKING:
    from leptonc.backends.base import Backend
    from leptonc.passes.base import Pass
    from leptonc.passes.context import PassContext

LOWERING = "lower-precision"
"""The pass that decides which operations are computed in less than fp32."""
SECONDS = 10.0
"""What measuring the error may take."""


@dataclass(frozen=True)
class Deviation:
    """How far an output is off from that of the same model in fp32."""

    largest: float
    """The largest difference, as a part of the largest number of the output."""
    mean: float
    """The root of the mean square of the differences, as a part of that of the output."""


@dataclass
class PrecisionReport:
    """Which nodes are computed in `precision`, which products are not, and the error of it all."""

    precision: str
    lowered: list[list[str]] = field(default_factory=list[list[str]])
    """The nodes that each product computed in `precision` stands for."""
    kept: dict[str, list[list[str]]] = field(default_factory=dict[str, list[list[str]]])
    """Those of each product that stays fp32, by the reason."""
    deviations: dict[str, Deviation] = field(default_factory=dict[str, Deviation])
    """Of each output of floats, on random inputs."""
    unmeasured: str = ""
    """Why there are none."""

    def as_json(self) -> dict[str, Any]:
        """The report as an artefact keeps it."""
        return asdict(self)


class MeasurePrecision(Observer):
    """Interprets the graph after the lowering pass, and the same in fp32, on random inputs.

    Open extents are 2 to 4 and integers 0 or 1, so that they are places of most tables. What would
    take more than some seconds is not measured. What was measured is kept in the cache.
    """

    def __init__(
        self, precision: str, seconds: float = SECONDS, *, cache: Cache | None = None
    ) -> None:
        self.report = PrecisionReport(precision)
        self._seconds, self._context = seconds, None
        self._cache = cache if cache is not None else Cache(None)

    def started(self, context: PassContext) -> None:
        """Look at the notes that the pass will leave."""
        self._context = context

    def after(self, step: Pass, graph: Graph, *, changed: bool) -> None:
        """Measure, and take the notes of the lowering pass."""
        if step.name != LOWERING:
            return
        assert self._context is not None
        for note in self._context.applied:
            if note.rule == LOWERING:
                self.report.lowered.append(list(note.location.nodes))
        for miss in self._context.misses:
            if miss.rule == LOWERING:
                self.report.kept.setdefault(miss.reason, []).append(list(miss.location.nodes))
        if not changed:
            self.report.unmeasured = "nothing is rounded"
            return
        key = "" if self._cache.folder is None else _key(graph)
        known = self._cache.get(key) if key else None
        if known is not None:
            deviations, self.report.unmeasured = json.loads(known)
            self.report.deviations = {name: Deviation(**each) for name, each in deviations.items()}
            return
        try:
            self._measure(graph)
        except TooLongError:  # which another time it may not
            self.report.unmeasured = f"that takes more than {self._seconds:g} s"
            return
        if key:
            told = self.report.as_json()
            self._cache.put(key, json.dumps([told["deviations"], told["unmeasured"]]).encode())

    def _measure(self, graph: Graph) -> None:
        """Note the deviations, or why there are none; raises TooLongError."""
        try:
            self.report.deviations = deviations_of(graph, self._seconds)
        except NoNumbersError:
            self.report.unmeasured = "random inputs give outputs that are no numbers"
        except (LeptonError, ArithmeticError, LookupError, ValueError) as problem:
            what = problem.message if isinstance(problem, LeptonError) else str(problem)
            self.report.unmeasured = f"random inputs are refused: {what}"


def _key(graph: Graph) -> str:
    """Everything that deviations depend on; empty where that is code of other packages."""
    if extension_rows(graph):
        return ""
    code = code_digest("ir", "passes", "precision.py")
    return json.dumps(["deviations", print_graph(graph), np.__version__, code])


class NoNumbersError(Exception):
    """An output of floats has none that can be compared."""


class TooLongError(Exception):
    """Measuring took longer than it may."""


def deviations_of(graph: Graph, seconds: float) -> dict[str, Deviation]:
    """How far each output of floats is off from fp32.

    Raises TooLongError past so many seconds, or as soon as the first of both runs takes half;
    NoNumbersError where an output is infinite or not-a-number throughout.
    """
    from leptonc.ir.interpret import interpret
    from leptonc.passes.check_numbers import random_feeds
    from leptonc.passes.clone import clone_graph

    end = time.monotonic() + seconds / 2

    def look() -> None:
        if time.monotonic() > end:
            raise TooLongError

    exact = clone_graph(graph)
    for op in exact.walk():
        if op.attrs.get("rounds"):
            op.set_attr("rounds", "")
    feeds = {name: _places(array) for name, array in random_feeds(graph).items()}
    want = interpret(exact, feeds, look=look)
    floats = {name: each for name, each in want.items() if each.dtype.kind in "fV" and each.size}
    if not all(np.isfinite(each.astype(np.float64)).any() for each in floats.values()):
        raise NoNumbersError
    end += seconds / 2
    got = interpret(graph, feeds, look=look)
    return {name: deviation(got[name], array) for name, array in floats.items()}


def _places(array: Array) -> Array:
    return np.abs(array) % 2 if array.dtype.kind in "iu" else array


def deviation(got: Array, want: Array) -> Deviation:
    """How far numbers are off; infinite where one of the two is no number and the other is."""
    wide, expected = got.astype(np.float64), want.astype(np.float64)
    finite = np.isfinite(expected)
    if not np.array_equal(finite, np.isfinite(wide)):
        return Deviation(float("inf"), float("inf"))
    off, scale = (wide - expected)[finite], expected[finite]
    largest = float(np.max(np.abs(scale), initial=0.0)) or 1.0
    mean = float(np.sqrt(np.mean(scale**2))) if scale.size else 0.0
    error = float(np.sqrt(np.mean(off**2))) if off.size else 0.0
    return Deviation(float(np.max(np.abs(off), initial=0.0)) / largest, error / (mean or 1.0))


def check_precision(precision: str, backend: Backend) -> None:
    """Raise E803 unless the target computes in `precision`."""
    if precision not in backend.precisions:
        known = ", ".join(sorted(backend.precisions, reverse=True))
        raise LeptonError(
            f"precision {shown(precision)} is not available on target {backend.name}",
            notes=[f"available: {known}; fp32 leaves the model's own types"],
            code="E803",
        )


def rows_of(report: Mapping[str, Any]) -> list[tuple[str, str]]:
    """A report, as an artefact keeps it, in lines of a table."""
    precision, kept = str(report["precision"]), report["kept"]
    rows = [(f"in {precision}", _counted(report["lowered"]))]
    if kept:
        reasons = (f"{_counted(nodes)}: {reason}" for reason, nodes in kept.items())
        rows.append(("in fp32", "; ".join(reasons)))
    rows += [
        (
            f"error of {name}",
            f"{off['largest']:.1e} of the largest number, {off['mean']:.1e} r.m.s.",
        )
        for name, off in report["deviations"].items()
    ]
    if report["unmeasured"]:
        rows.append(("error", f"not measured: {report['unmeasured']}"))
    return rows


def _counted(products: list[list[str]]) -> str:
    return f"{len(products)} product" + "s" * (len(products) != 1)
