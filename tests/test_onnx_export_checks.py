"""Checks at run time and extents are exported: few nodes, and wrong runs still fail."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from leptonc.ir.blob import Array
from leptonc.ir.interpret import interpret
from leptonc.ir.text import parse_graph
from leptonc.onnx_export import export_model
from tests.peer import onnxruntime_gives


def exported(text: str) -> onnx.ModelProto:
    model = export_model(parse_graph(text, "test"))
    onnx.checker.check_model(model, full_check=True)  # pyright: ignore[reportUnknownMemberType]
    return model


def ops_of(graph: onnx.GraphProto) -> list[str]:
    return [node.op_type for node in graph.node]


def agree(text: str, **feeds: Array) -> None:
    expected = interpret(parse_graph(text, "test"), feeds)
    for got, want in zip(onnxruntime_gives(exported(text), feeds), expected.values(), strict=True):
        np.testing.assert_array_equal(got, want)


def fails(text: str, **feeds: Array) -> None:
    with pytest.raises(Exception, match="Non-zero status code"):
        onnxruntime_gives(exported(text), feeds)


ONE = """
graph @g(%x: f32[n,m]) -> (y: f32[n]) {
  %m = dims() {value = [m], shape = [1]} : i64[1]
  %checked = extents(%m) {names = [1], fault = "m is 1"} : i64[1]
  %flat = const() {value = dense([-1])} : i64[1]
  %y = reshape(%x, %flat) : f32[n]
  return %y
}
"""


def test_an_extent_of_one_is_squeezed() -> None:
    assert ops_of(exported(ONE).graph) == ["Squeeze", "Reshape"]
    agree(ONE, x=np.ones((3, 1), np.float32))
    agree(ONE, x=np.ones((0, 1), np.float32))
    fails(ONE, x=np.ones((3, 2), np.float32))


def test_what_needs_the_extent_gets_it_back() -> None:
    text = ONE.replace("reshape(%x, %flat) : f32[n]", "relu(%x) : f32[n,m]").replace(
        "(y: f32[n])", "(y: f32[n,m])"
    )
    assert ops_of(exported(text).graph) == ["Squeeze", "Unsqueeze", "Relu"]
    agree(text, x=np.ones((3, 1), np.float32))
    fails(text, x=np.ones((3, 2), np.float32))


DATA = """
graph @g(%row: i64[2], %x: f32[n]) -> (y: f32[n]) {
  %checked = extents(%row) {names = [3, n], fault = "three"} : i64[2]
  %y = relu(%x) : f32[n]
  return %y
}
"""
LARGEST = np.iinfo(np.int64)


def test_numbers_of_run_time_are_compared() -> None:
    x = np.array([1, -2], np.float32)
    agree(DATA, row=np.array([3, 2]), x=x)
    for row in ([3, 3], [2, 2], [-3, 2], [LARGEST.min, 2], [LARGEST.min + 3, 2], [3, LARGEST.max]):
        fails(DATA, row=np.array(row), x=x)


def test_a_check_is_made_where_nothing_follows_it() -> None:
    text = DATA.replace("%checked", "%y = relu(%x) : f32[n]\n  %checked", 1).replace(
        "  %y = relu(%x) : f32[n]\n  return", "  return"
    )
    agree(text, row=np.array([3, 1]), x=np.ones(1, np.float32))
    fails(text, row=np.array([4, 1]), x=np.ones(1, np.float32))


def test_a_check_in_a_branch_holds_there_only() -> None:
    text = """
graph @g(%go: bool[], %row: i64[1], %x: f32[n]) -> (y: f32[n], z: f32[n]) {
  %y = if(%go) () {
    %checked = extents(%row) {names = [3], fault = "three"} : i64[1]
    %a = neg(%x) : f32[n]
    return %a
  } () {
    %b = abs(%x) : f32[n]
    return %b
  } : f32[n]
  %z = relu(%x) : f32[n]
  return %y, %z
}
"""
    x = np.array([1, -2], np.float32)
    agree(text, go=np.array(True), row=np.array([3]), x=x)
    agree(text, go=np.array(False), row=np.array([4]), x=x)
    fails(text, go=np.array(True), row=np.array([4]), x=x)


def test_numbers_become_extents() -> None:
    text = """
