"""Finds the ways in which a pattern fits the operations above one root."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from leptonc.ir.graph import Op, Value
from leptonc.ir.table import OpDef, Trait
from leptonc.passes.pattern import Const, Known, Match, OpPattern, Optional, Pattern, Var


def feeders_of(op: Op) -> frozenset[OpDef]:
    """What the operations are whose results `op` reads."""
    return frozenset([v.producer.definition for v in op.operands if v.producer is not None])


def may_fit(pattern: OpPattern, feeders: frozenset[OpDef]) -> bool:
    """False where the root of `pattern` needs an operand of an operation that is no feeder."""
    return not any(need.isdisjoint(feeders) for need in pattern.needs)


def match(pattern: OpPattern, root: Op, known: Known | None = None) -> Iterator[Match]:
    """Every way `pattern` fits with `root` at its top; each is good until the next is asked for."""
    found = Match(root, known)
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
    if pattern.feeders and pattern.feeders.isdisjoint(feeders_of(op)):
        return
    if pattern.attrs and any(op.attrs.get(name) != value for name, value in pattern.attrs.items()):
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


def _pairs(pattern: OpPattern, op: Op, *, swap: bool) -> Sequence[_Pair] | None:
    """Which operand each part of the pattern stands for; None where their numbers differ."""
    named = _named_pairs(pattern, op)
    parts = pattern.operands or ()
    rest = op.operands if not pattern.named else tuple(
        value for name, value in zip(op.operand_names, op.operands, strict=True)
        if name not in pattern.named
    )  # fmt: skip
    if named is None or len(rest) > len(parts):
        return None
    if swap:
        rest = (*rest[1::-1], *rest[2:])
    absent = parts[len(rest) :]
    if any(not isinstance(part, Optional) for part in absent):
        return None
    return [*zip(parts, rest, strict=False), *((part, None) for part in absent), *named]


def _named_pairs(pattern: OpPattern, op: Op) -> Sequence[_Pair] | None:
    if not pattern.named:
        return ()
    pairs = [(part, op.operand(name)) for name, part in pattern.named.items()]
    missing = any(value is None and not isinstance(part, Optional) for part, value in pairs)
    return None if missing else pairs


def _match_operands(pairs: Sequence[_Pair], found: Match) -> Iterator[None]:
    """Fill the holes, then match what feeds them: most patterns that do not fit end with a hole."""
    inner: list[tuple[OpPattern, Op]] = []
    filled: list[Var] = []
    for pattern, value in pairs:
        if value is None:
            continue
        if isinstance(pattern, OpPattern):
            producer = _producer_for(pattern, value)
            if producer is None:
                break
            inner.append((pattern, producer))
            continue
        hole = pattern.hole if isinstance(pattern, Optional) else pattern
        bound = found.values.get(hole)
        if bound is None and (not isinstance(hole, Const) or value.blob is not None):
            found.values[hole] = value
            filled.append(hole)
        elif bound is not value:
            break
    else:
        yield from _match_inner(inner, found)
    for hole in filled:
        del found.values[hole]


def _producer_for(pattern: OpPattern, value: Value) -> Op | None:
    """What makes `value`, where it may fit the pattern."""
    op = value.producer
    if op is None or op.definition not in pattern.definitions:
        return None
    return op if value is op.results[pattern.index] else None


def _match_inner(rest: Sequence[tuple[OpPattern, Op]], found: Match) -> Iterator[None]:
    if not rest:
        yield
        return
    (pattern, op), *rest = rest
    for _ in _match_op(pattern, op, found):
        yield from _match_inner(rest, found)
