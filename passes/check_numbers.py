"""The observer that holds passes to their numeric contracts, and inputs that find breaches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from leptonc.ir.blob import Array
from leptonc.ir.diagnostics import DiagnosticError, LeptonBug, LeptonError
from leptonc.ir.dims import Dim, substitute, symbols
from leptonc.ir.graph import Graph, Op, Value
from leptonc.ir.interpret import interpret
from leptonc.ir.types import DType
from leptonc.ir.verify import verify
from leptonc.passes.base import Pass
from leptonc.passes.clone import clone_graph
from leptonc.passes.context import PassContext
from leptonc.passes.contract import Contract
from leptonc.passes.culprit import Culprit, again, first_bad_change
from leptonc.passes.observers import Observer

Feeds = Mapping[str, Array]

QUOTIENTS = frozenset({"div", "pow", "reciprocal"})
"""Operations, beside normalisations, that turn the sign of a zero into that of an infinity."""

RUNS = 4
"""How often a graph is run with random roundings to see what they do to its results."""

NOT_FINITE = (*map(float, ("nan", "inf", "-inf")), -0.0, 0.0)
"""Numbers on which rewrites that look right go wrong, in any order of computing."""

SPECIAL = (*NOT_FINITE, 1e-45, -1e-39, 3.4e38, 65504.0, 1.0)
"""The same, and those that another order of computing takes out of what can be represented."""


def random_feeds(
    graph: Graph,
    seed: int = 0,
    *,
    sizes: Mapping[str, int] | None = None,
    special: bool | Sequence[float] = False,
    extremes: bool = False,
) -> dict[str, Array]:
    """Data for each input of `graph`.

    With `special`, half of the floats are a NaN, infinity, ... (or of the numbers given); with
    `extremes`, half of the integers are the least or the largest of their type, unless the graph
    may take them for a size. Extents that `sizes` does not name become 2, 3, 4, 2, ...
    """
    numbers = SPECIAL if special is True else special or ()
    draw = _Draw(np.random.default_rng(seed), numbers, extremes and not _takes_sizes(graph))
    dims = [dim for value in graph.inputs for dim in value.type.shape]
    names = sorted({name for dim in dims for name in symbols(dim)})
    known: dict[str, Dim] = {name: 2 + index % 3 for index, name in enumerate(names)}
    known.update(sizes or {})
    return {value.name: draw(value, known) for value in graph.inputs}


def _takes_sizes(graph: Graph) -> bool:
    """True where extents or numbers of turns may come from data."""
    return any(op.regions or _is_sized_by_data(op) for op in graph)


def _is_sized_by_data(op: Op) -> bool:
    sizes = {operand.name for operand in op.definition.operands if operand.shape_like}
    pairs = zip(op.operand_names, op.operands, strict=True)
    return any(name in sizes and value.blob is None for name, value in pairs)


@dataclass(frozen=True)
class _Draw:
    generator: np.random.Generator
    special: Sequence[float]
    extremes: bool

    def __call__(self, value: Value, sizes: Mapping[str, Dim]) -> Array:
        shape = value.type.with_shape(*(substitute(dim, sizes) for dim in value.type.shape)).extents
        dtype = value.type.dtype
        if dtype is DType.STR:
            return self.generator.choice(np.array(["", "a", "bc", "ä"], object), shape)
        if dtype is DType.BOOL:
            return self.generator.integers(0, 2, shape).astype(bool)
        if not dtype.is_float and dtype.numpy.kind != "c":
            return self._integers(dtype, shape)
        data = np.asarray(self.generator.standard_normal(shape))
        if self.special:
            data = self._mixed(data, np.array(self.special))
        with np.errstate(all="ignore"):
            return np.asarray(data.astype(dtype.numpy))

    def _integers(self, dtype: DType, shape: tuple[int, ...]) -> Array:
        low = -2 if dtype.is_signed else 0
        data = self.generator.integers(low, 4 if dtype.width > 2 else 2, shape).astype(dtype.numpy)
        if not self.extremes or dtype.is_narrow:
            return data
        limits = np.iinfo(dtype.numpy)
        return self._mixed(data, np.array([limits.min, limits.max], dtype.numpy))

    def _mixed(self, data: Array, others: Array) -> Array:
        chosen = self.generator.random(data.shape or None) < 0.5
        return np.where(chosen, self.generator.choice(others, data.shape), data)


Outputs = Mapping[str, Array]


@dataclass
class CheckNumbers(Observer):
    """Holds what the graph computes after each pass against the pass's contract.

    Numbers that differ by more than rounding are compared with what float64 gives: a result about
    as near to it as before is fine, and so is one that is off by what roundings of each number
    before do to it (behind a `floor`, or where large numbers cancel). A breach is traced to the
    change of the pass that causes it; passes of up to `singly` changes are checked change by change
    in any case.

    `open_feeds` hold NaNs and infinities, for contracts that do not assume finite data.
    `exact_feeds` (also denormals, integer extremes) count for passes whose contract is exact only.
    Of both, those that the graph itself rejects are left out.
    """

    feeds: Sequence[Feeds]
    exact_feeds: Sequence[Feeds] = ()
    open_feeds: Sequence[Feeds] = ()
    singly: int = 0
    _context: PassContext = field(default_factory=PassContext, init=False)
    _before: Graph | None = field(default=None, init=False)
    _version: int = field(default=-1, init=False)
    _answers: list[Outputs | None] = field(default_factory=list["Outputs | None"], init=False)

    @staticmethod
    def on_random_inputs(
        graph: Graph, *, sizes: Mapping[str, int] | None = None, singly: int = 0
    ) -> CheckNumbers:
        """A check on random inputs, and on special ones as far as contracts go.

        Integers that may be sizes or places stay as in the random inputs, which should be valid.
        """
        plain = random_feeds(graph, sizes=sizes)
        kept = {name: array for name, array in plain.items() if array.dtype.kind in "iub"}
        special = random_feeds(graph, 1, sizes=sizes, special=True)
        extreme = random_feeds(graph, 2, sizes=sizes, special=True, extremes=True)
        if _takes_sizes(graph):
            extreme |= kept
        unbounded = random_feeds(graph, 3, sizes=sizes, special=NOT_FINITE)
        return CheckNumbers([plain], [special | kept, extreme], [unbounded | kept], singly)

    def started(self, context: PassContext) -> None:
        """Look at what passes are told, for those that are run again."""
        self._context = context

    def before(self, step: Pass, graph: Graph) -> None:
        """Take the answers to keep, unless they are those after the pass before."""
        if self._before is None or self._version != graph.version:
            self._keep(graph, self._run(graph))

    def after(self, step: Pass, graph: Graph, *, changed: bool) -> None:
        """Compare, and find out which change was wrong."""
        if not changed:
            return
        assert self._before is not None
        answers = self._run(graph, was_fine=True)
        complaint = self._complaint(step.numbers, answers)
        if complaint:
            raise self._bug(step, complaint)
        self._check_singly(step)
        self._keep(graph, answers)

    def failed(self, step: Pass, graph: Graph, error: DiagnosticError) -> None:
        """Forget the answers."""
        self._before = None

    def _keep(self, graph: Graph, answers: list[Outputs | None]) -> None:
        self._before, self._version, self._answers = clone_graph(graph), graph.version, answers

    def _run(self, graph: Graph, *, was_fine: bool = False) -> list[Outputs | None]:
        """The answers; raises LeptonError where the inputs that should be fine are not."""
        run = _unless_rejected if was_fine else interpret
        special = (_unless_rejected(graph, feed) for feed in (*self.open_feeds, *self.exact_feeds))
        return [*(run(graph, feed) for feed in self.feeds), *special]

    def _complaint(self, contract: Contract, answers: Sequence[Outputs | None]) -> str:
        """What `contract` forbids of the change from the answers kept to these."""
        used = len(self.feeds) + (0 if contract.assumes_finite else len(self.open_feeds))
        feeds = (*self.feeds, *self.open_feeds, *self.exact_feeds)
        rows = list(zip(feeds, answers, self._answers, strict=True))
        for feed, got, want in rows if contract.exact else rows[:used]:
            if want is None:
                continue
            if got is None:
                return "rejects inputs that were fine before"
            complaint = self._difference(contract, got, want, feed)
            if complaint:
                return complaint
        return ""

    def _difference(self, contract: Contract, got: Outputs, want: Outputs, feed: Feeds) -> str:
        truth: Outputs | None = None
        shaken: list[Outputs] = []
        for name, expected in want.items():
            worst = contract.worst(got[name], expected)
            if worst > 1 and not contract.exact and expected.dtype.kind in "fV":
                assert self._before is not None
                truth = truth or interpret(self._before, feed, widen=True)
                worst = contract.worst(got[name], expected, truth[name])
            if worst > 1 and truth is not None:
                shaken = shaken or self._shaken(feed)
                noise = max(_distance(run[name], truth[name]) for run in shaken)
                worst = contract.worst(got[name], expected, truth[name], noise)
            if worst <= 1 and self._turned(got[name], expected):
                worst = float("inf")
            if not worst <= 1:
                return (
                    f"changed output {name!r} by {worst:.3g} times what its contract {contract} "
                    f"allows: it is {got[name]!s:.200}, should be {expected!s:.200}"
                )
        return ""

    def _turned(self, got: Array, want: Array) -> bool:
        """True where infinities have the other sign; quotients by zero may have any."""
        if want.dtype.kind not in "fV":
            return False
        infinite = np.isinf(want)
        turned = infinite & np.isinf(got) & (np.signbit(got) != np.signbit(want))
        if not turned.any():
            return False
        assert self._before is not None
        return not any(op.name in QUOTIENTS or "norm" in op.name for op in self._before.walk())

    def _shaken(self, feed: Feeds) -> list[Outputs]:
        """What the graph before gives where every number of it is off by a rounding."""
        assert self._before is not None
        generators = map(np.random.default_rng, range(RUNS))
        return [interpret(self._before, feed, widen=True, noise=each) for each in generators]

    def _check_singly(self, step: Pass) -> None:
        """Hold each change of a pass of few changes against the graph after the change before."""
        assert self._before is not None
        if not self.singly:
            return
        whole = again(self._context, step)
        step.run(clone_graph(self._before), whole)
        if not 1 < len(whole.applied) <= self.singly:
            return
        alone = replace(self, singly=0)
        for number in range(len(whole.applied)):
            graph = self._stopped(step, number)
            alone.before(step, graph)
            after = self._stopped(step, number + 1)
            verify(after)
            complaint = alone._complaint(step.numbers, alone._run(after, was_fine=True))
            if complaint:
                culprit = Culprit(str(step), number + 1, whole.applied[number], complaint)
                raise _bug(step, complaint, culprit)

    def _stopped(self, step: Pass, changes: int) -> Graph:
        assert self._before is not None
        graph = clone_graph(self._before)
        step.run(graph, again(self._context, step, stop_after=changes))
        return graph

    def _bug(self, step: Pass, complaint: str) -> LeptonBug:
        assert self._before is not None

        def judge(graph: Graph) -> str:
            return self._complaint(step.numbers, self._run(graph))

        culprit = first_bad_change(step, self._before, judge, self._context)
        return _bug(step, complaint, culprit)


def _distance(got: Array, want: Array) -> float:
    """How far two tensors are apart where both are finite."""
    if want.dtype.kind not in "fc" or got.shape != want.shape:
        return 0.0
    with np.errstate(all="ignore"):
        off = np.abs(got - want)
    return float(np.max(off[np.isfinite(off)], initial=0.0))


def _bug(step: Pass, complaint: str, culprit: Culprit | None) -> LeptonBug:
    if culprit is None or culprit.applied is None:
        return LeptonBug(f"{step} {complaint}", code="E501")
    applied = culprit.applied
    return LeptonBug(
        f"{step} {culprit.complaint}",
        applied.location,
        [f"it is change {culprit.number} of the pass, by {applied.rule}"],
        code="E501",
    )


def _unless_rejected(graph: Graph, feed: Feeds) -> Outputs | None:
    """What the graph gives for `feed`; None where it is no valid input."""
    try:
        return interpret(graph, feed)
    except (LeptonError, ArithmeticError, LookupError, ValueError):
        return None
