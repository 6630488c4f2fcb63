"""Whether two models compute the same, seen by running both.

Floats are held against the root mean square of what the original gives. How far a right answer may
be off is measured on the original itself: its outputs are taken once more with every input moved to
the next number of its type, and, where onnxruntime runs it, with its graph optimisation on. What
these change is rounding, and ten times that is allowed; see `Deviation.limit`. An output that is
further off is held against what the original computes in double precision: it may be as wrong.
"""

from __future__ import annotations

import importlib
import importlib.util
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from leptonc.groups import element, flattened
from leptonc.ir.blob import Array
from leptonc.ir.diagnostics import LeptonError
from leptonc.ir.graph import Graph
from leptonc.ir.interpret import interpret
from leptonc.ir.types import DType
from leptonc.onnx_trials import WANTED, Feeds, trials

Run = Callable[[Feeds], "Mapping[str, Array]"]

ROUNDING = 10
"""How many times what rounding changes in the original a result may be off."""

FRACTION = MappingProxyType({2: 10, 4: 23, 8: 52})
"""Bits of the fraction of a float, by its bytes; half of them are right at least."""


@dataclass(frozen=True)
class Comparison:
    """What to run the models on."""

    inputs: Mapping[str, Array] = field(default_factory=dict[str, Array])
    """Data of the user's, by input; the others are random."""
    tolerance: float | None = None
    """What floats may be off, in place of what is measured."""


@dataclass(frozen=True)
class Deviation:
    """The worst difference of one output over all runs."""

    output: str
    worst: float
    """Of floats the largest difference by the root mean square; else the share of elements."""
    limit: float
    runs: int

    @property
    def is_fine(self) -> bool:
        """True where the output is right."""
        return self.worst <= self.limit


@dataclass(frozen=True)
class Verdict:
    """The outputs one by one, and what they were computed with."""

    deviations: tuple[Deviation, ...]
    runtime: str
    sizes: tuple[Mapping[str, int], ...] = ()
    """The extents of the runs."""

    @property
    def is_fine(self) -> bool:
        """True where all outputs are right."""
        return all(item.is_fine for item in self.deviations)

    def as_json(self) -> dict[str, Any]:
        """For machines."""
        return {
            "passed": self.is_fine,
            "runtime": self.runtime,
            "sizes": [dict(sizes) for sizes in self.sizes],
            "outputs": {
                item.output: {"worst": item.worst, "limit": item.limit, "runs": item.runs}
                for item in self.deviations
            },
        }


@dataclass(frozen=True)
class Runners:
    """The original, other ways of computing it that are as right, and the result."""

    runtime: str
    original: Run
    result: Run
    others: Sequence[Run] = ()
    exact: Run | None = None
    """The original in double precision, whatever its own types are."""


def compare(runners: Runners, like: Graph, comparison: Comparison) -> Verdict:
    """Run both on random data (and the user's), shaped as the inputs of `like`.

    Raises E806 where the original runs on none of it.
    """
    found: dict[str, tuple[float, float]] = {}
    done: list[Mapping[str, int]] = []
    reason = "it was not run"
    for feeds, sizes in trials(like, comparison.inputs):
        try:
            expected = runners.original(feeds)
        except Exception as problem:  # sizes that this model does not take
            reason = str(problem).strip().splitlines()[0][:200] if str(problem) else repr(problem)
            continue
        try:
            got = runners.result(feeds)
        except Exception:  # what runs as it was and not as it is has no right outputs
            got = dict[str, Array]()
        noise = list(_noise(runners, feeds))
        for name, want in expected.items():
            row = _judged(runners, feeds, name, got.get(name), want, noise, comparison.tolerance)
            found[name] = max(found.get(name, row), row, key=_badness)
        done.append(sizes)
        if len(done) == WANTED:
            break
    if not done:
        raise LeptonError(
            f"the original runs on no random inputs: {reason}",
            notes=["give it data that it takes: --input NAME=FILE.npy"],
            code="E806",
        )
    rows = (Deviation(name, *found[name], len(done)) for name in found)
    return Verdict(tuple(rows), runners.runtime, tuple(done))


