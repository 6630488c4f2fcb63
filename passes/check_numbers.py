"""The observer that holds passes to their numeric contracts, and inputs that find breaches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from leptonc.ir.blob import Array
from leptonc.ir.diagnostics import DiagnosticError, LeptonBug
from leptonc.ir.dims import Dim, substitute, symbols
from leptonc.ir.graph import Graph, Value
from leptonc.ir.interpret import interpret
from leptonc.ir.types import DType
from leptonc.passes.base import Pass
from leptonc.passes.observers import Observer

Feeds = Mapping[str, Array]

SPECIAL = (*map(float, ("nan", "inf", "-inf")), -0.0, 0.0, 1e-45, -1e-39, 3.4e38, 65504.0, 1.0)
"""Numbers on which rewrites that look right go wrong."""


def random_feeds(
    graph: Graph, seed: int = 0, *, sizes: Mapping[str, int] | None = None, special: bool = False
) -> dict[str, Array]:
    """Data for each input of `graph`; with `special`, half of the numbers are a NaN, infinity, ...

    Extents that `sizes` does not name become 2, 3, 4, 2, ...
    """
    generator = np.random.default_rng(seed)
    dims = [dim for value in graph.inputs for dim in value.type.shape]
    names = sorted({name for dim in dims for name in symbols(dim)})
    known: dict[str, Dim] = {name: 2 + index % 3 for index, name in enumerate(names)}
    known.update(sizes or {})
    return {value.name: _random(value, known, generator, special=special) for value in graph.inputs}


def _random(
    value: Value, sizes: Mapping[str, Dim], generator: np.random.Generator, *, special: bool
) -> Array:
    shape = value.type.with_shape(*(substitute(dim, sizes) for dim in value.type.shape)).extents
    dtype = value.type.dtype
    if dtype is DType.STR:
        return generator.choice(np.array(["", "a", "bc", "ä"], object), shape)
    if dtype is DType.BOOL:
        return generator.integers(0, 2, shape).astype(bool)
    if not dtype.is_float and dtype.numpy.kind != "c":
        low = -2 if dtype.is_signed else 0
        return generator.integers(low, 4 if dtype.width > 2 else 2, shape).astype(dtype.numpy)
    data = np.asarray(generator.standard_normal(shape))
    if special:
        chosen = generator.random(shape) < 0.5
        data = np.where(chosen, generator.choice(np.array(SPECIAL), shape), data)
    with np.errstate(all="ignore"):
        return np.asarray(data.astype(dtype.numpy))


@dataclass
class CheckNumbers(Observer):
    """Compares what the graph computes before and after each pass, by the pass's contract.

    `exact_feeds` (NaNs, infinities, denormals) count for passes whose contract is exact only.
    """

    feeds: Sequence[Feeds]
    exact_feeds: Sequence[Feeds] = ()
    _before: list[dict[str, Array]] = field(default_factory=list[dict[str, Array]], init=False)

    @staticmethod
    def on_random_inputs(graph: Graph, *, sizes: Mapping[str, int] | None = None) -> CheckNumbers:
        """A check on random inputs, and on special ones where the contract is exact."""
        special = [random_feeds(graph, seed, sizes=sizes, special=True) for seed in (1, 2)]
        return CheckNumbers([random_feeds(graph, sizes=sizes)], special)

    def before(self, step: Pass, graph: Graph) -> None:
        """Take the answers to keep, unless they are those after the pass before."""
        if not self._before:
            self._before = self._run(graph)

    def after(self, step: Pass, graph: Graph, *, changed: bool) -> None:
        """Compare."""
        if not changed:
            return
        answers = self._run(graph)
        used = len(answers) if step.numbers.exact else len(self.feeds)
        for got, want in zip(answers[:used], self._before[:used], strict=True):
            _compare(step, got, want)
        self._before = answers

    def failed(self, step: Pass, graph: Graph, error: DiagnosticError) -> None:
        """Forget the answers."""
        self._before = []

    def _run(self, graph: Graph) -> list[dict[str, Array]]:
        return [interpret(graph, feeds) for feeds in (*self.feeds, *self.exact_feeds)]


def _compare(step: Pass, got: Mapping[str, Array], want: Mapping[str, Array]) -> None:
    for name, expected in want.items():
        worst = step.numbers.worst(got[name], expected)
        if not worst <= 1:
            raise LeptonBug(
                f"{step} changed output {name!r} by {worst:.3g} times what its contract "
                f"{step.numbers} allows",
                notes=[f"it is {got[name]!s:.200}", f"should be {expected!s:.200}"],
                code="E501",
            )
