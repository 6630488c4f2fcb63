"""What is wrong with a model, collected: each fault once, told in the order of the model."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TypeAlias

from leptonc.ir.diagnostics import LeptonError, shown
from leptonc.ir.location import Location

FILE, FUNCTIONS, INPUTS, INITIALIZERS, NODES, OUTPUTS = range(6)
"""The parts of a model or of a graph, in the order in which their faults are told."""

MOST_LINES = 25
"""Faults of one kind that an error lists; `leptonc check --verbose` lists them all."""

MOST_NAMES = 10
"""Nodes that are named for one operator."""


@dataclass(frozen=True)
class Unsupported:
    """One node whose operator leptonc does not have."""

    op_type: str
    domain: str
    opset: int
    node: str
    reason: str
    help: str = ""

    @property
    def operator(self) -> str:
        """The operator with its domain and opset."""
        name = f"{self.domain}.{self.op_type}" if self.domain else self.op_type
        return f"{shown(name)} of opset {self.opset}"

    def as_error(self) -> LeptonError:
        """The same as an error."""
        return LeptonError(
            f"{self.operator} cannot be imported: {self.reason}",
            Location((self.node,)),
            notes=[self.help] if self.help else [],
            code="E013",
        )


Fault: TypeAlias = "LeptonError | Unsupported"
Kept: TypeAlias = list[tuple[tuple[int, ...], Fault]]
"""Faults with the parts of the model that have them."""


@dataclass
class Findings:
    """What is wrong with a model, collected over all of it."""

    notices: list[str] = field(default_factory=list[str])
    nodes: int = 0
    """How many nodes there were, those of expanded functions included."""
    place: tuple[int, ...] = ()
    """The part of the model that is looked at, from the outermost one inwards."""
    _found: Kept = field(default_factory=list[tuple[tuple[int, ...], Fault]])
    _known: set[object] = field(default_factory=set[object])

    def add(self, fault: Fault, *steps: int) -> None:
        """Keep a fault of the part `steps` inside the present one, unless it is known already."""
        key = (
            (fault.code, fault.message, fault.location) if isinstance(fault, LeptonError) else fault
        )
        if key not in self._known:
            self._known.add(key)
            self._found.append(((*self.place, *steps), fault))

    @contextmanager
    def at(self, *steps: int) -> Generator[None]:
        """Look at a part of the present part."""
        outer = self.place
        self.place = (*outer, *steps)
        try:
            yield
        finally:
            self.place = outer

    @contextmanager
    def apart(self) -> Generator[Kept]:
        """Keep the faults that are found meanwhile in a list of their own."""
        outer, self._found, self._known = (self._found, self._known), [], set()
        kept = self._found
        try:
            yield kept
        finally:
            self._found, self._known = outer

    def keep(self, kept: Kept) -> None:
        """Keep faults that were found apart."""
        present = self.place
        for place, fault in kept:
            self.place = place
            self.add(fault)
        self.place = present

    @property
    def faults(self) -> list[Fault]:
        """Everything that is wrong, in the order of the model."""
        return [fault for _, fault in sorted(self._found, key=lambda item: item[0])]

    @property
    def problems(self) -> list[LeptonError]:
        """What is wrong with the model itself."""
        return [fault for fault in self.faults if isinstance(fault, LeptonError)]

    @property
    def unsupported(self) -> list[Unsupported]:
        """The nodes whose operators leptonc does not have."""
        return [fault for fault in self.faults if isinstance(fault, Unsupported)]


def as_error(fault: Fault) -> LeptonError:
    """A fault as an error of its own."""
    return fault.as_error() if isinstance(fault, Unsupported) else fault


def error_of(faults: Sequence[Fault]) -> LeptonError:
    """Everything that is wrong with a model as one error, which has each fault in `faults`."""
    if len(faults) == 1 and isinstance(faults[0], LeptonError):
        error = faults[0]
    elif all(isinstance(fault, Unsupported) for fault in faults):
        noun = "node" if len(faults) == 1 else "nodes"
        message = f"{len(faults)} {noun} of the model cannot be imported"
        error = LeptonError(message, notes=lines_of(faults), code="E013")
    else:
        message = f"the model has {len(faults)} problems"
        error = LeptonError(message, notes=lines_of(faults), code="E020")
    error.faults = tuple(map(as_error, faults))
    return error


def lines_of(faults: Iterable[Fault], most: int = MOST_LINES) -> list[str]:
    """A line for each fault, at most `most` of a kind; nodes with one operator share theirs."""
    lines: dict[object, list[str]] = {}
    kinds: dict[object, str] = {}
    groups: dict[object, list[Unsupported]] = {}
    for fault in faults:
        if isinstance(fault, Unsupported):
            key = (fault.domain, fault.op_type, fault.opset, fault.reason)
            groups.setdefault(key, []).append(fault)
            lines[key], kinds[key] = [], "E013"
        else:
            lines[id(fault)], kinds[id(fault)] = [_line(fault)], fault.code
    lines.update({key: [_group_line(group)] for key, group in groups.items()})
    return _shortened([(kinds[key], text) for key, (text,) in lines.items()], most)


def _shortened(lines: Sequence[tuple[str, str]], most: int) -> list[str]:
    told: list[str] = []
    counts: dict[str, int] = {}
    for kind, text in lines:
        counts[kind] = counts.get(kind, 0) + 1
        if counts[kind] <= most:
            told.append(text)
    rest: Mapping[str, int] = {kind: n - most for kind, n in counts.items() if n > most}
    return told + [
        f"and {count} more of {kind}; leptonc check --verbose lists them all"
        for kind, count in rest.items()
    ]


def _line(error: LeptonError) -> str:
    where = f" at {error.location}" if error.location.nodes else ""
    notes = f" ({'; '.join(error.notes)})" if error.notes else ""
    return f"{error.code}{where}: {error.message}{notes}"


def _group_line(group: Sequence[Unsupported]) -> str:
    names = ", ".join(shown(item.node) for item in group[:MOST_NAMES])
    more = f" and {len(group) - MOST_NAMES} more" if len(group) > MOST_NAMES else ""
    return f"{group[0].operator}, {len(group)}x (at {names}{more}): {group[0].reason}"
