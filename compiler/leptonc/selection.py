"""Which passes and rules of a pipeline run: what is left out or kept by name."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from leptonc.ir.diagnostics import LeptonError, shown
from leptonc.passes.base import Pass, parse_pipeline
from leptonc.passes.registry import Registry


@dataclass(frozen=True)
class Selection:
    """What to leave out (passes or rules) and which passes to keep; empty keeps all."""

    disable: Sequence[str] = ()
    only: Sequence[str] = ()


NOTHING = Selection()


@dataclass(frozen=True)
class Chosen:
    """The passes to run, and the rules that they must not apply."""

    passes: Sequence[Pass]
    disabled: frozenset[str] = field(default_factory=frozenset[str])

    @property
    def text(self) -> str:
        """The pipeline as text."""
        return ",".join(map(str, self.passes))


def choose(pipeline: str, selection: Selection = NOTHING, needed: str = "") -> Chosen:
    """The passes of `pipeline` that `selection` leaves; raises E402 for names that are none.

    `needed` is the text of passes that run in any case: those can be named, and stay.
    """
    registry = Registry()
    passes = parse_pipeline(pipeline, registry)
    there = {step.name for step in passes}
    for name in selection.only:
        if name not in registry:
            raise unknown_pass(name, registry)
        if name not in there:
            raise LeptonError(
                f"pass {name} is not among those that would run",
                notes=[f"they are: {', '.join(sorted(there))}", "--passes says what runs"],
                code="E402",
            )
    _check_disabled(selection.disable, registry, there, needed)
    kept = [
        step
        for step in passes
        if step.name not in selection.disable
        and (not selection.only or step.name in selection.only)
    ]
    return Chosen(kept, frozenset(name for name in selection.disable if name not in registry))


def _check_disabled(names: Iterable[str], registry: Registry, there: set[str], needed: str) -> None:
    """Raise E402 for a name that is no pass and no rule, or that of a pass that has to run."""
    always = {step.name for step in parse_pipeline(needed, registry)}
    rules: Mapping[str, list[str]] | None = None
    for name in names:
        if name in registry:
            if name in always and name not in there:
                raise LeptonError(
                    f"pass {name} cannot be left out: no kernels can be made without it",
                    code="E402",
                )
            continue
        rules = rules or rules_of(registry)
        if name not in rules:
            raise unknown_pass_or_rule(name, registry)


def rules_of(registry: Registry) -> dict[str, list[str]]:
    """The passes that have a rule, by the rule's name."""
    found: dict[str, list[str]] = {}
    for name in registry:
        for rule in getattr(registry[name], "rules", ()):
            found.setdefault(rule.name, []).append(name)
    return found


def unknown_pass(name: str, registry: Registry) -> LeptonError:
    """That there is no such pass, and which ones are called nearly so."""
    return _unknown(name, "pass", list(registry))


def unknown_pass_or_rule(name: str, registry: Registry) -> LeptonError:
    """That there is neither a pass nor a rule of that name."""
    return _unknown(name, "pass or rule", [*registry, *rules_of(registry)])


def _unknown(name: str, what: str, known: Sequence[str]) -> LeptonError:
    near = difflib.get_close_matches(name, known, 3)
    hints = [f"did you mean {' or '.join(near)}?"] if near else []
    return LeptonError(
        f"there is no {what} {shown(name)}",
        notes=[*hints, "leptonc passes lists the passes, leptonc passes NAME the rules of one"],
        code="E402",
    )
