"""Symbolic extents: integer polynomials over named sizes, floordiv, min, max and broadcast.

A `Dim` is an `int` or an `Expr`; arithmetic on them gives the canonical form, so two extents are
equal where their expressions compare equal. A symbol stands for a size, thus for an integer >= 0.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import reduce

from leptonc.ir.diagnostics import LeptonError

LARGEST_EXPRESSION = 2000
"""Symbols, calls and their arguments that one extent may be written with."""

DEEPEST_EXPRESSION = 50
"""Calls that may stand inside each other in one extent."""

LARGEST_EXTENT = 10**9 - 1
"""No extent of a tensor is larger; what a call gives is held to it."""


class ExtentTooLargeError(LeptonError):
    """An extent became an expression too large to reason about."""

    def __init__(self) -> None:
        super().__init__(
            f"an extent became an expression of more than {LARGEST_EXPRESSION} symbols or "
            f"{DEEPEST_EXPRESSION} calls inside each other",
            notes=["fix some of the symbolic extents of the inputs"],
            code="E018",
        )


@dataclass(frozen=True, slots=True)
class Symbol:
    """A size that is not known before run time."""

    name: str

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True, slots=True)
class Call:
    """``floordiv``, ``min``, ``max`` or ``broadcast`` of two that arithmetic cannot resolve."""

    function: str
    args: tuple[Dim, ...]

    def __str__(self) -> str:
        return f"{self.function}({','.join(map(str, self.args))})"


Atom = Symbol | Call
Monomial = tuple[Atom, ...]


class Expr:
    """A sum of integer multiples of products of atoms, with at least one atom in it."""

    __slots__ = ("_hash", "depth", "size", "terms")

    def __init__(self, terms: Mapping[Monomial, int]) -> None:
        self.size, self.depth = _extent_of(terms)
        if self.size > LARGEST_EXPRESSION or self.depth > DEEPEST_EXPRESSION:
            raise ExtentTooLargeError
        self.terms: tuple[tuple[Monomial, int], ...] = tuple(
            sorted(terms.items(), key=lambda term: (-len(term[0]), [str(atom) for atom in term[0]]))
        )
        self._hash = hash(self.terms)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Expr) and self.terms == other.terms

    def __hash__(self) -> int:
        return self._hash

    def __add__(self, other: Dim) -> Dim:
        total = dict(self.terms)
        for monomial, factor in _terms(other):
            total[monomial] = total.get(monomial, 0) + factor
        return _make(total)

    def __radd__(self, other: Dim) -> Dim:
        return self + other

    def __neg__(self) -> Dim:
        return self * -1

    def __sub__(self, other: Dim) -> Dim:
        return self + other * -1

    def __rsub__(self, other: Dim) -> Dim:
        return self * -1 + other

    def __mul__(self, other: Dim) -> Dim:
        if len(self.terms) * len(_terms(other)) > LARGEST_EXPRESSION:
            raise ExtentTooLargeError
        total: dict[Monomial, int] = {}
        for left, a in self.terms:
            for right, b in _terms(other):
                monomial = tuple(sorted((*left, *right), key=str))
                total[monomial] = total.get(monomial, 0) + a * b
        return _make(total)

    def __rmul__(self, other: Dim) -> Dim:
        return self * other

    def __floordiv__(self, other: Dim) -> Dim:
        return floordiv(self, other)

    def __rfloordiv__(self, other: Dim) -> Dim:
        return floordiv(other, self)

    def __mod__(self, other: Dim) -> Dim:
        return self - floordiv(self, other) * other

    def __rmod__(self, other: Dim) -> Dim:
        return other - floordiv(other, self) * self

    def __str__(self) -> str:
        text = ""
        for monomial, factor in self.terms:
            product = "*".join(map(str, monomial))
            size = product or str(abs(factor))
            if product and abs(factor) != 1:
                size = f"{abs(factor)}*{product}"
            text += ("-" if factor < 0 else "+" if text else "") + size
        return text

    def __repr__(self) -> str:
        return str(self)


def _extent_of(terms: Iterable[Monomial]) -> tuple[int, int]:
    """How many atoms the terms are written with, and how deep their calls are nested."""
    size = depth = 0
    for monomial in terms:
        size += len(monomial)
        for atom in monomial:
            if isinstance(atom, Call):
                parts = [arg for arg in atom.args if isinstance(arg, Expr)]
                size += sum(part.size for part in parts)
                depth = max(depth, 1, *(part.depth + 1 for part in parts))
    return size, depth


Dim = int | Expr
"""A known extent, or an expression over symbols."""


def symbol(name: str) -> Expr:
    """The extent called `name`."""
    return Expr({(Symbol(name),): 1})


def _terms(dim: Dim) -> tuple[tuple[Monomial, int], ...]:
    return dim.terms if isinstance(dim, Expr) else (((), dim),)


def _make(terms: Mapping[Monomial, int]) -> Dim:
    kept = {monomial: factor for monomial, factor in terms.items() if factor}
    if not kept or set(kept) == {()}:
        return kept.get((), 0)
    return Expr(kept)


def _call(function: str, *args: Dim) -> Expr:
    return Expr({(Call(function, args),): 1})


def floordiv(a: Dim, b: Dim) -> Dim:
    """`a // b` rounded down; exact polynomial quotients are found, whole parts move out."""
    if isinstance(a, int) and isinstance(b, int):
        if b == 0:
            raise ZeroDivisionError(f"extent {a} is divided by zero")
        return a // b
    if b == 1:
        return a
    quotient = _exact_quotient(a, b)
    if quotient is not None:
        return quotient
    if not isinstance(b, int) or b < 0:
        return _call("floordiv", a, b)
    whole: dict[Monomial, int] = {}
    rest: dict[Monomial, int] = {}
    for monomial, factor in _terms(a):
        out, left = divmod(factor, b) if monomial == () or factor % b == 0 else (0, factor)
        whole[monomial], rest[monomial] = out, left
    remainder = _make(rest)
    if isinstance(remainder, int):
        return _make(whole) + remainder // b
    return _make(whole) + _floordiv_atom(remainder, b)


def _floordiv_atom(a: Expr, b: int) -> Dim:
    match a.terms:
        case (((Call("floordiv", (inner, int(by))),), 1),) if by > 0:
            return floordiv(inner, by * b)  # floor(floor(x / c) / b) = floor(x / (c b))
        case _:
            pass
    low, high = bounds(a)
    if low >= 0 and high < b:
        return 0
    return _call("floordiv", a, b)


def _exact_quotient(a: Dim, b: Dim) -> Dim | None:
    """The polynomial q with q * b == a, where there is one."""
    if a == b:
        return 1
    rest, quotient = a, 0
    lead, lead_factor = _terms(b)[0]
    for _ in range(len(_terms(a)) + 4):
        if rest == 0:
            return quotient
        monomial, factor = _terms(rest)[0]
        left = list(monomial)
        for atom in lead:
            if atom not in left:
                return None
            left.remove(atom)
        if factor % lead_factor:
            return None
        step = _make({tuple(left): factor // lead_factor})
        quotient = quotient + step
        rest = rest - step * b
    return None


def ceildiv(a: Dim, b: Dim) -> Dim:
    """`a / b` rounded up."""
    return -floordiv(-a, b) if isinstance(b, int) else floordiv(a + b - 1, b)


def minimum(a: Dim, b: Dim) -> Dim:
    """The smaller extent, resolved where the difference has a known sign."""
    return _extreme("min", a, b)


def maximum(a: Dim, b: Dim) -> Dim:
    """The larger extent, resolved where the difference has a known sign."""
    return _extreme("max", a, b)


def _extreme(function: str, a: Dim, b: Dim) -> Dim:
    low, high = bounds(a - b)
    if low >= 0:
        return a if function == "max" else b
    if high <= 0:
        return b if function == "max" else a
    return _call(function, *sorted((a, b), key=str))


def broadcast(a: Dim, b: Dim) -> Dim:
    """What two extents broadcast to, each of which is it or 1: where that is wrong, any number.

    A known extent that is not 1 is it. An extent that can be 1 only where another is 1 as well
    covers that one.
    """
    if a in (1, b):
        return b
    if b == 1:
        return a
    if isinstance(a, int):
        return max(a, b) * min(a, b, 1) if isinstance(b, int) else a
    if isinstance(b, int):
        return b
    kept: list[Expr] = []
    for part in (*_joined(a), *_joined(b)):
        if not any(_covers(other, part) for other in kept):
            kept = [*(other for other in kept if not _covers(part, other)), part]
    kept.sort(key=str)
    return reduce(lambda right, left: _call("broadcast", left, right), reversed(kept))


def _joined(dim: Expr) -> tuple[Expr, ...]:
    """What an extent is broadcast from."""
    match dim.terms:
        case (((Call("broadcast", args),), 1),):
            return tuple(part for arg in args if isinstance(arg, Expr) for part in _joined(arg))
        case _:
            return (dim,)


def _covers(a: Expr, b: Expr) -> bool:
    """True where `b` is 1 wherever `a` is."""
    if a == b or bounds(a)[0] > 1:
        return True
    if not is_linear(a):
        return False
    (name,) = symbols(a)
    found = solve_linear(a, 1)
    return found is None or substitute(b, {name: found[1]}) == 1


def product(dims: Iterable[Dim]) -> Dim:
    """The product of extents; 1 for none."""
    return reduce(lambda a, b: a * b, dims, 1)


def bounds(dim: Dim) -> tuple[float, float]:
    """Limits that hold for every value of the symbols, each of which is >= 0."""
    if isinstance(dim, int):
        return dim, dim
    low = high = 0.0
    for monomial, factor in dim.terms:
        a, b = 1.0, 1.0
        for atom in monomial:
            c, d = _atom_bounds(atom)
            ends = [_times(x, y) for x in (a, b) for y in (c, d)]
            a, b = min(ends), max(ends)
        low += min(_times(factor, a), _times(factor, b))
        high += max(_times(factor, a), _times(factor, b))
    return low, high


def _times(a: float, b: float) -> float:
    return 0.0 if a == 0 or b == 0 else a * b


def _atom_bounds(atom: Atom) -> tuple[float, float]:
    if isinstance(atom, Symbol):
        return 0.0, math.inf
    (a, b), (c, d) = (bounds(arg) for arg in atom.args)
    if atom.function == "min":
        return min(a, c), min(b, d)
    if atom.function == "max":
        return max(a, c), max(b, d)
    if atom.function == "broadcast":
        return min(a, c), max(b, d)
    if c <= 0:
        return -math.inf, math.inf
    if a < 0:
        low = -math.inf if a == -math.inf else math.floor(a / c)
    else:
        low = 0.0 if d == math.inf else a // d
    return low, b if b == math.inf else b // c


def is_positive(dim: Dim) -> bool:
    """True where the extent is at least 1 whatever the symbols are."""
    return bounds(dim)[0] >= 1


def symbols(dim: Dim) -> frozenset[str]:
    """The names of all symbols in `dim`."""
    if isinstance(dim, int):
        return frozenset()
    names: set[str] = set()
    for monomial, _ in dim.terms:
        for atom in monomial:
            if isinstance(atom, Symbol):
                names.add(atom.name)
            else:
                names.update(*(symbols(arg) for arg in atom.args))
    return frozenset(names)


FUNCTIONS: dict[str, Callable[[Dim, Dim], Dim]] = {
    "floordiv": floordiv, "min": minimum, "max": maximum, "broadcast": broadcast,
    "mod": lambda a, b: a % b,
}  # fmt: skip
"""What an extent's atoms apply, by the name that they are spelled with."""


