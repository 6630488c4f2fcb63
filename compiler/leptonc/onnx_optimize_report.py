"""What optimising a model did, for people and for machines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import onnx

from leptonc.explain import Explanation, timings_json
from leptonc.onnx_compare import Verdict
from leptonc.onnx_kept import recognized
from leptonc.passes.observers import Timing


@dataclass(frozen=True)
class OptimizeReport:
    """What was done."""

    model: onnx.ModelProto
    """The result; without its data where it was written to a file."""
    explanation: Explanation
    timings: Sequence[Timing]
    before: Mapping[str, int]
    """How many nodes of each operator there were; those after it are in `after`."""
    after: Mapping[str, int]
    unused: tuple[str, ...]
    seconds: float
    verdict: Verdict | None = None

    @property
    def nodes(self) -> tuple[int, int]:
        """How many nodes there were and are."""
        return sum(self.before.values()), sum(self.after.values())

    @property
    def opsets(self) -> dict[str, int]:
        """What the result is written for, by domain."""
        return {item.domain: item.version for item in self.model.opset_import}

    @property
    def rules(self) -> dict[str, int]:
        """How often each rule was applied."""
        counts: dict[str, int] = {}
        for row in self.explanation.fired:
            counts[row.rule] = counts.get(row.rule, 0) + row.count
        return counts

    @property
    def recognized(self) -> dict[str, int]:
        """The operators that several nodes became one of."""
        return recognized(dict(self.before), dict(self.after))

    def as_json(self) -> dict[str, Any]:
        """For machines, nothing left out."""
        before, after = self.nodes
        return {
            "seconds": self.seconds,
            "nodes": {"before": before, "after": after},
            "operators": {"before": dict(self.before), "after": dict(self.after)},
            "opset": self.opsets[""],
            "opsets": self.opsets,
            "rules": self.rules,
            "explain": self.explanation.as_json(),
            "passes": timings_json(self.timings),
            "recognized": self.recognized,
            "unused_inputs": list(self.unused),
            "check": None if self.verdict is None else self.verdict.as_json(),
        }
