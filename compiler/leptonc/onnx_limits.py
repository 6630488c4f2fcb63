"""What a model may ask of the importer; everything beyond is refused before it costs anything."""

from __future__ import annotations

from dataclasses import dataclass, fields

OLDEST_OPSET = 6
"""The oldest opset whose operators are upgraded; of older ones those that are the same in it."""


@dataclass(frozen=True)
class Limits:
    """The limits of importing, each with a default that no honest model comes near."""

    functions: int = 10_000
    function_depth: int = 100
    subgraph_depth: int = 32
    nodes: int = 1_000_000
    name_length: int = 4096
    rank: int = 32
    extent: int = 2**31 - 1


LIMITS = Limits()

_MEANING = {
    "functions": "local functions in a model",
    "function_depth": "functions that call each other, one inside the other",
    "subgraph_depth": "bodies of If, Loop and Scan, one inside the other",
    "nodes": "nodes once every function is expanded",
    "name_length": "characters of a name that are kept",
    "rank": "dimensions of a tensor",
    "extent": "size of one dimension of a tensor",
}


def limits_table(limits: Limits = LIMITS) -> list[tuple[str, int, str]]:
    """Name, value and meaning of each limit."""
    return [(f.name, getattr(limits, f.name), _MEANING[f.name]) for f in fields(limits)]
