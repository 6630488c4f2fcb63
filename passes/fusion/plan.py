"""Deciding which operations of a region become one kernel."""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import cast

import networkx as nx

from leptonc.ir.graph import Op, Region, Value
from leptonc.ir.ops.run_time import EXTENTS
from leptonc.ir.table import CONST, DIMS, GROUP, RETURN, Trait
from leptonc.passes.fusion.limits import FusionLimits

CHEAP = frozenset({
    "abs", "add", "and", "bitwise_and", "bitwise_not", "bitwise_or", "bitwise_xor", "cast", "clip",
    "equal", "greater", "greater_or_equal", "identity", "less", "less_or_equal", "max", "min",
    "mul", "neg", "not", "or", "relu", "sub", "where", "xor",
})  # fmt: skip
"""Elementwise operations that cost no more than the load that computing them again saves."""

MOVES = frozenset({
    "constant_of_shape", "expand", "flatten", "identity", "range", "reshape", "slice", "squeeze",
    "transpose", "unsqueeze",
})  # fmt: skip
"""Copies of elements that are found by index arithmetic alone."""

REPEATING = frozenset({
    "expand", "gather", "gather_elements", "gather_nd", "one_hot", "resize", "tile", "upsample",
})  # fmt: skip
"""Operations that copy an element but may copy it many times."""


class Kind(enum.Enum):
    """What an operation is to fusion; the value is the kind of a group around it."""

    ELEMENTWISE = "elementwise"
    INJECTIVE = "injective"
    REDUCTION = "reduction"
    PRODUCT = "product"
    OPAQUE = "opaque"


def kind_of(op: Op, limits: FusionLimits) -> Kind | None:
    """What `op` is to fusion; None for what stays outside of groups."""
    row = op.definition
    if row in (CONST, DIMS, EXTENTS, GROUP, RETURN) or op.regions:
        return None
    if op.name in limits.opaque or row.has(Trait.EFFECT) or row.takes_memory:
        return Kind.OPAQUE
    for kind in (Kind.PRODUCT, Kind.REDUCTION, Kind.ELEMENTWISE, Kind.INJECTIVE):
        if row.has(Trait[kind.name]):
            return kind if len(op.results) == 1 or kind is not Kind.ELEMENTWISE else Kind.OPAQUE
    return Kind.OPAQUE


@dataclass(eq=False)
class Group:
    """Operations that become one kernel. All of them lead to `exit` and to nothing else outside."""

    exit: Op
    kind: Kind
    ops: list[Op]
    anchor: Op | None = None
    """The product, reduction or opaque operation, if there is one."""
    before: set[Op] = field(default_factory=set[Op])
    """The anchor, and the operations whose results it reads."""
    repeated: set[Op] = field(default_factory=set[Op])
    """The operations computed more often than they have elements."""


