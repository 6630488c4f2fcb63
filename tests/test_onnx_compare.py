"""What counts as the same: roundings, not less and not more."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from leptonc.ir.blob import Array
from leptonc.ir.diagnostics import LeptonError
from leptonc.ir.graph import Graph
from leptonc.ir.text import parse_graph
from leptonc.onnx_compare import Comparison, Run, Runners, Verdict, compare, difference

F32 = np.float32


def array(*numbers: float, dtype: Any = F32) -> Array:
    return np.array(numbers, dtype)


@pytest.mark.parametrize(
    ("got", "want", "expected"),
    [
        (array(1, 2), array(1, 2), 0),
        (array(1, 2.5), array(1, 2), 0.5 / (5 / 2) ** 0.5),
        (array(1e-3, 0), array(0, 0), 1e-3),
        (array(np.nan, np.inf, -np.inf), array(np.nan, np.inf, -np.inf), 0),
        (array(np.inf), array(-np.inf), np.inf),
        (array(np.nan), array(1), np.inf),
        (array(1), array(np.nan), np.inf),
        (array(1, 2), array(1, 2, 3), np.inf),
        (array(1, dtype=np.float64), array(1), np.inf),
        (None, array(1), np.inf),
        (array(), array(), 0),
        (array(1, 2, 3, 4, dtype=np.int64), array(1, 2, 3, 5, dtype=np.int64), 0.25),
    ],
)
def test_differences(got: Array | None, want: Array, expected: float) -> None:
    assert difference(got, want) == pytest.approx(expected, rel=1e-6)


def graph(extent: str = "n") -> Graph:
    text = f"graph @g(%x: f32[{extent}]) -> (y: f32[{extent}]) {{\n"
    return parse_graph(f"{text}  %y = relu(%x) : f32[{extent}]\n  return %y\n}}", "test")


def verdict(original: Run, result: Run, comparison: Comparison | None = None) -> Verdict:
    return compare(Runners("test", original, result), graph(), comparison or Comparison())


def gives(function: Callable[[Array], Any]) -> Run:
    return lambda feeds: {"y": np.asarray(function(feeds["x"]))}


def test_roundings_are_the_same_and_more_is_not() -> None:
    assert verdict(gives(np.exp), gives(lambda x: np.exp(x) * F32(1 + 1e-6))).is_fine
    assert not verdict(gives(np.exp), gives(lambda x: np.exp(x) * F32(1.01))).is_fine
    assert verdict(
        gives(np.exp), gives(lambda x: np.exp(x) * F32(1.01)), Comparison({}, 0.1)
    ).is_fine


def test_what_magnifies_roundings_may_be_further_off() -> None:
    """The next number of an input moves the output by a percent, so a result may as well."""
    original = gives(lambda x: (x * F32(1e5)).astype(F32) % F32(1))
    moved = gives(lambda x: (np.nextafter(x, F32(9)) * F32(1e5)).astype(F32) % F32(1))
    assert verdict(original, moved).is_fine
    assert not verdict(original, gives(lambda x: F32(0.5) - 0 * x)).is_fine


def test_a_result_may_be_as_wrong_as_the_original() -> None:
    """In single precision one way of computing is a tenth off, the other less."""
    exact = gives(lambda x: np.full(x.shape, 10.0))
    runners = Runners(
        "test", gives(lambda x: 0 * x + 11), gives(lambda x: 0 * x + F32(9.5)), exact=exact
    )
    assert compare(runners, graph(), Comparison()).is_fine
    worse = Runners("test", runners.original, gives(lambda x: 0 * x + 7), exact=exact)
    assert not compare(worse, graph(), Comparison()).is_fine


def test_sizes_that_the_original_refuses_are_left_out() -> None:
    def picky(x: Array) -> Array:
        if len(x) % 16:
            raise ValueError("not a multiple of 16")
        return x

    found = verdict(gives(picky), gives(lambda x: x))
    assert [sizes["n"] for sizes in found.sizes] == [16, 32, 64]

    def broken(x: Array) -> Array:
        raise ValueError("never")

    with pytest.raises(LeptonError, match="runs on no random inputs: never") as caught:
        verdict(gives(broken), gives(lambda x: x))
    assert caught.value.code == "E806"
    assert not verdict(gives(lambda x: x), gives(broken)).is_fine


def test_integers_are_equal_or_wrong() -> None:
    whole = gives(lambda x: np.arange(len(x)))
    assert verdict(whole, whole).is_fine
    assert not verdict(whole, gives(lambda x: np.arange(len(x)) + (len(x) > 4))).is_fine
