"""The interpreter holds data against declared types and knows the symbols' sizes."""

from __future__ import annotations

import numpy as np
import pytest

from leptonc.ir.build import Builder
from leptonc.ir.diagnostics import LeptonBug, LeptonError
from leptonc.ir.graph import Graph, Value
from leptonc.ir.interpret import interpret
from leptonc.ir.table import OpDef, Operand
from leptonc.ir.text import parse_graph
from leptonc.ir.types import DType, TensorType

GRAPH = """graph @m(%x: f32[n,2*m+1]) -> (y: f32[n,2*m+1], s: i64[2]) {
  %y = group(%x) (%a: f32[n,2*m+1]) {
    %r = exp(%a) : f32[n,2*m+1]
    return %r
  } : f32[n,2*m+1]
  %s = dims() {value = [n, m*n], shape = [2]} : i64[2]
  return %y, %s
}"""


def test_symbols_get_the_sizes_of_the_inputs() -> None:
    """Extents as data are computed from the shapes that came in."""
    x = np.linspace(-1, 1, 15, dtype=np.float32).reshape(3, 5)
    found = interpret(parse_graph(GRAPH), {"x": x})
    np.testing.assert_allclose(found["y"], np.exp(x), rtol=1e-6)
    assert found["s"].tolist() == [3, 6]


def test_widened_runs_compute_in_double_precision() -> None:
    """The reference run rounds nowhere to f32."""
    x = np.full((1, 3), 0.1, np.float32)
    found = interpret(parse_graph(GRAPH), {"x": x}, widen=True)["y"]
    assert found.dtype == np.float64
    np.testing.assert_allclose(found, np.exp(x.astype(np.float64)), rtol=1e-15)


def test_noise_is_what_each_number_rounds() -> None:
    """Numbers are off by up to a step of their type, alike wherever one is read."""
    graph = parse_graph("""graph @m(%x: bf16[64]) -> (y: bf16[64], z: bf16[64]) {
  %y = neg(%x) : bf16[64]
  %z = sub(%x, %x) : bf16[64]
  return %y, %z
}""")
    x = np.linspace(1, 2, 64).astype(DType.BF16.numpy)
    found = interpret(graph, {"x": x}, widen=True, noise=np.random.default_rng(0))
    off = np.abs(found["y"] + x.astype(np.float64))
    assert 2.0**-9 < off.max() < 2.0**-5
    assert not found["z"].any()


def test_reductions_do_not_depend_on_where_elements_lie() -> None:
    graph = parse_graph("""graph @m(%x: f32[9,8,7]) -> (y: f32[7]) {
  %t = transpose(%x) {perm = [2, 0, 1]} : f32[7,9,8]
  %a = const() {value = dense([1, 2])} : i64[2]
  %y = reduce_mean(%t, axes=%a) {keepdims = 0} : f32[7]
  return %y
}""")
    x = np.random.default_rng(0).standard_normal((9, 8, 7)).astype(np.float32)
    lying = np.ascontiguousarray(x.transpose(2, 0, 1)).mean(axis=(1, 2))
    np.testing.assert_array_equal(interpret(graph, {"x": x})["y"], lying)


@pytest.mark.parametrize(
    "x", [np.zeros((3, 4), np.float32), np.zeros((3, 5)), np.zeros(3, np.float32)]
)
def test_inputs_that_do_not_fit_are_refused(x: np.ndarray) -> None:  # pyright: ignore[reportMissingTypeArgument, reportUnknownParameterType]
    """Wrong extents, element type or rank name the input and both types."""
    with pytest.raises(LeptonError, match=r"input 'x' is f32\[n,2\*m\+1\], got"):
        interpret(parse_graph(GRAPH), {"x": x})


def test_a_missing_input_is_named() -> None:
    """Nothing runs without all of its data."""
    with pytest.raises(LeptonError, match="no data for input 'x'") as error:
        interpret(parse_graph(GRAPH), {})
    assert error.value.code == "E003"