class Planner:
    """Puts each computing operation of a region into exactly one group.

    A group has one exit, through which everything else in it leads, so groups cannot depend on
    each other in a circle. Products and reductions first take the elementwise operations up to
    their post-dominators; what is left is merged from the end of the region.
    """

    def __init__(self, region: Region, limits: FusionLimits) -> None:
        self.limits = limits
        self.kinds = {op: kind for op in region if (kind := kind_of(op, limits)) is not None}
        self.groups: dict[Op, Group] = {}
        for op, kind in self.kinds.items():
            anchored = kind not in (Kind.ELEMENTWISE, Kind.INJECTIVE)
            self.groups[op] = Group(op, kind, [op], op, {op}) if anchored else Group(op, kind, [op])
        self.readers = {op: self._readers(op) for op in self.kinds}
        self.exits = self._post_dominators()

    def plan(self, *, fuse: bool = True) -> list[Group]:
        """The groups, in the order of their exits; each operation by itself unless `fuse`."""
        if not fuse:
            return list(self.groups.values())
        for kind in (Kind.PRODUCT, Kind.REDUCTION):
            for op in self.kinds:
                if self.kinds[op] is kind and op.name not in self.limits.closed:
                    self._take_epilogue(op)
        for op in reversed(self.kinds):
            if self.kinds[op] in (Kind.ELEMENTWISE, Kind.INJECTIVE):
                self._merge_forward(op)
        for group in self._distinct():
            self._peel_views(group)
        order = {op: index for index, op in enumerate(self.kinds)}
        for group in self._distinct():
            group.ops.sort(key=order.__getitem__)
        return sorted(self._distinct(), key=lambda group: order[group.exit])

    def _distinct(self) -> list[Group]:
        return list(dict.fromkeys(self.groups.values()))

    def _readers(self, op: Op) -> list[Op] | None:
        """The operations that read `op`; None where one of them cannot be in a group with it."""
        readers = list(dict.fromkeys(reader for value in op.results for reader in value.users))
        return readers if readers and all(reader in self.kinds for reader in readers) else None

    def _post_dominators(self) -> dict[Op, Op | None]:
        """For each operation the first one that all ways from it to the outside go through."""
        outside = object()
        paths: nx.DiGraph[object] = nx.DiGraph()
        paths.add_node(outside)
        for op in self.kinds:
            for value in op.results:
                for reader in value.users:
                    paths.add_edge(reader if reader in self.kinds else outside, op)
            if not any(value.is_used for value in op.results):
                paths.add_edge(outside, op)
        dominators = cast(Callable[..., Mapping[object, object]], nx.immediate_dominators)  # pyright: ignore[reportUnknownMemberType]
        found = dominators(paths, outside)
        return {op: None if found[op] is outside else cast(Op, found[op]) for op in self.kinds}

    # ------------------------------------------------------------ behind products and reductions

    def _take_epilogue(self, anchor: Op) -> None:
        """Take the elementwise operations on the result, as far as all ways meet again."""
        if any(value.is_used for value in anchor.results[1:]):
            return
        group = self.groups[anchor]
        if group.ops != [anchor]:
            return
        last, shape = anchor, anchor.results[0].type.shape
        while True:
            target = self.exits[last]
            path = None if target is None else self._between(last, target, shape)
            if target is None or path is None or not self._fits([*group.ops, *path]):
                return
            for op in path:
                self.groups[op] = group
            group.ops += path
            group.exit = last = target

    def _between(self, first: Op, target: Op, shape: Sequence[object]) -> list[Op] | None:
        """All operations after `first` up to `target`; None unless all are free and of `shape`."""
        found: dict[Op, None] = {}
        waiting = [first]
        while waiting:
            op = waiting.pop()
            if op is target:
                continue
            for reader in self.readers[op] or ():
                if reader in found:
                    continue
                free = self.groups[reader].ops == [reader] and self.groups[reader].anchor is None
                same = reader.results[0].type.shape == shape
                if not free or not same or self.kinds[reader] is not Kind.ELEMENTWISE:
                    return None
                found[reader] = None
                if len(found) > self.limits.max_ops:
                    return None
                waiting.append(reader)
        return list(found)

    # ------------------------------------------------------------ everything else

    def _merge_forward(self, op: Op) -> None:
        """Put `op` into the group that reads it, where only one does and may hold it."""
        own = self.groups[op]
        readers = self.readers[op]
        if own.ops != [op] or readers is None or any(_is_shape_of(op, each) for each in readers):
            return
        group = self.groups[readers[0]]
        if any(self.groups[reader] is not group for reader in readers):
            return
        if not self._may_hold(group, op, readers) or not self._fits([*group.ops, op]):
            return
        if group.anchor is not None and not group.before.isdisjoint(readers):
            group.before.add(op)
        self.groups[op] = group
        group.ops.append(op)
        if group.anchor is None and self.kinds[op] is Kind.ELEMENTWISE:
            group.kind = Kind.ELEMENTWISE

    def _may_hold(self, group: Group, op: Op, readers: list[Op]) -> bool:
        if group.anchor is not None:
            before = [reader in group.before for reader in readers]
            if not any(before):
                same = op.results[0].type.shape == group.anchor.results[0].type.shape
                return same and self.kinds[op] is Kind.ELEMENTWISE
            if not all(before) or not _reads_once(group.anchor):
                return False
        if len(op.results) > 1:
            return False
        if not any(reader in group.repeated or _repeats(op, reader) for reader in readers):
            return True
        cheap = op.name in CHEAP or op.name in MOVES
        if not cheap or len(group.repeated) >= self.limits.max_repeated:
            return False
        group.repeated.add(op)
        return True

    def _fits(self, ops: list[Op]) -> bool:
        return len(ops) <= self.limits.max_ops and len(inputs_of(ops)) <= self.limits.max_inputs

    def _peel_views(self, group: Group) -> None:
        """Take views off both ends: alone they cost nothing, inside they cost index arithmetic."""
        while len(group.ops) > 1:
            inside = set(group.ops)
            view = next((op for op in group.ops if _is_view(op) and not _feeders(op, inside)), None)
            if view is None and _is_view(group.exit) and group.exit is not group.anchor:
                view = group.exit
                (group.exit,) = _feeders(view, inside)
            if view is None:
                return
            group.ops.remove(view)
            group.before.discard(view)
            self.groups[view] = Group(view, Kind.INJECTIVE, [view])
        if group.anchor is None:
            group.kind = self._kind_without_anchor(group.ops)

    def _kind_without_anchor(self, ops: Iterable[Op]) -> Kind:
        elementwise = any(self.kinds[op] is Kind.ELEMENTWISE for op in ops)
        return Kind.ELEMENTWISE if elementwise else Kind.INJECTIVE


