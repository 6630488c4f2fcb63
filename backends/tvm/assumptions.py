"""What types of symbolic extents take for granted, and run time has to check.

Inference takes symbolic extents that have to be equal for equal. Where nothing proves it, the
program compares their sizes before the kernel that relies on it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from leptonc.ir.dims import Dim, symbols
from leptonc.ir.graph import Op
from leptonc.ir.table import Trait


@dataclass(frozen=True)
class Assumption:
    """The extent `found` is `wanted`, or 1 where that broadcasts."""

    found: Dim
    wanted: Dim
    broadcasts: bool

    @property
    def symbols(self) -> frozenset[str]:
        """The symbols whose sizes decide."""
        return symbols(self.found) | symbols(self.wanted)


def assumptions(op: Op) -> list[Assumption]:
    """What `op`, or the operations of a group, take for granted; each thing once."""
    found: dict[Assumption, None] = {}
    for inner in op.regions[0] if op.name == "group" else (op,):
        if not all(value.type.is_static for value in (*inner.operands, *inner.results)):
            found.update(dict.fromkeys(_of(inner)))
    return list(found)


def _of(op: Op) -> Iterator[Assumption]:
    shapes = [value.type.shape for value in op.operands]
    if op.definition.has(Trait.ELEMENTWISE):
        for shape in shapes:
            yield from _broadcast(shape, op.result.type.shape)
    elif op.name == "expand":
        yield from _broadcast(shapes[0], op.result.type.shape)
    elif op.name == "matmul" and len(shapes[0]) > 1 and len(shapes[1]) > 1:
        yield from _equal(shapes[1][-2:-1], shapes[0][-1:])
        for shape in shapes:
            yield from _broadcast(shape[:-2], op.result.type.shape[:-2])
    elif op.name == "concat":
        axis = op.int("axis") % op.result.type.rank
        for shape in shapes[1:]:
            yield from _equal(_without(shape, axis), _without(shapes[0], axis))


def _without(shape: Sequence[Dim], axis: int) -> Sequence[Dim]:
    return (*shape[:axis], *shape[axis + 1 :])


def _broadcast(shape: Sequence[Dim], result: Sequence[Dim]) -> Iterator[Assumption]:
    for found, wanted in zip(reversed(shape), reversed(result), strict=False):
        if found not in (1, wanted) and _is_open(found, wanted):
            yield Assumption(found, wanted, broadcasts=True)


def _is_open(*dims: Dim) -> bool:
    """True unless both are numbers, which were compared at compile time."""
    return not all(isinstance(dim, int) for dim in dims)


def _equal(shape: Iterable[Dim], other: Iterable[Dim]) -> Iterator[Assumption]:
    for found, wanted in zip(shape, other, strict=True):
        if found != wanted and _is_open(found, wanted):
            yield Assumption(found, wanted, broadcasts=False)
