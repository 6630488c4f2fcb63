"""Textual IR: what is printed reads back, and mistakes are shown where they are."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from leptonc.ir.blob import Blob
from leptonc.ir.build import Builder
from leptonc.ir.diagnostics import LeptonError
from leptonc.ir.graph import Graph, Value
from leptonc.ir.location import Location
from leptonc.ir.text import ParseError, parse_graph, print_graph
from leptonc.ir.types import DType, TensorType
from leptonc.ir.verify import verify

EVERYTHING = """graph @"a model"(%x: f32[batch,2*seq+1], %"in put": i64[]) -> \
(y: f32[batch,2*seq+1], "o 2": i64[2]) {
  %w = const() {value = dense([1.5, nan, -inf])} : f32[3]
  %c = const() {value = splat(2)} : i64[3,4]
  %r = const() {value = random(7)} : f16[300]
  %d = dims() {value = [batch, floordiv(seq+1,2)], shape = [2]} : i64[2] \
loc("Shape_0" via fold, twice)
  %lo = const() {value = dense([0.0])} : f32[]
  %k = clip(%x, min=%lo) : f32[batch,2*seq+1]
  %h = cast(%k) {to = f16} : f16[batch,2*seq+1] loc("a \\"quoted\\" name")
  %y = group(%x) {kind = "a, b"} (%a: f32[batch,2*seq+1]) {
    %n = neg(%a) : f32[batch,2*seq+1]
    return %n
  } : f32[batch,2*seq+1]
  return %y, %d
}
"""


def test_everything_round_trips() -> None:
    """Every construct prints as it was written."""
    graph = parse_graph(EVERYTHING)
    verify(graph)
    assert print_graph(graph, locations=True) == EVERYTHING


def test_what_is_known_of_an_operand_is_known_inside_a_group() -> None:
    graph = parse_graph("""graph @g(%x: f32[6], %s: i64[2]) -> (y: f32[n,m]) {
  %e = extents(%s) {names = [n, m]} : i64[2]
  %y = group(%x, %e) (%a: f32[6], %b: i64[2]) {
    %r = reshape(%a, %b) : f32[n,m]
    return %r
  } : f32[n,m]
  return %y
}
""")
    inner = next(op for op in graph.walk() if op.name == "reshape").operands[1]
    assert inner.content is not None
    assert [str(dim) for dim in inner.content] == ["n", "m"]


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.one_of(st.floats(width=32), st.just(math.nan)), min_size=1, max_size=8),
    st.text(min_size=1, max_size=12).filter(lambda text: text.isprintable()),
)
def test_numbers_and_names_round_trip(numbers: list[float], name: str) -> None:
    """Any f32 number keeps its bits, any printable name its characters."""
    graph = Graph("m", [], [name])
    build = Builder(graph, location=Location((name,)))
    array = np.array(numbers, np.float32)
    value = build.const(array)
    value.name = name
    build.return_(value)
    back = parse_graph(print_graph(graph, locations=True))
    blob = back.outputs[0].blob
    assert blob is not None
    np.testing.assert_array_equal(
        blob.array.view(np.uint32)[array == array], array.view(np.uint32)[array == array]
    )
    assert np.isnan(blob.array).tolist() == np.isnan(array).tolist()
    assert back.outputs[0].producer is not None
    assert back.outputs[0].producer.location.nodes == (name,)
    assert back.output_names == (name,)


@pytest.mark.parametrize("dtype", [d for d in DType if d not in (DType.STR, DType.C64, DType.C128)])
def test_small_constants_of_every_type_round_trip(dtype: DType) -> None:
    """The recipe of a small constant gives equal data."""
    first = 1 if dtype is DType.F8E8M0 else 0  # that type has no zero
    array = np.array([first, 1, 1]).astype(dtype.numpy)
    graph = Graph("m", [], ["y"])
    build = Builder(graph)
    build.return_(build.const(array))
    back = parse_graph(print_graph(graph))
    blob = back.outputs[0].blob
    assert blob is not None
    assert blob.array.dtype == array.dtype
    assert blob.array.tolist() == array.tolist()


def test_large_constants_are_named_by_digest_or_number() -> None:
    """Equal data has an equal name; by number no data is touched."""

    def unreadable() -> np.ndarray:  # pyright: ignore[reportMissingTypeArgument, reportUnknownParameterType]
        raise AssertionError("read")

    graph = Graph("m", [], ["y"])
    build = Builder(graph)
    build.return_(build.const(Blob(TensorType(DType.F32, (100,)), unreadable)))
    assert 'blob("1")' in print_graph(graph, blob_names=True)
    a, b = (Blob.of(np.arange(100, dtype=np.float32)) for _ in range(2))
    assert a.recipe == b.recipe
    assert a == b
    assert a.recipe != Blob.of(np.arange(100, dtype=np.int32)).recipe


def test_data_that_is_elsewhere_is_asked_for_by_name() -> None:
    """Text without its weights can be read; asking for them says which are missing."""
    const = '%0 = const() {value = blob("abc")} : f32[100]'
    text = f"graph @m() -> (y: f32[100]) {{\n  {const}\n  return %0\n}}\n"
    graph = parse_graph(text)
    assert print_graph(graph) == text
    blob = graph.outputs[0].blob
    assert blob is not None
    with pytest.raises(LeptonError, match="blob abc is not at hand") as error:
        _ = blob.array
    assert error.value.code == "E002"
    data = Blob.of(np.ones(100, np.float32))
    found = parse_graph(text, blobs={"abc": data}).outputs[0].blob
    assert found is data


BROKEN = {
    "unknown operation rellu": ("  %0 = rellu(%x) : f32[2]\n  return %0", "%0 = rellu(%x)"),
    "is read before it is defined": ("  return %z", "return %z"),
    "is defined twice": ("  %x = relu(%x) : f32[2]\n  return %x", "%x = relu"),
    "unknown element type f99": ("  %0 = relu(%x) : f99[2]\n  return %0", "f99[2]"),
    "has no attribute slope": ("  %0 = relu(%x) {slope = 1} : f32[2]\n  return %0", "slope"),
    "expected ,, found %": ("  %0 = add(%x %x) : f32[2]\n  return %0", "add(%x %x)"),
    "2 results have 1 types": ("  %0, %1 = relu(%x) : f32[2]\n  return %0", "%0, %1"),
    "cannot read the extent": ("  %0 = relu(%x) : f32[2*]\n  return %0", "f32[2*]"),
    "unknown recipe zeros": ("  %0 = const() {value = zeros(1)} : f32[2]\n  return %0", "zeros(1)"),
    "3 numbers are given for 2 elements": (
        "  %0 = const() {value = dense([1, 2, 3])} : f32[2]\n  return %0",
        "dense([1, 2, 3])",
    ),
    "out of bounds for int8": (
        "  %0 = const() {value = dense([1, 300])} : i8[2]\n  return %0",
        "dense([1, 300])",
    ),
    "unexpected character": ("  %0 = relu(%x) ; f32[2]\n  return %0", ";"),
}


@pytest.mark.parametrize("message", BROKEN)
def test_mistakes_show_their_line(message: str) -> None:
    """The error shows the line and points at the place."""
    body, line = BROKEN[message]
    with pytest.raises(ParseError) as error:
        parse_graph(f"graph @m(%x: f32[2]) -> (y: f32[2]) {{\n{body}\n}}\n", "file.lir")
    text = str(error.value)
    assert message in text
    assert line in text
    assert "file.lir:" in text
    assert "^" in text
    assert error.value.code == "E001"


def test_fresh_symbols_do_not_meet_those_of_the_text() -> None:
    """A symbol made after parsing differs from every one that was read."""
    graph = parse_graph("graph @m(%x: f32[u3_]) -> (y: f32[u3_]) {\n  return %x\n}")
    assert str(graph.fresh_dim()) == "u4_"


def test_values_without_names_are_numbered() -> None:
    """Names that clash are made unique; the text stays readable."""
    graph = Graph("m", [Value(TensorType(DType.F32, (2,)), "x")], ["y"])
    build = Builder(graph)
    first = build.relu(graph.inputs[0])
    first.name = "x"
    second = build.relu(first)
    build.return_(second)
    assert "%x_1 = relu(%x)" in print_graph(graph)
    assert "%0 = relu(%x_1)" in print_graph(graph)


def test_what_fills_a_tensor_is_one_element_whatever_it_fills() -> None:
    text = """
graph @fill(%x: i64[1]) -> (y: i64[n], z: i64[3]) {
  %y = constant_of_shape(%x) {value = dense([7])} : i64[n]
  %z = constant_of_shape(%x) {value = splat(7)} : i64[3]
  return %y, %z
}
"""
    for op in parse_graph(text):
        if op.name != "return":
            assert isinstance(op.attrs["value"], Blob)
            assert op.attrs["value"].array.tolist() == [7]
