"""Patterns: small trees of operations with holes, and what a match binds to the holes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from types import EllipsisType
from typing import cast, overload

from leptonc.ir.blob import Blob
from leptonc.ir.diagnostics import LeptonBug
from leptonc.ir.graph import Attribute, Op, Value
from leptonc.ir.table import CONST, OpDef, Trait, op_named


class NoMatchError(Exception):
    """The pattern or one of its conditions does not hold; the text says why."""


@dataclass(frozen=True, eq=False)
class Var:
    """A hole that any value fills."""

    label: str

    def optional(self) -> Optional:
        """The same hole for an operand that may be absent; `Match.get` tells which."""
        return Optional(self)

    def __str__(self) -> str:
        return self.label


@dataclass(frozen=True, eq=False)
class Const(Var):
    """A hole that only a compile-time constant fills."""


@dataclass(frozen=True, eq=False)
class Optional:
    """A hole for an operand that may be absent."""

    hole: Var

    def __str__(self) -> str:
        return f"{self.hole}?"


@dataclass(frozen=True, eq=False)
class OpPattern:
    """One of some operations, whose operands match in turn.

    `operands` is None where any operands do. Operands that the pattern does not mention must be
    absent, attributes that it does not mention may have any value.
    """

    definitions: tuple[OpDef, ...]
    operands: tuple[Pattern, ...] | None
    named: Mapping[str, Pattern] = field(default_factory=dict[str, "Pattern"])
    attrs: Mapping[str, Attribute] = field(default_factory=dict[str, Attribute])
    may_be_shared: bool = False
    index: int = 0

    def shared(self) -> OpPattern:
        """Match also where something outside the match reads the result."""
        return replace(self, may_be_shared=True)

    def result(self, index: int) -> OpPattern:
        """Match where the value is result `index` of the operation (the first otherwise)."""
        return replace(self, index=index)

    @property
    def depth(self) -> int:
        """The number of operations on the longest path through the pattern."""
        parts = [*(self.operands or ()), *self.named.values()]
        return 1 + max((part.depth for part in parts if isinstance(part, OpPattern)), default=0)

    @cached_property
    def needs(self) -> tuple[frozenset[OpDef], ...]:
        """For each part that is no free hole, the operations of which one must feed the root."""
        parts = [*(self.operands or ()), *self.named.values()]
        needs = [frozenset(part.definitions) for part in parts if isinstance(part, OpPattern)]
        return (*needs, *(frozenset([CONST]) for part in parts if isinstance(part, Const)))

    @cached_property
    def fits_any(self) -> bool:
        """Whether any operands and attributes do."""
        return self.operands is None and not self.named and not self.attrs

    def __str__(self) -> str:
        names = "|".join(row.name for row in self.definitions)
        if self.operands is None:
            return f"{names}(...)"
        parts = [*map(str, self.operands), *(f"{k}={v}" for k, v in self.named.items())]
        return f"{names}({', '.join(parts)})"


Pattern = Var | Optional | OpPattern


@dataclass(frozen=True)
class _OpPatternMaker:
    definitions: tuple[OpDef, ...]

    def __call__(
        self, *operands: Pattern | EllipsisType, **named: Pattern | Attribute
    ) -> OpPattern:
        patterns = {k: v for k, v in named.items() if isinstance(v, Var | Optional | OpPattern)}
        attrs = {k: v for k, v in named.items() if not isinstance(v, Var | Optional | OpPattern)}
        if operands == (...,):
            return OpPattern(self.definitions, None, patterns, attrs)
        return OpPattern(self.definitions, cast(tuple[Pattern, ...], operands), patterns, attrs)


class _PatternMaker:
    """``pat.add(x, y)`` is the pattern of an `add`; the names are those of the table.

    ``pat.conv(x, w, bias=b.optional(), group=1)`` names operands and requires attribute values;
    ``pat.concat(...)`` takes any operands.
    """

    def __getattr__(self, name: str) -> _OpPatternMaker:
        return self.any_of(name)

    @staticmethod
    def any_of(*names: str) -> _OpPatternMaker:
        """A pattern that any of the named operations fits."""
        rows = [op_named(name.rstrip("_")) for name in names]
        if None in rows:
            raise LeptonBug(f"no operation is called {names[rows.index(None)]}")
        return _OpPatternMaker(tuple(row for row in rows if row is not None))


pat = _PatternMaker()


class Match:
    """What each part of the pattern stands for in the graph."""

    def __init__(self, root: Op) -> None:
        self.root = root
        self.values: dict[Var, Value] = {}
        self.ops: dict[OpPattern, Op] = {}
        self.also: list[Op] = []
        """Operations that a rule found by itself and that its result stands for as well."""

    @overload
    def __getitem__(self, hole: Var) -> Value: ...
    @overload
    def __getitem__(self, hole: OpPattern) -> Op: ...
    def __getitem__(self, hole: Var | OpPattern) -> Value | Op:
        return self.values[hole] if isinstance(hole, Var) else self.ops[hole]

    def get(self, hole: Var) -> Value | None:
        """What fills an optional hole, or None."""
        return self.values.get(hole)

    def blob(self, hole: Var) -> Blob:
        """The data of the constant that fills `hole`; where it is none, the rule does not apply."""
        blob = self.values[hole].blob
        if blob is None:
            raise NoMatchError(f"{hole.label} is not a constant")
        return blob

    @staticmethod
    def fits(condition: bool) -> None:
        """Go on only where `condition`, which a pattern cannot say, holds; this is no near miss."""
        if not condition:
            raise NoMatchError

    @staticmethod
    def require(condition: bool, reason: str) -> None:
        """Go on only where `condition` holds; `reason` says what is wrong where it does not."""
        if not condition:
            raise NoMatchError(reason)


def feeders_of(op: Op) -> frozenset[OpDef]:
    """What the operations are whose results `op` reads."""
    return frozenset([v.producer.definition for v in op.operands if v.producer is not None])


def may_fit(pattern: OpPattern, feeders: frozenset[OpDef]) -> bool:
    """False where the root of `pattern` needs an operand of an operation that is no feeder."""
    return not any(need.isdisjoint(feeders) for need in pattern.needs)


def match(pattern: OpPattern, root: Op) -> Iterator[Match]:
    """Every way `pattern` fits with `root` at its top; each is good until the next is asked for."""
    found = Match(root)
    if pattern.fits_any and root.definition in pattern.definitions:  # most rules that look by code
        found.ops[pattern] = root
        yield found
        return
    for _ in _match_op(pattern, root, found):
        found.also.clear()
        if not _leaks(found):
            yield found


def _leaks(found: Match) -> bool:
    """True where something outside the match reads an inner operation not marked `shared`."""
    if len(found.ops) == 1:
        return False
    matched = set(found.ops.values())
    return any(
        op is not found.root
        and not pattern.may_be_shared
        and any(use.op not in matched for result in op.results for use in result.uses)
        for pattern, op in found.ops.items()
    )


def _match_op(pattern: OpPattern, op: Op, found: Match) -> Iterator[None]:
    if op.definition not in pattern.definitions or op.region is not found.root.region:
        return
    if any(op.attrs.get(name) != value for name, value in pattern.attrs.items()):
        return
    if pattern in found.ops:  # one pattern in two places is one operation
        if found.ops[pattern] is op:
            yield
        return
    found.ops[pattern] = op
    if pattern.operands is None:
        yield from _match_operands(_named_pairs(pattern, op) or [], found)
    else:
        for swap in (False, True) if _may_swap(op) else (False,):
            pairs = _pairs(pattern, op, swap=swap)
            if pairs is not None:
                yield from _match_operands(pairs, found)
    found.ops.pop(pattern, None)


def _may_swap(op: Op) -> bool:
    return op.definition.has(Trait.COMMUTATIVE) and len(op.operands) >= 2


_Pair = tuple[Pattern, Value | None]


def _pairs(pattern: OpPattern, op: Op, *, swap: bool) -> list[_Pair] | None:
    """Which operand each part of the pattern stands for; None where their numbers differ."""
    named = _named_pairs(pattern, op)
    parts = pattern.operands or ()
    rest = list(op.operands) if not pattern.named else [
        value for name, value in zip(op.operand_names, op.operands, strict=True)
        if name not in pattern.named
    ]  # fmt: skip
    if named is None or len(rest) > len(parts):
        return None
    if swap:
        rest[:2] = rest[1::-1]
    absent = parts[len(rest) :]
    if any(not isinstance(part, Optional) for part in absent):
        return None
    return [*zip(parts, rest, strict=False), *((part, None) for part in absent), *named]


def _named_pairs(pattern: OpPattern, op: Op) -> list[_Pair] | None:
    if not pattern.named:
        return []
    pairs = [(part, op.operand(name)) for name, part in pattern.named.items()]
    missing = any(value is None and not isinstance(part, Optional) for part, value in pairs)
    return None if missing else pairs


def _match_operands(rest: list[_Pair], found: Match) -> Iterator[None]:
    if not rest:
        yield
        return
    (pattern, value), *rest = rest
    if isinstance(pattern, Optional):
        if value is None:
            yield from _match_operands(rest, found)
            return
        pattern = pattern.hole
    assert value is not None
    if isinstance(pattern, OpPattern):
        producer = value.producer
        if producer is not None and value is producer.results[pattern.index]:
            for _ in _match_op(pattern, producer, found):
                yield from _match_operands(rest, found)
        return
    bound = found.values.get(pattern)
    if bound is value:
        yield from _match_operands(rest, found)
    elif bound is None and (not isinstance(pattern, Const) or value.blob is not None):
        found.values[pattern] = value
        yield from _match_operands(rest, found)
        del found.values[pattern]