graph @g(%row: i64[2]) -> (y: f32[u1_,u2_], z: i64[3]) {
  %sizes = extents(%row) {names = [u1_, u2_]} : i64[2]
  %one = const() {value = dense([1.5])} : f32[1]
  %y = expand(%one, %sizes) : f32[u1_,u2_]
  %z = dims() {value = [u2_, u1_, u1_*u2_], shape = [3]} : i64[3]
  return %y, %z
}
"""
    agree(text, row=np.array([2, 3]))
    agree(text, row=np.array([0, 3]))
    fails(text, row=np.array([2, -1]))
    fails(text, row=np.array([-1, 2]))


def test_a_checked_row_is_an_output() -> None:
    text = """
graph @g(%row: i64[2]) -> (y: i64[2]) {
  %y = extents(%row) {names = [u1_, 3]} : i64[2]
  return %y
}
"""
    agree(text, row=np.array([2, 3]))
    fails(text, row=np.array([-2, 3]))
    fails(text, row=np.array([2, 4]))


def test_extents_side_by_side_are_read_at_once() -> None:
    text = """
graph @g(%x: f32[a,b,4]) -> (p: i64[4], q: i64[3], r: i64[], s: i32[1], t: i64[2,2]) {
  %p = dims() {value = [2, a, b, 8], shape = [4]} : i64[4]
  %q = dims() {value = [a, b, 4], shape = [3]} : i64[3]
  %r = dims() {value = [a], shape = []} : i64[]
  %s = dims() {value = [2*a+b], shape = [1], dtype = i32} : i32[1]
  %t = dims() {value = [a, b, b, a], shape = [2, 2]} : i64[2,2]
  return %p, %q, %r, %s, %t
}
"""
    counts = ops_of(exported(text).graph)
    assert counts.count("Shape") == 4  # a and b, the whole, a, b
    assert counts.count("Cast") == 1
    agree(text, x=np.zeros((2, 3, 4), np.float32))
    agree(text, x=np.zeros((0, 3, 4), np.float32))


def test_an_extent_that_a_tensor_has_is_not_computed() -> None:
    text = """
graph @g(%x: f32[a]) -> (y: f32[floordiv(a,2)], z: i64[1]) {
  %zero = const() {value = dense([0])} : i64[1]
  %one = const() {value = dense([1])} : i64[1]
  %two = const() {value = dense([2])} : i64[1]
  %w = dims() {value = [a], shape = [1]} : i64[1]
  %even = dims() {value = [2*floordiv(a,2)], shape = [1]} : i64[1]
  %head = slice(%x, %zero, %even, axes=%zero, steps=%two) : f32[floordiv(a,2)]
  %y = relu(%head) : f32[floordiv(a,2)]
  %z = dims() {value = [floordiv(a,2)], shape = [1]} : i64[1]
  return %y, %z
}
"""
    assert ops_of(exported(text).graph)[-2:] == ["Shape", "Identity"]
    agree(text, x=np.arange(5, dtype=np.float32))


def test_what_was_computed_for_extents_is_read_again() -> None:
    text = """
graph @g(%x: f32[a], %y: f32[b]) -> (v: f32[min(3,a)], r: i64[min(3,a)], n: i64[1]) {
  %three = dims() {value = [min(3,a)], shape = [1]} : i64[1]
  %v, %i = top_k(%x, %three) : f32[min(3,a)], i64[min(3,a)]
  %r = constant_of_shape(%three) {value = dense([7])} : i64[min(3,a)]
  %both = concat(%x, %y) {axis = 0} : f32[a+b]
  %n = dims() {value = [4*a+4*b], shape = [1]} : i64[1]
  return %v, %r, %n
}
"""
    counts = ops_of(exported(text).graph)
    assert counts.count("Shape") == 2  # of x, and of both together
    assert counts.count("Mul") == counts.count("Min") == 1
    numbers = np.arange(5, dtype=np.float32)
    agree(text, x=numbers, y=numbers[:2])
    agree(text, x=numbers[:2], y=numbers[:0])


def test_results_that_onnx_requires_are_written_unread() -> None:
    text = """
