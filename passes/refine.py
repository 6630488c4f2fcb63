"""Replacing values by better known ones, and dropping what nothing reads."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterable, Mapping

from leptonc.ir.build import infer_content, infer_types
from leptonc.ir.dims import Dim, Expr, substitute, symbols
from leptonc.ir.extents import map_extents
from leptonc.ir.graph import Graph, Op, Value
from leptonc.ir.table import RETURN, Trait
from leptonc.ir.types import TensorType

_FRESH = re.compile(r"u\d+_|\?.*")


def refines(new: TensorType, old: TensorType) -> bool:
    """True where `new` is `old`, or says more about extents that `old` leaves open."""
    return (
        new.dtype is old.dtype
        and new.rank == old.rank
        and all(_refines_dim(a, b) for a, b in zip(new.shape, old.shape, strict=True))
    )


def _refines_dim(new: Dim, old: Dim) -> bool:
    if new == old:
        return True
    if isinstance(old, int):
        return False
    return isinstance(new, int) or _is_fresh(old)


def _is_fresh(dim: Dim) -> bool:
    """True for an extent of which some part is known at run time only."""
    return any(_FRESH.fullmatch(name) for name in symbols(dim))


def replace_value(old: Value, new: Value) -> None:
    """Make every reader of `old` read `new`; what `new` knows better flows on to their results."""
    refined = new.type != old.type or (old.content is None and new.content is not None)
    learnt = _learnt(old.type, new.type)
    readers = old.users
    if not new.name:
        new.name = old.name
    old.replace_uses_with(new)
    graph = next((reader.graph for reader in readers), None)
    if learnt and graph is not None:
        substitute_dims(graph, learnt)
    if refined:
        update_types(readers)


def _learnt(old: TensorType, new: TensorType) -> dict[str, Dim]:
    """The extents that had names because they were not known, and now are."""
    return {
        str(before): after
        for before, after in zip(old.shape, new.shape, strict=True)
        if before != after and _FRESH.fullmatch(str(before)) and str(before) not in symbols(after)
    }


def substitute_dims(graph: Graph, known: Mapping[str, Dim]) -> None:
    """Put what is known about symbols in place of them, in every type, content and attribute."""
    map_extents(graph, _Bound(known).of)


class _Bound:
    """Extents with what is known put in, each computed once."""

    def __init__(self, known: Mapping[str, Dim]) -> None:
        self.known = known
        self.seen: dict[Expr, Dim] = {}

    def of(self, dim: Dim) -> Dim:
        """The extent with what is known."""
        if not isinstance(dim, Expr):
            return dim
        if dim not in self.seen:
            named = not self.known.keys().isdisjoint(symbols(dim))
            self.seen[dim] = substitute(dim, self.known) if named else dim
        return self.seen[dim]


def update_types(ops: Iterable[Op]) -> None:
    """Infer the types of `ops` again, and of what reads them as long as they say more.

    What is learnt about an extent holds wherever it is named.
    """
    waiting = deque(ops)
    learnt: dict[str, Dim] = {}
    graph: Graph | None = None
    while waiting:
        op = waiting.popleft()
        if op.definition is RETURN or op.region is None or not op.results:
            continue
        if _update(op, learnt):
            graph = op.graph
            waiting.extend(reader for result in op.results for reader in result.users)
    if learnt and graph is not None:
        substitute_dims(graph, learnt)


def _update(op: Op, learnt: dict[str, Dim]) -> bool:
    changed = False
    for result, type in zip(op.results, infer_types(op), strict=True):
        shape = tuple(
            old if _is_fresh(new) else new
            for new, old in zip(type.shape, result.type.shape, strict=True)
        )
        better = type.with_shape(*shape)
        if better != result.type and refines(better, result.type):
            learnt.update(_learnt(result.type, better))
            result.type = better
            changed = True
    content = infer_content(op)
    if content is not None and op.results[0].content is None:
        op.results[0].content = content
        changed = True
    return changed


def erase_dead_from(ops: Iterable[Op]) -> int:
    """Erase those of `ops` that nothing reads, then whatever fed only them; return how many."""
    waiting = list(ops)
    erased = 0
    while waiting:
        op = waiting.pop()
        if op.region is None or op.definition is RETURN or has_effect(op):
            continue
        if any(result.is_used for result in op.results):
            continue
        waiting += _feeders(op)
        op.region.erase(op)
        erased += 1
    return erased


def has_effect(op: Op) -> bool:
    """True where `op`, or an operation inside it, must not be removed."""
    if op.definition.has(Trait.EFFECT):
        return True
    inner = (each for part in op.regions for each in part.walk())
    return bool(op.regions) and any(each.definition.has(Trait.EFFECT) for each in inner)


def _feeders(op: Op) -> list[Op]:
    feeders = [value.producer for value in op.operands if value.producer is not None]
    for region in op.regions:
        for inner in region.walk():
            feeders += [value.producer for value in inner.operands if value.producer is not None]
    return feeders
