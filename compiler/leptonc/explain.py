"""What passes did to a graph and what they nearly did, gathered from the notes they leave."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from leptonc.ir.graph import Graph
from leptonc.ir.location import Location
from leptonc.passes.context import PassContext
from leptonc.passes.observers import Timing


@dataclass(frozen=True)
class Fired:
    """Applications of one rule by one pass."""

    step: str
    rule: str
    count: int
    nodes: tuple[str, ...]
    """The nodes of the model that they replaced, each once."""


@dataclass(frozen=True)
class Missed:
    """Places where a rule's pattern fitted and one condition did not."""

    rule: str
    reason: str
    count: int
    nodes: tuple[str, ...]


@dataclass(frozen=True)
class Explanation:
    """What was done, in the order of the passes; what was not, the most frequent first."""

    fired: tuple[Fired, ...]
    missed: tuple[Missed, ...]

    def as_json(self) -> dict[str, Any]:
        """All of it, nothing capped."""
        return {
            "applied": [
                {"pass": row.step, "rule": row.rule, "count": row.count, "nodes": list(row.nodes)}
                for row in self.fired
            ],
            "missed": [
                {
                    "rule": row.rule,
                    "reason": row.reason,
                    "count": row.count,
                    "nodes": list(row.nodes),
                }
                for row in self.missed
            ],
        }


def explain(context: PassContext) -> Explanation:
    """The notes of one run. What a later pass could do after all is not missed."""
    fired: dict[tuple[str, str], list[Location]] = {}
    done: dict[str, set[str]] = {}
    for item in context.applied:
        fired.setdefault((item.step, item.rule), []).append(item.location)
        done.setdefault(item.rule, set()).update(item.location.nodes)
    missed: dict[tuple[str, str], dict[Location, None]] = {}
    for miss in context.misses:
        nodes = miss.location.nodes
        if not nodes or not done.get(miss.rule, set[str]()).issuperset(nodes):
            missed.setdefault((miss.rule, miss.reason), {})[miss.location] = None
    lost = [
        Missed(rule, reason, len(places), _nodes(places))
        for (rule, reason), places in missed.items()
    ]
    return Explanation(
        tuple(
            Fired(step, rule, len(places), _nodes(places)) for (step, rule), places in fired.items()
        ),
        tuple(sorted(lost, key=lambda row: (-row.count, row.rule, row.reason))),
    )


def _nodes(places: Iterable[Location]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(node for place in places for node in place.nodes))


def unused_inputs(graph: Graph) -> tuple[str, ...]:
    """The inputs that nothing reads."""
    return tuple(value.name for value in graph.inputs if not value.is_used)


def timings_json(timings: Sequence[Timing]) -> list[dict[str, Any]]:
    """The table of passes."""
    return [
        {
            "pass": row.step,
            "changes": row.changes,
            "seconds": row.seconds,
            "nodes": {"before": row.before.nodes, "after": row.after.nodes},
            "constant_bytes": {
                "before": row.before.constant_bytes,
                "after": row.after.constant_bytes,
            },
            "flops": {"before": row.before.flops, "after": row.after.flops},
        }
        for row in timings
    ]
