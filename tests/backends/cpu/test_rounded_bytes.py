"""Epilogues that round floats to bytes."""

from __future__ import annotations

import numpy as np
import pytest

import leptonc
from leptonc.backends.cpu.rounded_bytes import rounded_bytes
from leptonc.ir.interpret import interpret
from leptonc.ir.text import parse_graph

GRAPH = """graph @g(%x: f32[n,5], %e: f32[n,23]) -> (b: TYPE[n,23]) {
  %w = const() {value = random(1)} : f32[5,23]
  %low = const() {value = dense([LOW])} : f32[]
  %high = const() {value = dense([HIGH])} : f32[]
  %point = const() {value = dense([POINT])} : f32[]
  %y = linear(%x, %w) : f32[n,23]
  %s = add(%y, %e) : f32[n,23]
  %r = round(%s) : f32[n,23]
  MOVED%g = greater(%m, %low) : bool[n,23]
  %a = where(%g, %m, %low) : f32[n,23]
  %l = less(%a, %high) : bool[n,23]
  %c = where(%l, %a, %high) : f32[n,23]
  %b = cast(%c) {to = TYPE} : TYPE[n,23]
  return %b
}
"""
VALUES = (
    -np.inf, -1e30, -(2.0**31), -(2.0**22) - 1, -256.5, -139.5, -138.5, -4.5, -3.5, -2.5, -1.5,
    -0.5000001, -0.5, -0.0, 0.0, 0.49999997, 0.5, 1.5, 2.5, 116.5, 117.5, 127.5, 254.5, 255.4,
    255.5, 256.5, 4194303.5, 2.0**23 + 1, 2.0**31, 3e9, 1e30, np.inf, np.nan,
)  # fmt: skip


def graph_of(kind: str, low: float, high: float, point: float | None) -> str:
    text = GRAPH.replace("TYPE", kind).replace("LOW", str(low)).replace("HIGH", str(high))
    if point is None:
        return text.replace("MOVED", "").replace("%m", "%r").replace("POINT", "0.0")
    added = "%m = add(%r, %point) : f32[n,23]\n  "
    return text.replace("MOVED", added).replace("POINT", str(point))


def check(text: str) -> None:
    rng = np.random.default_rng(0)
    values = np.array(VALUES, np.float32)
    e = np.concatenate([values, rng.uniform(-300, 300, 23 * 40 - len(values)).astype(np.float32)])
    feeds = {"x": np.zeros((40, 5), np.float32), "e": e.reshape(40, 23)}
    with leptonc.compile(parse_graph(text), isolated=False, cache=False) as session:
        got = session.run(feeds)["b"]
    np.testing.assert_array_equal(got, interpret(parse_graph(text), feeds)["b"])


@pytest.mark.parametrize(
    ("kind", "low", "high", "point"),
    [("u8", 1.0, 255.0, None), ("u8", 1.0, 254.0, 138.0), ("u8", 3.0, 200.0, 3.0),
     ("i8", -128.0, 127.0, -5.0), ("i8", -128.0, 127.0, 127.0), ("u8", 1.0, 255.0, 255.0)],
)  # fmt: skip
def test_bytes_are_those_that_are_spelled_out(
    kind: str, low: float, high: float, point: float | None
) -> None:
    text = graph_of(kind, low, high, point)
    found = rounded_bytes(parse_graph(text).outputs[0])
    assert found is not None  # a lower limit of zero would become a relu
    assert (found.low, found.high, found.point) == (low, high, point or 0)
    check(text)


@pytest.mark.parametrize(
    "text",
    [graph_of("u8", 0.5, 255.0, None), graph_of("u8", 0.0, 254.5, 3.0),
     graph_of("u8", 0.0, 255.0, 2.5), graph_of("i8", 0.0, 255.0, None).replace("255.0", "127.0")
     .replace("greater(%r, %low)", "greater(%r, %high)"),
     graph_of("u8", 0.0, 255.0, None).replace("where(%g, %r, %low)", "where(%g, %r, %s)")],
    ids=["low", "high", "point", "comparison", "choice"],
)  # fmt: skip
def test_other_limits_stay_as_they_are(text: str) -> None:
    assert rounded_bytes(parse_graph(text).outputs[0]) is None


def test_what_something_else_reads_stays() -> None:
    text = graph_of("u8", 0.0, 255.0, None).replace("where(%l, %a, %high)", "where(%l, %r, %high)")
    assert rounded_bytes(parse_graph(text).outputs[0]) is None
    more = graph_of("u8", 0.0, 255.0, None).replace("-> (b:", "-> (r: f32[n,23], b:")
    assert rounded_bytes(parse_graph(more.replace("return %b", "return %r, %b")).outputs[1]) is None