def difference(got: Array | None, want: Array) -> float:
    """How far `got` is off; infinite where it is missing, of another type or shape or not finite.

    Of floats the largest difference in units of the root mean square of `want` (as it is where all
    of that is zero); of anything else the share of elements that differ.
    """
    if got is None or got.dtype != want.dtype or got.shape != want.shape:
        return float("inf")
    if want.size == 0:
        return 0.0
    if not DType.of(want.dtype).is_float:
        return float(np.mean(np.not_equal(got, want)))
    left, right = got.astype(np.float64), want.astype(np.float64)
    finite = np.isfinite(right)
    same = np.array_equal(left[~finite], right[~finite], equal_nan=True)
    if not same or not np.isfinite(left[finite]).all():
        return float("inf")
    if not finite.any():
        return 0.0
    spread = float(np.sqrt(np.mean(np.square(right[finite]))))
    return float(np.max(np.abs(left - right)[finite])) / (spread or 1.0)


def _limit(want: Array, noise: Sequence[Array | None], tolerance: float | None) -> float:
    measured = [difference(item, want) for item in noise]
    finite = [item for item in measured if np.isfinite(item)]
    dtype = DType.of(want.dtype)
    if not dtype.is_float:
        return min(1.0, ROUNDING * max(finite, default=0.0))
    if tolerance is not None:
        return tolerance
    floor = 2.0 ** (-FRACTION[want.itemsize] / 2) if want.dtype.kind == "f" else 0.1
    return max(floor, ROUNDING * max(finite, default=0.0))


def _badness(row: tuple[float, float]) -> float:
    """How far off an output is, in units of what it may be off."""
    worst, limit = row
    return worst / limit if limit else worst * 1e30


def _judged(
    runners: Runners, feeds: Feeds, name: str, got: Array | None, want: Array,
    noise: Sequence[Mapping[str, Array]], tolerance: float | None,
) -> tuple[float, float]:  # fmt: skip
    """How far an output is off, and how far it may be."""
    worst = difference(got, want)
    limit = _limit(want, [item.get(name) for item in noise], tolerance)
    is_close = worst <= limit or not np.isfinite(worst) or tolerance is not None
    if got is None or is_close or runners.exact is None or not DType.of(want.dtype).is_float:
        return worst, limit
    try:
        truth = runners.exact(feeds)[name]
    except Exception:  # what has no reference meaning is judged without
        return worst, limit
    error = difference(want.astype(truth.dtype), truth)
    return difference(got.astype(truth.dtype), truth), max(limit, 2 * error)


def _noise(runners: Runners, feeds: Feeds) -> Iterator[Mapping[str, Array]]:
    """What the original gives when nothing changes but roundings."""
    moved = {name: _next_number(data) for name, data in feeds.items()}
    for run, given in ((runners.original, moved), *((other, feeds) for other in runners.others)):
        try:
            yield run(given)
        except Exception:  # a runtime that takes no part in the measurement
            continue


def _next_number(data: Array) -> Array:
    if data.dtype.kind != "f":
        return data
    with np.errstate(all="ignore"):
        return np.nextafter(data, np.asarray(np.inf, data.dtype))


def runners_of(
    original: Path | bytes | None,
    result: Path | bytes,
    graphs: Callable[[], tuple[Graph, Graph]],
) -> Runners:
    """Both models in onnxruntime, or, where it is missing or runs one of them not, interpreted."""
    first, second = graphs()
    exact = _interpreted(first, widen=True)
    if original is not None and importlib.util.find_spec("onnxruntime") is not None:
        version: str = importlib.import_module("onnxruntime").__version__
        try:
            return Runners(
                f"onnxruntime {version}",
                _session(original),
                _session(result),
                [_session(original, optimise=True)],
                exact,
            )
        except Exception:  # operators that it does not have: they are compared all the same
            pass
    return Runners("interpreter", _interpreted(first), _interpreted(second), exact=exact)


def _interpreted(graph: Graph, *, widen: bool = False) -> Run:
    return lambda feeds: interpret(graph, feeds, widen=widen)


def _session(model: Path | bytes, *, optimise: bool = False) -> Run:
    runtime: Any = importlib.import_module("onnxruntime")
    options = runtime.SessionOptions()
    options.log_severity_level = 4
    if not optimise:
        options.graph_optimization_level = runtime.GraphOptimizationLevel.ORT_DISABLE_ALL
    given = str(model) if isinstance(model, Path) else model
    session = runtime.InferenceSession(given, options, providers=["CPUExecutionProvider"])
    names: list[str] = [output.name for output in session.get_outputs()]
    lists = [item.name for item in session.get_inputs() if "seq(" in item.type]

    def run(feeds: Feeds) -> Mapping[str, Array]:
        given: dict[str, Any] = dict(feeds)
        for name in lists:
            count = next(at for at in itertools.count() if element(name, at) not in feeds)
            given[name] = [given.pop(element(name, at)) for at in range(count)]
        return flattened(dict(zip(names, session.run(names, given), strict=True)))

    return run
