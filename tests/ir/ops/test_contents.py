"""Arithmetic on known contents."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from leptonc.ir.blob import Blob
from leptonc.ir.build import Builder
from leptonc.ir.dims import Dim, substitute
from leptonc.ir.dims_parse import parse_dim
from leptonc.ir.graph import Graph, Value
from leptonc.ir.ops import contents
from leptonc.ir.types import DType
from tests.ir.ops.single import ints, tensor


def dim(text: str) -> Dim:
    return parse_dim(text)


@pytest.mark.parametrize("b", [-4, -3, -1, 1, 2, 5])
@pytest.mark.parametrize("a", range(-7, 8))
def test_division_rounds_towards_zero(a: int, b: int) -> None:
    assert contents.divide(a, b) == int(a / b)
    if b > 0:
        assert contents.remainder(a, b) == np.mod(a, b)


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        ("n", "2", "floordiv(n,2)"),
        ("12*n", "4", "3*n"),
        ("n*64", "n", "64"),
        ("0-n", "2", "-floordiv(n,2)"),
        ("n", "m", "floordiv(n,max(1,m))"),
        ("n-4", "2", None),
        ("n", "m-3", None),
        ("n", "0", None),
    ],
)
def test_division_of_extents(a: str, b: str, expected: str | None) -> None:
    found = contents.divide(dim(a), dim(b))
    assert (None if found is None else str(found)) == expected
    for n in range(5):
        if found is not None and b == "2":
            assert substitute(found, {"n": n}) == int(substitute(dim(a), {"n": n}) / 2)  # pyright: ignore


@pytest.mark.parametrize(
    ("function", "a", "b", "expected"),
    [
        (contents.equal, "n", "-1", 0),
        (contents.equal, "n", "n", 1),
        (contents.equal, "n", "3", None),
        (contents.less, "n", "n+1", 1),
        (contents.less, "n", "0", 0),
        (contents.less, "n", "m", None),
        (contents.less_or_equal, "0", "n", 1),
        (contents.greater, "n+1", "n", 1),
        (contents.greater, "n", "1", None),
        (contents.greater_or_equal, "n", "0", 1),
        (contents.disjunction, "0", "1", 1),
        (contents.conjunction, "0", "1", 0),
    ],
)
def test_comparisons_tell_only_what_holds_for_every_size(
    function: Any, a: str, b: str, expected: int | None
) -> None:
    assert function(dim(a), dim(b)) == expected


def test_a_choice_between_equal_extents_needs_no_condition() -> None:
    n = dim("n")
    assert contents.choose(1, n, 2) == n
    assert contents.choose(0, n, 2) == 2
    assert contents.choose(n, 3, 3) == 3
    assert contents.choose(n, 3, 4) is None


def test_the_shape_of_an_expansion_as_exporters_write_it() -> None:
    graph = Graph("expand")
    x = graph.add_input(Value(tensor("f32[batch,1,64]"), "x"))
    build = Builder(graph)
    wanted = build.concat(build.shape(x, end=1), build.const(ints(8, -1)), axis=0)
    ones = build.constant_of_shape(build.shape(wanted), value=Blob.of(ints(1)))
    minus = build.mul(ones, build.const(np.array(-1)))
    chosen = build.where(build.equal(wanted, minus), ones, wanted)
    assert str(build.expand(x, chosen).type) == "f32[batch,8,64]"


def test_positions_and_masks_of_a_cache() -> None:
    graph = Graph("cache")
    past = graph.add_input(Value(tensor("f32[batch,8,past,64]"), "past"))
    new = graph.add_input(Value(tensor("f32[batch,8,seq,64]"), "new"))
    build = Builder(graph)
    two = build.const(np.array(2))
    both = build.concat(past, new, axis=2)
    before, total = (build.gather(build.shape(value), two) for value in (past, both))
    positions = build.range(before, total, build.const(np.array(1)))
    assert str(positions.type) == "i64[seq]"
    mask = build.const(np.zeros((1, 256), np.float32))
    ends = build.unsqueeze(total, build.const(ints(0)))
    cut = build.slice(mask, build.const(ints(0)), ends, build.const(ints(1)))
    assert str(cut.type) == "f32[1,min(256,past+seq)]"


def test_products_and_casts_keep_extents() -> None:
    graph = Graph("size")
    x = graph.add_input(Value(tensor("f32[batch,seq,64]"), "x"))
    build = Builder(graph)
    narrow = build.cast(build.shape(x), to=DType.I32)
    total = build.reduce_prod(narrow, keepdims=0)
    assert total.content is not None
    assert str(total.content.item()) == "64*batch*seq"


def test_extremes_keep_extents() -> None:
    graph = Graph("extremes")
    x = graph.add_input(Value(tensor("f32[batch,8]"), "x"))
    build = Builder(graph)
    lowest = build.reduce_min(build.shape(x), keepdims=0)
    highest = build.reduce_max(build.shape(x))
    unknown = build.reduce_min(build.equal(build.shape(x), build.const(ints(3, 8))))
    assert lowest.content is not None
    assert str(lowest.content.item()) == "min(8,batch)"
    assert highest.content is not None
    assert [str(dim) for dim in highest.content] == ["max(8,batch)"]
    assert unknown.content is None