graph @g(%x: f32[4,6]) -> (v: f32[4,2], z: u8[]) {
  %two = const() {value = dense([2])} : i64[1]
  %v, %i = top_k(%x, %two) : f32[4,2], i64[4,2]
  %q, %s, %z = dynamic_quantize_linear(%x) : u8[4,6], f32[], u8[]
  return %v, %z
}
"""
    agree(text, x=np.arange(24, dtype=np.float32).reshape(4, 6) - 7)


def test_extents_of_a_branch_are_not_read_outside_of_it() -> None:
    text = """
graph @g(%go: bool[], %x: f32[a]) -> (y: f32[2*a], z: i64[1]) {
  %y = if(%go) () {
    %b = concat(%x, %x) {axis = 0} : f32[2*a]
    return %b
  } () {
    %c = neg(%x) : f32[a]
    %d = concat(%c, %x) {axis = 0} : f32[2*a]
    return %d
  } : f32[2*a]
  %z = dims() {value = [2*a], shape = [1]} : i64[1]
  return %y, %z
}
"""
    agree(text, go=np.array(True), x=np.arange(5, dtype=np.float32))


@pytest.mark.parametrize(
    ("source", "wanted", "made"),
    [
        ("n,m,6", "n,m,2,3", ["Reshape"]),
        ("n,m,6", "n,1,m,6", ["Unsqueeze"]),
        ("n,1,m,1", "n,m", ["Squeeze"]),
        ("n,1,m,6", "n,m,6", ["Squeeze"]),
        ("n,1,m", "1,n,m", ["Shape", "Gather", "Concat", "Reshape"]),
        ("n,2,3", "6,n", ["Reshape"]),
        ("n,m,6", "n,6*m", ["Shape", "Shape", "Mul", "Concat", "Reshape"]),
        ("n,m,0", "n,0,m", ["Shape", "Shape", "Concat", "Reshape"]),
    ],
)
def test_reshapes_are_told_by_numbers(source: str, wanted: str, made: list[str]) -> None:
    rank = wanted.count(",") + 1
    text = f"""
graph @g(%x: f32[{source}]) -> (y: f32[{wanted}]) {{
  %d = dims() {{value = [{wanted}], shape = [{rank}]}} : i64[{rank}]
  %y = reshape(%x, %d) {{allowzero = 1}} : f32[{wanted}]
  return %y
}}
"""
    got = ops_of(exported(text).graph)
    assert len(got) <= len(made)
    if len(made) == 1:
        assert got == made
    for n, m in ((2, 3), (1, 1), (0, 3), (2, 0), (0, 0)):
        sizes = [{"n": n, "m": m}[dim] if dim in "nm" else int(dim) for dim in source.split(",")]
        agree(text, x=np.arange(int(np.prod(sizes)), dtype=np.float32).reshape(sizes))


def test_broadcasts_are_told_what_is_missing() -> None:
    text = """
graph @g(%x: f32[n,1], %y: f32[m]) -> (p: f32[3,n,1], q: f32[n,m]) {
  %three = dims() {value = [3, n, 1], shape = [3]} : i64[3]
  %both = dims() {value = [n, m], shape = [2]} : i64[2]
  %p = expand(%x, %three) : f32[3,n,1]
  %q = expand(%x, %both) : f32[n,m]
  return %p, %q
}
"""
    assert ops_of(exported(text).graph) == ["Expand", "Shape", "Concat", "Expand"]
    for n, m in ((2, 3), (1, 1), (0, 3), (2, 0), (0, 0)):
        agree(text, x=np.arange(n, dtype=np.float32)[:, None], y=np.ones(m, np.float32))


def test_quotients_and_remainders_of_extents() -> None:
    text = """
graph @g(%x: f32[n]) -> (p: i64[1], q: i64[1], r: i64[1], s: i64[1]) {
  %p = dims() {value = [floordiv(n,4)], shape = [1]} : i64[1]
  %q = dims() {value = [n-4*floordiv(n,4)], shape = [1]} : i64[1]
  %r = dims() {value = [2*n-8*floordiv(n,4)+1], shape = [1]} : i64[1]
  %s = dims() {value = [floordiv(-n,3)], shape = [1]} : i64[1]
  return %p, %q, %r, %s
}
"""
    made = ops_of(exported(text).graph)
    assert made.count("Mod") == 2
    assert made.count("Div") == 2
    for n in (0, 1, 4, 6, 7, 8, 11):
        agree(text, x=np.zeros(n, np.float32))
