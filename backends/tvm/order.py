"""The order in which a region's operations can run: after what they read and the sizes they need.

A graph has definitions before uses of values, but a size may be used without a value that leads to
the operation that tells it, and the sizes of kernels are read before they run.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from leptonc.backends.tvm.regions import NO_CODE, Demand, needed_by, told_by
from leptonc.backends.tvm.source import KernelSource
from leptonc.ir.diagnostics import LeptonError
from leptonc.ir.graph import Op, Region


def runnable(
    region: Region,
    sources: Mapping[Op, KernelSource],
    demands: Mapping[Op, Demand],
    told: Iterable[str],
) -> list[Op]:
    """The operations of `region` that something is called for, in an order that can run.

    `told` are the symbols that are numbers before. Raises E802 where nothing tells a size.
    """
    order = _Order(sources, demands, set(told))
    for op in region:
        if op.name not in NO_CODE:
            order.add(op)
    order.check()
    return order.done


class _Order:
    """Operations in an order that can run, and those that wait for a size."""

    def __init__(
        self, sources: Mapping[Op, KernelSource], demands: Mapping[Op, Demand], known: set[str]
    ) -> None:
        self.sources, self.demands, self.known = sources, demands, known
        self.done: list[Op] = []
        self.waiting: dict[Op, set[str]] = {}
        """What each operation needs that cannot run yet, in the order of the region."""

    def add(self, op: Op) -> None:
        """Put `op`, and what waited for it, to those that can run."""
        needed = needed_by(op, self.sources, self.demands)
        if not self._is_ready(op, needed):
            self.waiting[op] = needed
            return
        self.done.append(op)
        if not told_by(op) <= self.known:
            self.known |= told_by(op)
            waiting, self.waiting = list(self.waiting), {}
            for other in waiting:
                self.add(other)

    def _is_ready(self, op: Op, needed: set[str]) -> bool:
        captures = self.demands[op].captures if op in self.demands else ()
        read = (*op.operands, *captures)
        return needed <= self.known and not any(value.producer in self.waiting for value in read)

    def check(self) -> None:
        """Raise E802 where something waits for a size that nothing tells."""
        for op, needed in self.waiting.items():
            raise _untold(op, needed - self.known)


def _untold(op: Op, missing: Iterable[str]) -> LeptonError:
    return LeptonError(
        f"nothing tells the size {', '.join(sorted(missing))} before {op.name} needs it",
        op.location,
        code="E802",
    )
