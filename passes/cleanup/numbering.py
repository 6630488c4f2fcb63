"""Numbers for values: equal ones for what is computed alike, in whatever region it stands."""

from __future__ import annotations

from collections.abc import Hashable

from leptonc.ir.dims import Expr, symbols
from leptonc.ir.graph import Op, Region, Value
from leptonc.ir.ops.control import FRESH, IF, LOOP, SCAN
from leptonc.ir.table import CONST, RETURN, Trait
from leptonc.passes.cleanup.equality import is_repeatable, is_twin, key_of

_HOLDERS = (IF, LOOP, SCAN)


class Numbering:
    """Gives each value a number, the same one to values of which it is proven that they are equal.

    Two regions that compute the same get the same numbers for it, in whatever order and with
    whatever names, for what a region takes is known by its place and by how many regions around
    it take something.
    Of values that are seen from one point, those with the same number are equal.
    """

    def __init__(self) -> None:
        self._known: dict[Value, int] = {}
        self._numbers: dict[Hashable, int] = {}
        self._constants: dict[Hashable, list[Op]] = {}
        self._effects: set[Op] = set()

    def number(self, value: Value) -> int:
        """The number of a value; one of its own where what makes it was not noted."""
        if value not in self._known:
            op = value.producer
            if op is not None and op.definition is CONST:
                self._known[value] = self._of_constant(op)
            else:
                self._known[value] = self._numbered(value)
        return self._known[value]

    def take(self, value: Value, meaning: Hashable) -> None:
        """Give what a region takes the number of its meaning."""
        self._known[value] = self._numbered((meaning, value.type))

    def enter(self, region: Region, depth: int) -> int:
        """Give what a region takes numbers by its place and by the depth, which is given back.

        The depth counts the regions around that take something, `depth` before this one.
        """
        inside = depth + bool(region.inputs)
        for place, value in enumerate(region.inputs):
            self.take(value, (inside, place))
        return inside

    def note(self, op: Op) -> None:
        """Number what `op` makes; what stands in it is numbered before."""
        if op.definition is CONST or op.definition is RETURN:
            return
        if op.definition.name == "identity":
            self._known[op.results[0]] = self.number(op.operands[0])
            return
        key = self.key(op)
        for place, value in enumerate(op.results):
            self._known[value] = self._numbered(value if key is None else (key, place))

    def key(self, op: Op) -> Hashable:
        """Equal for operations that compute the same; None for one that equals no other."""
        if self.has_effect(op) or not is_repeatable(op) or _names_fresh_extents(op):
            return None
        if op.regions and op.definition not in _HOLDERS:
            return None
        inner = tuple(
            tuple(self.number(value) for value in (*region.inputs, *region.outputs))
            for region in op.regions
        )
        return (key_of(op, self.number), inner)

    def has_effect(self, op: Op) -> bool:
        """True where `op`, or an operation noted inside it, must stay."""
        if op in self._effects:
            return True
        inside = any(each in self._effects for region in op.regions for each in region)
        if inside or op.definition.has(Trait.EFFECT):
            self._effects.add(op)
            return True
        return False

    def _numbered(self, meaning: Hashable) -> int:
        return self._numbers.setdefault(meaning, len(self._numbers))

    def _of_constant(self, op: Op) -> int:
        alike = self._constants.setdefault(key_of(op), [])
        twin = next((other for other in alike if is_twin(op, other)), None)
        if twin is not None:
            return self._known[twin.result]
        alike.append(op)
        return self._numbered(op.result)


def note_inside(region: Region, numbers: Numbering, depth: int) -> None:
    """Number all that stands in a region whose own inputs have their numbers."""
    for op in region:
        for inner in op.regions:
            note_inside(inner, numbers, numbers.enter(inner, depth))
        numbers.note(op)


def _names_fresh_extents(op: Op) -> bool:
    """True where an attribute speaks of extents that only run time can tell."""
    for name, attr in op.definition.attrs.items():
        dims = op.attrs[name]
        if attr.kind == "dims" and isinstance(dims, tuple):
            named = (each for dim in dims if isinstance(dim, Expr) for each in symbols(dim))
            if any(FRESH.fullmatch(each) for each in named):
                return True
    return False
