"""Deciding which operations of a region become one kernel."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from leptonc.ir.graph import Op, Region
from leptonc.passes.fusion.kinds import (
    CHEAP,
    MOVES,
    Kind,
    feeders_within,
    inputs_of,
    is_free_to_repeat,
    is_one_number,
    is_shape_of,
    is_view,
    kind_of,
    reads_once,
    repeats,
)
from leptonc.passes.fusion.limits import FusionLimits
from leptonc.passes.fusion.meeting import meeting_points


@dataclass(eq=False)
class Group:
    """Operations that become one kernel: all of them lead to `exit`."""

    exit: Op
    kind: Kind
    ops: list[Op]
    outputs: list[Op] = field(default_factory=list[Op])
    """Those beside the exit that are read outside as well."""
    copies: list[Op] = field(default_factory=list[Op])
    """Operations of no group of their own, computed again in each that reads them."""
    anchor: Op | None = None
    """The product, reduction or opaque operation, if there is one."""
    before: set[Op] = field(default_factory=set[Op])
    """The anchor, and the operations whose results it reads."""
    repeated: set[Op] = field(default_factory=set[Op])
    """The operations computed more often than they have elements."""
    numbers: set[Op] = field(default_factory=set[Op])
    """Those whose constants stay outside: layers that differ by them share a kernel."""

    @property
    def computed(self) -> list[Op]:
        """All that the kernel computes, copies first: they read nothing of the rest."""
        return [*self.copies, *self.ops]

    def sort(self, order: Mapping[Op, int]) -> None:
        """Put everything into the order of the region."""
        for ops in (self.ops, self.copies, self.outputs):
            ops.sort(key=order.__getitem__)


class Planner:
    """Puts each computing operation of a region into exactly one group.

    Groups cannot depend on each other in a circle: a group with one output is a part of the region
    that everything leaves through its exit, and one with several reads only what stands before the
    first of its outputs, which is where it is built. Products and reductions first take the
    elementwise operations up to their post-dominators; what is left is merged from the end of the
    region.
    """

    def __init__(self, region: Region, limits: FusionLimits) -> None:
        self.limits = limits
        self.kinds = {op: kind for op in region if (kind := kind_of(op, limits)) is not None}
        self.groups: dict[Op, Group] = {}
        for op, kind in self.kinds.items():
            anchor = None if kind in (Kind.ELEMENTWISE, Kind.INJECTIVE) else op
            before = set[Op]() if anchor is None else {op}
            self.groups[op] = Group(op, kind, [op], anchor=anchor, before=before)
        self.order = {op: index for index, op in enumerate(region)}
        self.readers = {op: self._readers(op) for op in self.kinds}
        self.exits = meeting_points(self.readers)
        """The first operation that all ways from each to the outside go through."""

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
        for group in self._distinct():
            group.sort(self.order)
        return sorted(self._distinct(), key=lambda group: self.order[group.exit])

    def _distinct(self) -> list[Group]:
        return list(dict.fromkeys(self.groups.values()))

    def _readers(self, op: Op) -> list[Op] | None:
        """The operations that read `op`; None where one of them cannot be in a group with it."""
        readers = list(dict.fromkeys(reader for value in op.results for reader in value.users))
        return readers if readers and all(reader in self.kinds for reader in readers) else None

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
        """Put `op` into the group that reads it, or into several where that costs less."""
        readers = self._users(op)
        if self.groups[op].ops != [op] or any(is_shape_of(op, reader) for reader in readers):
            return
        found = dict.fromkeys(self.groups.get(reader) for reader in readers)
        groups = [group for group in found if group is not None]
        if len(groups) < len(found):
            self._join_as_output(op, groups)
        elif len(groups) == 1:
            self._join(op, groups[0], readers)
        elif not self._copy(op, groups):
            self._join_as_output(op, groups)

    def _join(self, op: Op, group: Group, readers: list[Op]) -> None:
        if not self._may_hold(group, op, readers) or not self._fits([*group.computed, op]):
            return
        if group.anchor is not None and not group.before.isdisjoint(readers):
            group.before.add(op)
        self.groups[op] = group
        group.ops.append(op)
        if group.anchor is None and self.kinds[op] is Kind.ELEMENTWISE:
            group.kind = Kind.ELEMENTWISE

    def _copy(self, op: Op, groups: list[Group]) -> bool:
        """Let each of `groups` compute `op` for itself where that reads no more bytes.

        The result then need not be stored at all.
        """
        if len(groups) > self.limits.max_copies or not is_free_to_repeat(op):
            return False
        inside = [[reader for reader in self._users(op) if reader in g.computed] for g in groups]
        for group, readers in zip(groups, inside, strict=True):
            again = any(
                reader in group.repeated or repeats(op, reader) or is_view(reader)
                for reader in readers
            )
            if again or not self._may_hold(group, op, readers):
                return False
            if not self._fits([*group.computed, op]):
                return False
        for group, readers in zip(groups, inside, strict=True):
            if group.anchor is not None and not group.before.isdisjoint(readers):
                group.before.add(op)
            group.copies.append(op)
        del self.groups[op]
        return True

    def _users(self, op: Op) -> list[Op]:
        return list(dict.fromkeys(reader for value in op.results for reader in value.users))

    def _join_as_output(self, op: Op, groups: list[Group]) -> None:
        """Put `op` into an elementwise group that reads it, though others read it as well.

        The tensor is still stored, but once less read.
        """
        shape = op.results[0].type.shape
        if self.kinds[op] is not Kind.ELEMENTWISE or is_view(op):
            return
        for group in groups:
            alike = group.anchor is None and all(
                self.kinds[each] is Kind.ELEMENTWISE and each.results[0].type.shape == shape
                for each in group.computed
            )
            alike = alike and not any(reader in group.copies for reader in self._users(op))
            if alike and len(group.outputs) + 1 < self.limits.max_outputs:
                together = [*group.computed, op]
                before = (self._place(value.producer) for value in inputs_of(together))
                if self._fits(together) and max(before, default=-1) < self.order[op]:
                    self.groups[op] = group
                    group.ops.append(op)
                    group.outputs.append(op)
                    return

    def _place(self, producer: Op | None) -> int:
        """Where in the region an operation stands; what is outside of it comes first."""
        return -1 if producer is None else self.order.get(producer, -1)

    def _may_hold(self, group: Group, op: Op, readers: list[Op]) -> bool:
        if group.anchor is not None:
            before = [reader in group.before for reader in readers]
            if not any(before):
                if op.results[0].type.shape == group.anchor.results[0].type.shape:
                    return self.kinds[op] is Kind.ELEMENTWISE
                return group.kind is Kind.PRODUCT and self._add_number(group, op)
            if not all(before) or not reads_once(group.anchor):
                return False
        if len(op.results) > 1:
            return False
        if not any(reader in group.repeated or repeats(op, reader) for reader in readers):
            return True
        return (op.name in CHEAP or op.name in MOVES) and self._repeat(group, op)

    def _add_number(self, group: Group, op: Op) -> bool:
        """Let a product compute a number: a kernel of its own takes longer to call than to run."""
        if not is_one_number(op) or not self._repeat(group, op):
            return False
        group.numbers.add(op)
        return True

    def _repeat(self, group: Group, op: Op) -> bool:
        """Let a cheap operation be computed for each element that reads it, if few others are."""
        if len(group.repeated) >= self.limits.max_repeated:
            return False
        group.repeated.add(op)
        return True

    def _fits(self, ops: list[Op]) -> bool:
        return len(ops) <= self.limits.max_ops and len(inputs_of(ops)) <= self.limits.max_inputs

    def _peel_views(self, group: Group) -> None:
        """Take views off both ends: alone they cost nothing, inside they cost index arithmetic."""
        while len(group.ops) > 1:
            inside = set(group.computed)
            view = next(
                (op for op in group.ops if is_view(op) and not feeders_within(op, inside)), None
            )
            if view is None and is_view(group.exit) and group.exit is not group.anchor:
                view = group.exit
                (group.exit,) = feeders_within(view, inside)
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