def test_an_operation_without_a_meaning_is_named() -> None:
    """A row that only targets know cannot be interpreted."""
    row = OpDef("target_only", (Operand("x"),), infer=lambda call: call.types[0], evaluate=None)
    graph = Graph("m", [Value(TensorType(DType.F32, (2,)), "x")], ["y"])
    build = Builder(graph)
    build.return_(build.op(row, graph.inputs).result)
    with pytest.raises(LeptonError, match="target_only has no reference meaning") as error:
        interpret(graph, {"x": np.zeros(2, np.float32)})
    assert error.value.code == "E004"


def test_an_attribute_of_the_wrong_type_is_named() -> None:
    """Inference asks for integers where the row says so."""
    graph = Graph("m", [Value(TensorType(DType.F32, (2, 3)), "x")], ["y"])
    with pytest.raises(LeptonError, match=r"transpose\.perm is 'ab', should be integers") as error:
        Builder(graph).transpose(graph.inputs[0], perm="ab")
    assert error.value.code == "E105"


def test_a_wrong_declaration_is_a_bug() -> None:
    """Data that does not fit the declared type is told as a broken invariant."""
    wrong = "graph @m(%x: f32[2]) -> (y: f32[3]) {\n  %y = relu(%x) : f32[3]\n  return %y\n}"
    with pytest.raises(
        LeptonBug, match=r"relu is declared f32\[3\] but its meaning gives float32\[2\]"
    ):
        interpret(parse_graph(wrong), {"x": np.zeros(2, np.float32)})


def test_extents_that_do_not_go_together_are_the_inputs_fault() -> None:
    """One extent is broadcast where it should be equal to the other, so that nothing is wrong."""
    text = """graph @m(%x: f32[n], %z: f32[4*floordiv(n,4)]) -> (y: f32[n]) {
  %y = add(%x, %z) : f32[n]
  return %y
}"""
    graph, x = parse_graph(text), np.ones(4, np.float32)
    assert interpret(graph, {"x": x, "z": x})["y"].tolist() == [2, 2, 2, 2]
    with pytest.raises(LeptonError, match=r"shapes \[1\], \[0\], which gives \[0\]") as error:
        interpret(graph, {"x": x[:1], "z": x[:0]})
    assert error.value.code == "E006"


RUN_TIME = """graph @m(%x: f32[n], %size: i64[2]) -> (y: f32[u0_,3]) {
  %e = extents(%size) {names = [u0_, 3]} : i64[2]
  %y = reshape(%x, %e) : f32[u0_,3]
  return %y
}"""


def test_numbers_become_extents() -> None:
    """The symbols that extents names have the sizes of its elements from there on."""
    feeds = {"x": np.arange(6, dtype=np.float32), "size": np.array([2, 3])}
    found = interpret(parse_graph(RUN_TIME), feeds)
    assert found["y"].tolist() == [[0, 1, 2], [3, 4, 5]]


@pytest.mark.parametrize("size", [[-2, 3], [1, 6]])
def test_extents_below_zero_or_other_than_known_are_refused(size: list[int]) -> None:
    """Neither becomes a size."""
    feeds = {"x": np.arange(6, dtype=np.float32), "size": np.array(size)}
    with pytest.raises(LeptonError, match="an extent is") as error:
        interpret(parse_graph(RUN_TIME), feeds)
    assert error.value.code == "E005"


def test_an_index_out_of_range_is_the_error_of_the_data() -> None:
    graph = parse_graph("""graph @m(%x: f32[4], %at: i64[n]) -> (y: f32[n]) {
      %y = gather(%x, %at) {axis = 0} : f32[n]
      return %y
    }""")
    x = np.arange(4, dtype=np.float32)
    assert interpret(graph, {"x": x, "at": np.array([3, -4])})["y"].tolist() == [3, 0]
    with pytest.raises(LeptonError, match="place that is not there: index 9") as error:
        interpret(graph, {"x": x, "at": np.array([1, 9])})
    assert error.value.code == "E005"
