"""Extents: arithmetic on expressions is arithmetic on the numbers they stand for."""

from __future__ import annotations

import operator
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from leptonc.ir.dims import (
    Dim,
    Expr,
    bounds,
    broadcast,
    ceildiv,
    floordiv,
    maximum,
    minimum,
    replace,
    solve_linear,
    substitute,
    symbol,
    symbols,
)
from leptonc.ir.dims_parse import parse_dim

NAMES = ("batch", "seq", "h")
OPERATORS: dict[str, Callable[[int, int], int]] = {
    "+": operator.add, "-": operator.sub, "*": operator.mul,
}  # fmt: skip

Node = tuple[str, "Node", "Node"] | str | int


@st.composite
def nodes(draw: st.DrawFn, depth: int = 3) -> Node:
    """A random expression as a tree."""
    if depth == 0 or draw(st.integers(0, 3)) == 0:
        return draw(st.one_of(st.sampled_from(NAMES), st.integers(-4, 9)))
    function = draw(st.sampled_from([*OPERATORS, "floordiv", "ceildiv", "min", "max", "mod"]))
    left = draw(nodes(depth - 1))
    right = (
        draw(st.integers(1, 6))
        if function in ("floordiv", "ceildiv", "mod")
        else draw(nodes(depth - 1))
    )
    return (function, left, right)


def as_dim(node: Node) -> Dim:
    """The tree as an extent."""
    if isinstance(node, tuple):
        function, left, right = node[0], as_dim(node[1]), as_dim(node[2])
        table: dict[str, Callable[[Dim, Dim], Dim]] = {
            "+": lambda a, b: a + b, "-": lambda a, b: a - b, "*": lambda a, b: a * b,
            "mod": lambda a, b: a % b, "floordiv": floordiv, "ceildiv": ceildiv,
            "min": minimum, "max": maximum,
        }  # fmt: skip
        return table[function](left, right)
    return symbol(node) if isinstance(node, str) else node


def as_number(node: Node, sizes: dict[str, int]) -> int:
    """The tree's value by Python's own integers."""
    if isinstance(node, tuple):
        left, right = as_number(node[1], sizes), as_number(node[2], sizes)
        table: dict[str, Callable[[int, int], int]] = {
            **OPERATORS, "mod": operator.mod, "floordiv": lambda a, b: a // b,
            "ceildiv": lambda a, b: -(-a // b), "min": min, "max": max,
        }  # fmt: skip
        return table[node[0]](left, right)
    return sizes[node] if isinstance(node, str) else node


SIZES = st.fixed_dictionaries({name: st.integers(0, 40) for name in NAMES})


@settings(max_examples=400, deadline=None)
@given(nodes(), SIZES)
def test_an_expression_has_the_value_of_its_numbers(node: Node, sizes: dict[str, int]) -> None:
    """Simplification never changes what an expression is worth, and bounds hold."""
    dim, want = as_dim(node), as_number(node, sizes)
    assert substitute(dim, sizes) == want
    low, high = bounds(dim)
    assert low <= want <= high


@settings(max_examples=300, deadline=None)
@given(nodes())
def test_text_round_trips(node: Node) -> None:
    """Reading what was printed gives an equal expression."""
    dim = as_dim(node)
    assert parse_dim(str(dim)) == dim


@settings(max_examples=200, deadline=None)
@given(nodes(2), st.sampled_from(NAMES), st.integers(1, 9), SIZES)
def test_a_product_divides_exactly(
    node: Node, name: str, factor: int, sizes: dict[str, int]
) -> None:
    """`q * d // d` is `q`: what `reshape` with -1 relies on."""
    quotient, divisor = as_dim(node), symbol(name) * factor
    found = floordiv(quotient * divisor, divisor)
    assert found == quotient
    assert substitute(found, sizes) == as_number(node, sizes)


def test_known_forms() -> None:
    """The forms that shape arithmetic of real models needs come out simplified."""
    batch, seq = symbol("batch"), symbol("seq")
    assert floordiv(batch * seq * 768, batch * seq * 64) == 12
    assert str(2 * seq + 1) == "2*seq+1"
    assert floordiv(floordiv(seq, 2), 3) == floordiv(seq, 6)
    assert minimum(seq, seq + 3) == seq
    assert maximum(seq, 0) == seq
    assert (batch + seq) * (batch - seq) == batch * batch - seq * seq
    assert symbols(floordiv(batch + 1, 2) * seq) == {"batch", "seq"}
    assert solve_linear(2 * seq + 1, 9) == ("seq", 4)
    assert solve_linear(2 * seq + 1, 8) is None


def test_what_two_extents_broadcast_to_is_known_where_both_are() -> None:
    both = broadcast(symbol("batch"), symbol("seq"))
    assert str(both) == "broadcast(batch,seq)"
    for a, b, want in ((1, 5, 5), (5, 1, 5), (5, 5, 5), (0, 1, 0), (1, 0, 0), (0, 0, 0), (1, 1, 1)):
        assert broadcast(a, b) == want
        assert substitute(both, {"batch": a, "seq": b}) == want
    assert substitute(both, {"batch": 3}) == 3
    assert substitute(both, {"batch": 1}) == symbol("seq")


def test_broadcasting_twice_or_in_another_order_is_the_same() -> None:
    a, b, c = map(symbol, NAMES)
    assert broadcast(broadcast(a, b), a) == broadcast(b, a) == broadcast(a, b)
    assert broadcast(broadcast(a, b), c) == broadcast(c, broadcast(b, a))
    assert str(broadcast(a, broadcast(b, c))) == "broadcast(batch,broadcast(h,seq))"


def test_an_extent_that_is_1_only_where_another_is_gives_way() -> None:
    seq, batch = symbol("seq"), symbol("batch")
    assert broadcast(seq, minimum(seq, 32)) == broadcast(minimum(seq, 32), seq) == seq
    assert broadcast(batch + 2, seq) == batch + 2
    assert broadcast(2 * batch, seq) == 2 * batch
    assert broadcast(maximum(minimum(seq, 1) + seq - 1, 0), seq) == seq
    assert isinstance(broadcast(floordiv(seq, 2), seq), Expr)
    assert str(broadcast(batch + 1, seq)) == "broadcast(batch+1,seq)"


def test_division_by_zero_is_an_error() -> None:
    """A constant zero is no extent to divide by."""
    with pytest.raises(ZeroDivisionError):
        floordiv(4, 0)


@pytest.mark.parametrize("text", ["", "2*", "a b", "f(1,2)", "(seq", "1..2", "seq]"])
def test_nonsense_is_refused(text: str) -> None:
    """What is no expression raises ValueError."""
    with pytest.raises(ValueError, match="cannot read"):
        parse_dim(text)


def test_extents_are_put_in_the_place_of_calls() -> None:
    half = parse_dim("floordiv(h+1,2)")
    assert isinstance(half, Expr)
    ((atom,), _), *_ = half.terms
    known = {atom: parse_dim("n")}
    for before, after in (
        ("floordiv(h+1,2)", "n"),
        ("2*floordiv(h+1,2)*w-3", "2*n*w-3"),
        ("floordiv(floordiv(h+1,2)+1,2)", "floordiv(n+1,2)"),
        ("min(h,floordiv(h+1,2))", "min(h,n)"),
        ("floordiv(h,2)", "floordiv(h,2)"),
        ("7", "7"),
    ):
        assert replace(parse_dim(before), known) == parse_dim(after)
        assert replace(parse_dim(before), {}) == parse_dim(before)