def substitute(dim: Dim, values: Mapping[str, Dim]) -> Dim:
    """`dim` with the named symbols replaced; an int once all of them are."""
    return replace(dim, {Symbol(name): value for name, value in values.items()})


def replace(dim: Dim, known: Mapping[Atom, Dim]) -> Dim:
    """`dim` with other extents in the place of atoms, also of those inside others."""
    if isinstance(dim, int) or not known:
        return dim
    total: Dim = 0
    for monomial, factor in dim.terms:
        term: Dim = factor
        for atom in monomial:
            if atom in known:
                term = term * known[atom]
            elif isinstance(atom, Symbol):
                term = term * symbol(atom.name)
            else:
                term = term * FUNCTIONS[atom.function](*(replace(a, known) for a in atom.args))
        total = total + term
    return total


def is_linear(dim: Expr) -> bool:
    """True where `dim` is ``factor*symbol+offset``."""
    rest = [monomial for monomial, _ in dim.terms if monomial]
    return len(rest) == 1 and len(rest[0]) == 1 and isinstance(rest[0][0], Symbol)


def solve_linear(dim: Dim, extent: int) -> tuple[str, int] | None:
    """The symbol and its size where `dim` is ``factor*symbol+offset`` and `extent` fits it."""
    if isinstance(dim, int):
        return None
    offset = dict(dim.terms).get((), 0)
    match [term for term in dim.terms if term[0]]:
        case [((Symbol(name),), factor)] if (extent - offset) % factor == 0:
            size = (extent - offset) // factor
            return (name, size) if size >= 0 else None
        case _:
            pass
    return None
