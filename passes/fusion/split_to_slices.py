"""split-to-slices: each part of a split becomes a slice, which can join what reads it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from leptonc.ir.build import Builder
from leptonc.ir.graph import Value
from leptonc.passes.base import RewritePass
from leptonc.passes.contract import EXACT, Contract
from leptonc.passes.pattern import Match, pat
from leptonc.passes.rewrite import Rule, rule


@rule(pat.split(...))
def split_apart(m: Match, build: Builder) -> list[Value]:
    """The parts of a split are slices."""
    op, source = m.root, m.root.operands[0]
    axis = op.int("axis") % source.type.rank
    lengths = [value.type.shape[axis] for value in op.results]
    known = [length for length in lengths if isinstance(length, int)]
    whole = isinstance(source.type.shape[axis], int)
    m.require(
        whole and len(known) == len(lengths), "how long the parts are is known at run time only"
    )
    ends = np.cumsum(known).tolist()
    parts: list[Value] = []
    for value, start, end in zip(op.results, [0, *ends], ends, strict=False):
        limits = [build.const(np.array([at], np.int64)) for at in (start, end, axis)]
        parts.append(build.slice(source, *limits) if value.is_used else value)
    return parts


@dataclass(frozen=True)
class SplitToSlices(RewritePass):
    """Turns splits into slices, so that each part is cut out by the kernel that reads it."""

    name: ClassVar[str] = "split-to-slices"
    numbers: ClassVar[Contract] = EXACT
    rules: ClassVar[tuple[Rule, ...]] = (split_apart,)
