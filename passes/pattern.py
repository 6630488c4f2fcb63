"""Patterns: small trees of operations with holes, and what a match binds to the holes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from types import EllipsisType
from typing import Any, TypeVar, cast, overload

from leptonc.ir.blob import Blob
from leptonc.ir.diagnostics import LeptonBug
from leptonc.ir.graph import Attribute, Op, Value
from leptonc.ir.table import CONST, OpDef, op_named


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
    absent, attributes that it does not mention may have any value. Where there are `feeders`, one
    of them must make an operand.
    """

    definitions: tuple[OpDef, ...]
    operands: tuple[Pattern, ...] | None
    named: Mapping[str, Pattern] = field(default_factory=dict[str, "Pattern"])
    attrs: Mapping[str, Attribute] = field(default_factory=dict[str, Attribute])
    may_be_shared: bool = False
    index: int = 0
    feeders: frozenset[OpDef] = frozenset()

    def shared(self) -> OpPattern:
        """Match also where something outside the match reads the result."""
        return replace(self, may_be_shared=True)

    def result(self, index: int) -> OpPattern:
        """Match where the value is result `index` of the operation (the first otherwise)."""
        return replace(self, index=index)

    def fed_by(self, *names: str) -> OpPattern:
        """Match only where one of the named operations feeds the root of the pattern."""
        return replace(self, feeders=frozenset(pat.any_of(*names).definitions))

    @cached_property
    def depth(self) -> int:
        """The number of operations on the longest path through the pattern."""
        parts = [*(self.operands or ()), *self.named.values()]
        return 1 + max((part.depth for part in parts if isinstance(part, OpPattern)), default=0)

    @cached_property
    def needs(self) -> tuple[frozenset[OpDef], ...]:
        """For each part that is no free hole, the operations of which one must feed the root."""
        parts = [*(self.operands or ()), *self.named.values()]
        needs = [frozenset(part.definitions) for part in parts if isinstance(part, OpPattern)]
        needs += [self.feeders] if self.feeders else []
        return (*needs, *(frozenset([CONST]) for part in parts if isinstance(part, Const)))

    @cached_property
    def fits_any(self) -> bool:
        """Whether any operands and attributes do."""
        return self.operands is None and not (self.named or self.attrs or self.feeders)

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


Known = dict[Callable[[Op], Any], Any]
"""What functions say of one operation, which many rules are tried on."""

T = TypeVar("T")


class Match:
    """What each part of the pattern stands for in the graph."""

    def __init__(self, root: Op, known: Known | None = None) -> None:
        self.root = root
        self._known: Known = {} if known is None else known
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

    def once(self, ask: Callable[[Op], T]) -> T:
        """What `ask` says of the root: rules that are tried on it ask once between them."""
        if ask not in self._known:
            self._known[ask] = ask(self.root)
        return self._known[ask]

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
