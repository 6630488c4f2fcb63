"""Arithmetic as a quotient of polynomials, so that it does not matter how it was associated."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass, field

from leptonc.ir.graph import Op, Value
from leptonc.ir.types import DType
from leptonc.passes.constants import uniform

MOST_OPERATIONS = 20
"""Formulas that take more operations than this are not looked into."""
LARGEST_POWER = 8

Monomial = tuple[int, ...]
"""The exponent of each atom."""
Polynomial = Mapping[Monomial, float]


@dataclass(frozen=True)
class Quotient:
    """`above` divided by `below`."""

    above: Polynomial
    below: Polynomial

    def is_close(self, other: Quotient, tolerance: float) -> bool:
        """True where both are the same function up to the digits that exporters print."""
        left, right = _times(self.above, other.below), _times(other.above, self.below)
        return all(
            abs(left.get(key, 0.0) - right.get(key, 0.0))
            <= tolerance * max(abs(left.get(key, 0.0)), abs(right.get(key, 0.0)))
            for key in {*left, *right}
        )


@dataclass
class Formula:
    """What a value is in terms of some atoms, and the operations that say so."""

    quotient: Quotient
    ops: list[Op] = field(default_factory=list[Op])


def tolerance_of(dtype: DType) -> float:
    """How far constants may be off: as exporters print them, or as the element type rounds."""
    return {DType.F16: 2e-3, DType.BF16: 1.6e-2}.get(dtype, 4e-4)


def formula_of(value: Value, atoms: Sequence[Value | tuple[Value, int]]) -> Formula | None:
    """`value` by sums, products, quotients and powers of `atoms` and numbers; None if it is not.

    An atom given as `(value, n)` is the n-th power of the atom before it that is given alone.
    All operations have the type of `value`, so nothing in the formula broadcasts.
    """
    if not _is_arithmetic(value, {a if isinstance(a, Value) else a[0] for a in atoms}):
        return None
    names = [atom for atom in atoms if isinstance(atom, Value)]
    known = _atoms(atoms, len(names))
    found: list[Op] = []
    waiting = [value]
    while waiting:
        part = waiting[-1]
        if part in known:
            waiting.pop()
            continue
        number, op = uniform(part), part.producer
        if number is not None:
            known[part] = _number(number, len(names))
            continue
        assert op is not None
        missing = [operand for operand in op.operands if operand not in known]
        if missing:
            waiting += missing
            continue
        result = _ARITHMETIC[op.name]([known[operand] for operand in op.operands])
        if result is None:
            return None
        found.append(op)
        known[part] = result
    return Formula(known[value], found)


def _is_arithmetic(value: Value, atoms: Container[Value]) -> bool:
    """True where few operations of the type of `value` make it of atoms and finite numbers."""
    waiting, seen, operations = [value], {value}, 0
    for part in waiting:  # which grows meanwhile
        if part in atoms:
            continue
        op = part.producer
        if op is None:
            return False
        if op.definition.name not in _ARITHMETIC or part.type != value.type:
            number = uniform(part)
            if number is None or not math.isfinite(number):
                return False
            continue
        operations += 1
        if operations > MOST_OPERATIONS:
            return False
        fresh = [operand for operand in op.operands if operand not in seen]
        seen.update(fresh)
        waiting += fresh
    return True


def _atoms(atoms: Sequence[Value | tuple[Value, int]], count: int) -> dict[Value, Quotient]:
    known: dict[Value, Quotient] = {}
    index = -1
    for atom in atoms:
        alone = isinstance(atom, Value)
        index += alone
        value, power = (atom, 1) if isinstance(atom, Value) else atom
        key = tuple(abs(power) if place == index else 0 for place in range(count))
        raised, one = {key: 1.0}, _one(count)
        known[value] = Quotient(raised, one) if power >= 0 else Quotient(one, raised)
    return known


def _one(count: int) -> Polynomial:
    return {(0,) * count: 1.0}


def _number(number: float, count: int) -> Quotient:
    return Quotient({(0,) * count: number} if number else {}, _one(count))


def _times(a: Polynomial, b: Polynomial) -> dict[Monomial, float]:
    total: dict[Monomial, float] = {}
    for left, x in a.items():
        for right, y in b.items():
            key = tuple(p + q for p, q in zip(left, right, strict=True))
            total[key] = total.get(key, 0.0) + x * y
    return total


def _plus(a: Polynomial, b: Polynomial) -> dict[Monomial, float]:
    total = {key: a.get(key, 0.0) + b.get(key, 0.0) for key in {**a, **b}}
    largest = max((abs(x) for x in (*a.values(), *b.values())), default=0.0)
    return {key: x for key, x in total.items() if abs(x) > 1e-7 * largest}


def _bounded(above: Polynomial, below: Polynomial) -> Quotient | None:
    powers = [power for key in (*above, *below) for power in key]
    return Quotient(above, below) if max(powers, default=0) <= LARGEST_POWER and below else None


def _add(parts: Sequence[Quotient]) -> Quotient | None:
    a, b = parts
    if a.below == b.below:
        return _bounded(_plus(a.above, b.above), a.below)
    above = _plus(_times(a.above, b.below), _times(b.above, a.below))
    return _bounded(above, _times(a.below, b.below))


def _negative(parts: Sequence[Quotient]) -> Quotient | None:
    (a,) = parts
    return Quotient({key: -x for key, x in a.above.items()}, a.below)


def _subtract(parts: Sequence[Quotient]) -> Quotient | None:
    negative = _negative(parts[1:])
    return _add([parts[0], negative]) if negative is not None else None


def _multiply(parts: Sequence[Quotient]) -> Quotient | None:
    a, b = parts
    return _bounded(_times(a.above, b.above), _times(a.below, b.below))


def _divide(parts: Sequence[Quotient]) -> Quotient | None:
    a, b = parts
    return _bounded(_times(a.above, b.below), _times(a.below, b.above))


def _reciprocal(parts: Sequence[Quotient]) -> Quotient | None:
    (a,) = parts
    return _bounded(a.below, a.above)


def _power(parts: Sequence[Quotient]) -> Quotient | None:
    base, exponent = parts
    if any(any(key) for key in (*exponent.above, *exponent.below)):
        return None
    number = next(iter(exponent.above.values()), 0.0) / next(iter(exponent.below.values()))
    if number not in (1, 2, 3, 4):
        return None
    result: Quotient | None = base
    for _ in range(int(number) - 1):
        result = _multiply([result, base]) if result is not None else None
    return result


_ARITHMETIC: Mapping[str, Callable[[Sequence[Quotient]], Quotient | None]] = {
    "add": _add, "sub": _subtract, "mul": _multiply, "div": _divide, "neg": _negative,
    "reciprocal": _reciprocal, "pow": _power,
}  # fmt: skip
ARITHMETIC = frozenset(_ARITHMETIC)
"""Operations that a formula may hold."""


def line_of(value: Value, x: Value) -> tuple[float, float, list[Op]] | None:
    """The a and b of `value` = a x + b, and the operations that say so."""
    found = formula_of(value, [x]) if value.type == x.type else None
    if found is None or set(found.quotient.below) != {(0,)}:
        return None
    above, one = found.quotient.above, found.quotient.below[0,]
    if not set(above) <= {(0,), (1,)}:
        return None
    return above.get((1,), 0.0) / one, above.get((0,), 0.0) / one, found.ops


def below(value: Value, wanted: frozenset[str], most: int = 10) -> list[Op]:
    """The operations called `wanted` that arithmetic on values of the same type makes `value` of.

    The nearest come first; no more than `most` values are looked at.
    """
    found: list[Op] = []
    waiting, seen = [value], {value}
    for part in waiting:  # which grows meanwhile
        op = part.producer
        name = op.definition.name if op is not None else ""
        if op is None or not (name in wanted or name in ARITHMETIC) or part.type != value.type:
            continue
        if name in wanted:
            found.append(op)
        elif len(seen) <= most:
            fresh = [operand for operand in op.operands if operand not in seen]
            seen.update(fresh)
            waiting += fresh
    return found


def arguments_of(value: Value, most: int = 6) -> list[Value]:
    """What `value` may be a formula of: itself, and what arithmetic with constants made it of.

    Where arithmetic joins two values, that is what both are made of.
    """
    found = [value]
    parts = _variables(value, value)
    while len(parts) == 1 and len(found) <= most:
        found += parts
        parts = _variables(parts[0], value)
    if len(parts) == 2:
        first, second = (_made_of(part, value, most) for part in parts)
        found += [part for part in first if part in second]
    return found


def _variables(value: Value, like: Value) -> list[Value]:
    """What arithmetic makes `value` of that is no constant and has the type of `like`."""
    op = value.producer
    if op is None or op.name not in ARITHMETIC:
        return []
    parts = dict.fromkeys(part for part in op.operands if part.blob is None)
    return [part for part in parts if part.type == like.type]


def _made_of(value: Value, like: Value, most: int) -> dict[Value, None]:
    """`value` and what arithmetic made it of, the nearest first."""
    found, waiting = {value: None}, deque([value])
    while waiting and len(found) <= most:
        for part in _variables(waiting.popleft(), like):
            if part not in found:
                found[part] = None
                waiting.append(part)
    return found
