"""The order in which a region's operations can run: after what they read and the sizes they need.

A graph has definitions before uses of values, but a size may be used without a value that leads to
the operation that tells it, and the sizes of kernels are read before they run.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from leptonc.backends.tvm.source import KernelSource
from leptonc.ir.diagnostics import LeptonError
from leptonc.ir.dims import Dim, symbols
from leptonc.ir.graph import Op, Region, Value

NO_CODE = ("const", "dims", "return")
"""Operations for which nothing is called."""
KNOWN = ("const", "dims", "extents")
"""What makes values that can be written anywhere, once the symbols in them are numbers."""


def names_of(op: Op) -> Sequence[Dim]:
    """What the elements of the operand of `extents` are from there on."""
    names = op.attrs["names"]
    assert isinstance(names, tuple)
    return names  # pyright: ignore[reportReturnType]


def plain_symbols(shape: Iterable[Dim]) -> set[str]:
    """The symbols that are an extent of the shape themselves, so that the shape tells them."""
    return {str(dim) for dim in shape if str(dim) in symbols(dim)}


def told_by(op: Op) -> set[str]:
    """The symbols that are numbers once `op` has run."""
    return plain_symbols(names_of(op)) if op.name == "extents" else set()


def needed_by(op: Op, source: KernelSource | None) -> set[str]:
    """The symbols that must be numbers before `op` can run."""
    if op.name == "extents":
        given = [dim for dim in names_of(op) if str(dim) not in symbols(dim)]
        return _symbols((*_content(op.operands[0]), *given))
    needed = _symbols(dim for value in op.results for dim in value.type.shape)
    for value in op.operands:
        if value.producer is not None and value.producer.name in ("dims", "extents"):
            needed |= _symbols(_content(value))
    return needed.union(source.scalars) if source is not None else needed


def _content(value: Value) -> Sequence[Dim]:
    return () if value.content is None else value.content.reshape(-1).tolist()


def _symbols(dims: Iterable[Dim]) -> set[str]:
    return {name for dim in dims for name in symbols(dim)}


def runnable(region: Region, sources: Mapping[Op, KernelSource], told: Iterable[str]) -> list[Op]:
    """The operations of `region` that something is called for, in an order that can run.

    `told` are the symbols that are numbers before. Raises E802 where nothing tells a size.
    """
    order = _Order(sources, set(told))
    for op in region:
        if op.name not in NO_CODE:
            order.add(op)
    order.check()
    return order.done


class _Order:
    """Operations in an order that can run, and those that wait for a size."""

    def __init__(self, sources: Mapping[Op, KernelSource], known: set[str]) -> None:
        self.sources, self.known = sources, known
        self.done: list[Op] = []
        self.waiting: dict[Op, set[str]] = {}
        """What each operation needs that cannot run yet, in the order of the region."""

    def add(self, op: Op) -> None:
        """Put `op`, and what waited for it, to those that can run."""
        needed = needed_by(op, self.sources.get(op))
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
        return needed <= self.known and not any(v.producer in self.waiting for v in op.operands)

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
