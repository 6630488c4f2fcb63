# pyright: standard
"""Passes over a row of any width in whole vectors, and their sums."""

from __future__ import annotations

from collections.abc import Callable

from tvm.tirx.script import builder as T  # noqa: N812

from leptonc.backends.cpu import emit
from leptonc.backends.cpu.emit import Extent, Register
from leptonc.backends.tvm.binding import PrimExpr, tirx

# Vectors in flight in one pass.
CHAINS = 4
# `visit(offset, count, chain, seen)`: of the `count` elements at `offset`, `seen` were visited.
Visit = Callable[[PrimExpr, int, int, Extent], None]


class Fold:
    """All elements of a row combined: independent vectors, and one scalar for what is narrower."""

    def __init__(
        self, lanes: int, start: float, combine: Callable[[PrimExpr, PrimExpr], PrimExpr]
    ) -> None:
        self.lanes, self.start, self.combine = lanes, start, combine
        self.chains = [Register(lanes) for _ in range(CHAINS)]
        self.single = Register(1)
        for register in (*self.chains, self.single):
            register.set(emit.broadcast(emit.const(start), register.lanes))

    def take(self, value: PrimExpr, count: int, chain: int, seen: Extent) -> None:
        """Takes in `count` elements except the first `seen`."""
        if count < self.lanes:
            part = Register(count)
            part.set(value)
            for lane in range(count):
                self.single.set(self.combine(self.single.get(), part.lane(lane)))
            return
        if not (isinstance(seen, int) and seen == 0):
            lane = tirx.Ramp(tirx.const(0, "int32"), tirx.const(1, "int32"), count)
            new = lane >= tirx.Broadcast(emit.integer(seen).astype("int32"), count)
            value = tirx.Select(new, value, emit.broadcast(emit.const(self.start), count))
        register = self.chains[chain]
        register.set(self.combine(register.get(), value))

    def total(self) -> PrimExpr:
        """Everything combined."""
        first, *others = self.chains
        for register in others:
            first.set(self.combine(first.get(), register.get()))
        vectors = emit.reduce_lanes(first.get(), self.lanes, self.combine)
        return emit.let(self.combine(vectors, self.single.get()))


def sweep(width: Extent, lanes: int, visit: Visit) -> None:
    """Visits a row in vectors; the last of them ends with the row and may begin before its turn."""
    if isinstance(width, int):
        if width < lanes:
            visit(emit.integer(0), width, 0, 0)
            return
        whole_vectors(width, lanes, visit)
        if width % lanes:
            visit(emit.integer(width - lanes), lanes, 0, lanes - width % lanes)
        return
    extent = emit.integer(width)
    with T.If(extent >= lanes):
        with T.Then():
            whole_vectors(width, lanes, visit)
            rest = emit.let(tirx.floormod(extent, lanes))
            with T.If(rest > 0), T.Then():
                visit(extent - lanes, lanes, 0, lanes - rest)
        with T.Else(), emit.serial(extent) as column:
            visit(column, 1, 0, 0)


def whole_vectors(width: Extent, lanes: int, visit: Visit) -> None:
    """Visits the whole vectors of a row, some at a time."""
    full = width // lanes
    steps = full // CHAINS
    with emit.serial(steps) as step:
        for chain in range(CHAINS):
            visit((step * CHAINS + chain) * lanes, lanes, chain, 0)
    with emit.serial(full - steps * CHAINS) as step:
        visit((step + steps * CHAINS) * lanes, lanes, 0, 0)