def inputs_of(ops: Iterable[Op]) -> list[Value]:
    """The tensors that a group of `ops` reads, without what is put inside it instead."""
    inside = dict.fromkeys(ops)
    found: dict[Value, None] = {}
    for op in inside:
        for slot, value in enumerate(op.operands):
            if value.producer not in inside and not moves_inside(op, slot):
                found[value] = None
    return list(found)


def moves_inside(op: Op, slot: int) -> bool:
    """True where operand `slot` of `op` is copied into the group: one number, or extents."""
    producer = op.operands[slot].producer
    if producer is None or producer.definition not in (CONST, DIMS) or op.definition.takes_memory:
        return False
    name = op.operand_names[slot]
    if any(operand.shape_like and operand.name == name for operand in op.definition.operands):
        return True
    if producer.definition is DIMS:
        return True
    type = producer.result.type
    takes_numbers = op.definition.has(Trait.ELEMENTWISE) or op.definition.has(Trait.INJECTIVE)
    return takes_numbers and type.shape.count(1) == type.rank


def _feeders(op: Op, inside: set[Op]) -> list[Op]:
    return [value.producer for value in op.operands if value.producer in inside]  # pyright: ignore[reportReturnType] - None is never inside


def _is_shape_of(op: Op, reader: Op) -> bool:
    """True where `reader` takes extents from `op`, which must be known before its kernel runs."""
    shapes = {operand.name for operand in reader.definition.operands if operand.shape_like}
    return any(
        value.producer is op and name in shapes
        for name, value in zip(reader.operand_names, reader.operands, strict=True)
    )


def _is_view(op: Op) -> bool:
    return op.definition.has(Trait.VIEW)


def _reads_once(reduction: Op) -> bool:
    """True for reductions that read each element of their operand once; windows overlap."""
    return reduction.name.startswith(("reduce_", "arg_", "global_"))


def _repeats(op: Op, reader: Op) -> bool:
    """True where `reader` needs some elements of `op` several times."""
    if reader.name in REPEATING:
        return True
    if reader.definition.has(Trait.ELEMENTWISE):
        return op.results[0].type.shape != reader.results[0].type.shape
    return False
