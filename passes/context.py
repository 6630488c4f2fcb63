"""What passes share during one run of a pipeline."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from leptonc.ir.location import Location


@dataclass(frozen=True, slots=True)
class Miss:
    """A rule whose pattern fitted and whose condition did not."""

    rule: str
    location: Location
    reason: str


@dataclass(frozen=True, slots=True)
class Applied:
    """One application of a rule."""

    step: str
    rule: str
    location: Location


@dataclass
class PassContext:
    """What passes are told, and the notes they leave for the driver's reports.

    `facts` holds descriptions that a target gives (such as `FusionLimits`), by their class.
    """

    stop_after: int | None = None
    """Refuse changes past this many; `bisect` finds the first bad one with it."""
    facts: dict[type, Any] = field(default_factory=dict[type, Any])
    misses: list[Miss] = field(default_factory=list[Miss])
    applied: list[Applied] = field(default_factory=list[Applied])
    disabled: frozenset[str] = frozenset()
    """Names of rules that must not be applied."""
    step: str = ""
    """The pass that runs now."""

    def grant(self, rule: str, location: Location) -> bool:
        """Note one change that is about to be made; False where it is not allowed."""
        if rule in self.disabled:
            return False
        if self.stop_after is not None and len(self.applied) >= self.stop_after:
            return False
        self.applied.append(Applied(self.step, rule, location))
        return True

    def miss(self, rule: str, location: Location, reason: str) -> None:
        """Note why `rule` did not apply, for ``--explain``."""
        self.misses.append(Miss(rule, location, reason))

    @property
    def counts(self) -> dict[str, int]:
        """How often each rule applied."""
        return dict(Counter(entry.rule for entry in self.applied))
