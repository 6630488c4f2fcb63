"""Kernels are named by what they compute: equal ones share a name; only real operands are read."""

from __future__ import annotations

from leptonc.backends.tvm.source import KernelSource, kernel_source
from leptonc.backends.tvm.weights import weights_of
from leptonc.ir.graph import Graph
from leptonc.ir.text import parse_graph

TEXT = """graph @m(%x: f32[batch,8], %z: f32[batch,8]) -> \
(y: f32[batch,8], w: f32[batch,8], v: f32[batch,2,4]) {
  %big = const() {value = random(1)} : f32[8]
  %same = const() {value = random(2)} : f32[8]
  %two = const() {value = dense([2.0])} : f32[]
  %unread = const() {value = dense([0, 2, 4])} : i64[3]
  %y = group(%x, %big) (%a: f32[batch,8], %b: f32[8]) {
    %t = const() {value = dense([2.0])} : f32[]
    %s = add(%a, %b) : f32[batch,8]
    %r = mul(%s, %t) : f32[batch,8]
    return %r
  } : f32[batch,8]
  %w = group(%z, %same) (%c: f32[batch,8], %d: f32[8]) {
    %u = const() {value = dense([2.0])} : f32[]
    %p = add(%c, %d) : f32[batch,8]
    %q = mul(%p, %u) : f32[batch,8]
    return %q
  } : f32[batch,8]
  %v = reshape(%y, %unread) : f32[batch,2,4]
  return %y, %w, %v
}"""


def sources(graph: Graph) -> list[KernelSource]:
    """The kernels of all groups."""
    return [kernel_source(op) for op in graph if op.name == "group"]


def test_equal_kernels_have_one_name() -> None:
    """Names of values and data of weights make no difference."""
    first, second = sources(parse_graph(TEXT))
    assert first.name == second.name
    assert first.text == second.text
    (other, _) = sources(parse_graph(TEXT.replace("mul(%s, %t)", "sub(%s, %t)")))
    assert other.name != first.name


def test_a_number_in_the_code_is_part_of_the_name() -> None:
    """Inlined constants make different kernels."""
    first, second = sources(
        parse_graph(
            TEXT.replace(
                "%t = const() {value = dense([2.0])}", "%t = const() {value = dense([3.0])}"
            )
        )
    )
    assert first.name != second.name


def test_only_data_that_is_read_is_a_weight() -> None:
    """Single numbers go into the code; shapes whose content is known are not read."""
    graph = parse_graph(TEXT)
    assert [op.result.name for op in weights_of(graph)] == ["big", "same"]


def test_symbols_that_no_input_tells_are_scalars() -> None:
    """An extent that is an input's whole dimension needs no argument of its own."""
    text = """graph @m(%x: f32[n,2*m]) -> (y: f32[n,2*m], s: i64[1]) {
      %y = relu(%x) : f32[n,2*m]
      %s = dims() {value = [n*m], shape = [1]} : i64[1]
      return %y, %s
    }"""
    graph = parse_graph(text)
    (relu,) = (op for op in graph if op.name == "relu")
    assert kernel_source(relu).scalars == ("m",)


def test_one_tensor_read_twice_is_one_input() -> None:
    """A group that got a value twice takes it once."""
    text = """graph @m(%x: f32[4]) -> (y: f32[4]) {
      %y = group(%x, %x) (%a: f32[4], %b: f32[4]) {
        %r = mul(%a, %b) : f32[4]
        return %r
      } : f32[4]
      return %y
    }"""
    (source,) = sources(parse_graph(text))
    assert len(source.inputs) == 1
    assert "mul(%0, %0)" in source.text


def test_groups_that_differ_by_a_number_left_outside_share_a_kernel() -> None:
    """Such a number is a weight, as those that products read are."""
    first = """%y = group(%x, %w, %s, %c) (%a1: f32[n,8], %b1: f32[8,8], %d1: f32[], %e1: f32[]) {
    %p1 = linear(%a1, %b1) : f32[n,8]
    %q1 = mul(%d1, %e1) : f32[]
    %r1 = mul(%p1, %q1) : f32[n,8]
    return %r1
  } : f32[n,8]"""
    second = first.replace("1", "2").replace("%y", "%z").replace("%c", "%k")
    text = f"""graph @m(%x: f32[n,8], %s: f32[]) -> (y: f32[n,8], z: f32[n,8]) {{
  %w = const() {{value = random(1)}} : f32[8,8]
  %c = const() {{value = dense([2.0])}} : f32[]
  %k = const() {{value = dense([3.0])}} : f32[]
  {first}
  {second}
  return %y, %z
}}"""
    graph = parse_graph(text)
    one, other = sources(graph)
    assert one.name == other.name
    assert [op.result.name for op in weights_of(graph)] == ["w", "c", "k"]
