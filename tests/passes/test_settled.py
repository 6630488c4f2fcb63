"""A second run of the pipeline changes nothing, on graphs where one once did."""

from __future__ import annotations

import pytest

from leptonc.ir.text import parse_graph, print_graph
from leptonc.passes.base import parse_pipeline
from leptonc.passes.check_numbers import CheckNumbers
from leptonc.passes.manager import PassManager
from leptonc.passes.observers import VerifyEach
from leptonc.passes.registry import Registry
from leptonc.pipelines import OPTIMIZE

GRAPHS = {
    "an inner loop of as many turns as the outer one has had": """
graph @g(%x: f32[4]) -> (y: f32[4]) {
  %n = const() {value = dense([3])} : i64[]
  %z = loop(max_trip=%n, carried=%x) (%i: i64[], %go: bool[], %p: f32[4]) {
    %q = loop(max_trip=%i, carried=%p) (%j: i64[], %on: bool[], %r: f32[4]) {
      %f = cast(%j) {to = f32} : f32[]
      %s = mul(%r, %f) : f32[4]
      return %on, %s
    } : f32[4]
    return %go, %q
  } : f32[4]
  return %z
}
""",
    "a loop small enough to unroll without what is the same in each turn": """
graph @g(%x: f32[4], %w: f32[4]) -> (y: f32[4]) {
  %n = const() {value = dense([5])} : i64[]
  %y = loop(max_trip=%n, carried=%x) (%i: i64[], %go: bool[], %p: f32[4]) {
    %d = div(%w, %x) : f32[4]
    %r = exp(%d) : f32[4]
    %s = tanh(%p) : f32[4]
    %t = add(%s, %r) : f32[4]
    %u = mul(%t, %d) : f32[4]
    %h = sub(%u, %w) : f32[4]
    return %go, %h
  } : f32[4]
  return %y
}
""",
    "a sum of constants that are the same everywhere": """
graph @g(%x: f32[3]) -> (y: f32[3], z: f32[3]) {
  %a = const() {value = dense([2.0, 2.0, 2.0])} : f32[3]
  %b = const() {value = dense([64.0])} : f32[]
  %s = add(%a, %x) : f32[3]
  %t = add(%s, %b) : f32[3]
  return %t, %a
}
""",
    "a transpose that only a view kept where it was": """
graph @g(%x: f32[4,6]) -> (y: f32[6,4]) {
  %t = transpose(%x) : f32[6,4]
  %row = const() {value = dense([1.0, 2.0, 3.0, 4.0])} : f32[4]
  %shape = const() {value = dense([2, 3, 4])} : i64[3]
  %back = const() {value = dense([6, 4])} : i64[2]
  %a = reshape(%t, %shape) : f32[2,3,4]
  %b = mul(%a, %row) : f32[2,3,4]
  %c = reshape(%b, %back) : f32[6,4]
  return %c
}
""",
    "a transpose that only an expand kept where it was": """
graph @g(%x: f32[1,1], %z: f32[3,2]) -> (y: f32[2,3]) {
  %shape = const() {value = dense([2, 3])} : i64[2]
  %e = expand(%x, %shape) : f32[2,3]
  %a = transpose(%e) : f32[3,2]
  %b = add(%a, %z) : f32[3,2]
  %s = transpose(%b) : f32[2,3]
  return %s
}
""",
    "views and expands in turn before a function of each element": """
graph @g(%x: f32[n,2,3]) -> (y: f32[n,2,12]) {
  %s = const() {value = dense([-1, 2, 3, 1])} : i64[4]
  %e = const() {value = dense([1, 1, 1, 2])} : i64[4]
  %t = const() {value = dense([-1, 2, 6, 1])} : i64[4]
  %u = const() {value = dense([-1, 2, 12])} : i64[3]
  %a = reshape(%x, %s) : f32[n,2,3,1]
  %b = expand(%a, %e) : f32[n,2,3,2]
  %c = reshape(%b, %t) : f32[n,2,6,1]
  %d = expand(%c, %e) : f32[n,2,6,2]
  %y = reshape(%d, %u) : f32[n,2,12]
  %r = relu(%y) : f32[n,2,12]
  return %r
}
""",
    "a product that something dead reads": """
graph @g(%x: f32[2,3]) -> (y: f32[2,3]) {
  %w = const() {value = random(1)} : f32[3,3]
  %f = const() {value = dense([0.25, 0.5, 3.0])} : f32[3]
  %p = matmul(%x, %w) : f32[2,3]
  %d = exp(%p) : f32[2,3]
  %y = mul(%p, %f) : f32[2,3]
  return %y
}
""",
    "a difference behind views of which nothing is left": """
graph @g(%x: f32[3], %z: f32[3]) -> (y: f32[3,1]) {
  %shape = const() {value = dense([-1, 3])} : i64[2]
  %zero = const() {value = dense([0.0])} : f32[1]
  %d = sub(%x, %z) : f32[3]
  %r = reshape(%d, %shape) : f32[1,3]
  %t = transpose(%r) : f32[3,1]
  %y = sub(%zero, %t) : f32[3,1]
  return %y
}
""",
    "a factor behind an einsum of a constant": """
graph @g(%x: f32[2,3,2,4]) -> (y: f32[2,2,3,3]) {
  %w = const() {value = random(2)} : f32[2,3,2,4]
  %half = const() {value = dense([0.5])} : f32[]
  %s = einsum(%w, %x) {equation = "bthd,bshd->bhts"} : f32[2,2,3,3]
  %d = mul(%s, %half) : f32[2,2,3,3]
  %p = softmax(%d) : f32[2,2,3,3]
  return %p
}
""",
    "a norm of a group whose transposes move nothing": """
graph @g(%x: f32[2,5,6,1]) -> (y: f32[2,5,6,1]) {
  %axes = const() {value = dense([1, 2])} : i64[2]
  %eps = const() {value = splat(1e-05)} : f32[]
  %m = reduce_mean(%x, axes=%axes) : f32[2,1,1,1]
  %d = sub(%x, %m) : f32[2,5,6,1]
  %q = mul(%d, %d) : f32[2,5,6,1]
  %v = reduce_mean(%q, axes=%axes) : f32[2,1,1,1]
  %e = add(%v, %eps) : f32[2,1,1,1]
  %s = sqrt(%e) : f32[2,1,1,1]
  %r = div(%d, %s) : f32[2,5,6,1]
  %g = const() {value = dense([0.25])} : f32[1]
  %t = mul(%g, %r) : f32[2,5,6,1]
  return %t
}
""",
    "a branch of little work once it is no longer real": """
graph @g(%x: u8[2,3], %c: bool[], %other: u8[3,2]) -> (y: u8[3,2]) {
  %y = if(%c) () {
    %s = const() {value = splat(0.03)} : f32[]
    %z = const() {value = splat(128)} : u8[]
    %d = dequantize_linear(%x, %s, x_zero_point=%z) : f32[2,3]
    %t = transpose(%d) {perm = [1, 0]} : f32[3,2]
    %q = quantize_linear(%t, %s, y_zero_point=%z) : u8[3,2]
    return %q
  } () {
    return %other
  } : u8[3,2]
  return %y
}
""",
    "a product that nothing but turns of a loop read before": """
graph @g(%x: f32[4,5]) -> (y: f32[4,3]) {
  %w = const() {value = random(1)} : f32[5,3]
  %m = matmul(%x, %w) : f32[4,3]
  %n = const() {value = dense([3])} : i64[]
  %last, %y = loop(max_trip=%n, carried=%m, carried=%m) (
    %i: i64[], %go: bool[], %p: f32[4,3], %o: f32[4,3]
  ) {
    %one = const() {value = dense([1.0])} : f32[]
    %s = add(%p, %one) : f32[4,3]
    %t = neg(%p) : f32[4,3]
    return %go, %t, %s
  } : f32[4,3], f32[4,3]
  return %y
}
""",
    "a divisor of -1 behind moves of a product": """
graph @g(%x: f32[2,3,4,4]) -> (y: f32[5,16,2]) {
  %w = const() {value = random(1)} : f32[5,3,1,1]
  %s = const() {value = dense([-1.0, -1.0, -1.0, -1.0, -1.0])} : f32[5]
  %shape = const() {value = dense([2, 5, 16])} : i64[3]
  %c = conv(%x, %w) : f32[2,5,4,4]
  %r = reshape(%c, %shape) : f32[2,5,16]
  %t = transpose(%r) {perm = [0, 2, 1]} : f32[2,16,5]
  %d = div(%t, %s) : f32[2,16,5]
  %y = transpose(%d) : f32[5,16,2]
  return %y
}
""",
    "a carried value that only an inner loop of no turns reads": """
graph @g(%x: f32[4], %on: bool[]) -> (y: f32[4]) {
  %n = const() {value = dense([2])} : i64[]
  %none = const() {value = dense([0])} : i64[]
  %y, %z = loop(max_trip=%n, carried=%x, carried=%x, cond=%on) (
    %i: i64[], %go: bool[], %p: f32[4], %q: f32[4]) {
    %r = loop(max_trip=%none, carried=%p) (%j: i64[], %do: bool[], %s: f32[4]) {
      %t = add(%s, %q) : f32[4]
      return %do, %t
    } : f32[4]
    %u = tanh(%r) : f32[4]
    %v = neg(%u) : f32[4]
    return %go, %u, %v
  } : f32[4], f32[4]
  return %y
}
""",
    "a remainder of numbers whose limits a choice hid": """
graph @g(%x: i32[3], %on: bool[]) -> (y: i32[3]) {
  %low = const() {value = dense([0])} : i32[]
  %high = const() {value = dense([3])} : i32[]
  %seven = const() {value = dense([7])} : i32[]
  %c = clip(%x, min=%low, max=%high) : i32[3]
  %z = if(%on) () {
    %a = identity(%c) : i32[3]
    return %a
  } () {
    %b = add(%c, %high) : i32[3]
    return %b
  } : i32[3]
  %y = mod(%z, %seven) : i32[3]
  return %y
}
""",
}


@pytest.mark.parametrize("name", GRAPHS)
def test_a_second_run_changes_nothing(name: str) -> None:
    graph = parse_graph(GRAPHS[name], "settled")
    passes = parse_pipeline(OPTIMIZE[2], Registry([]))
    PassManager(passes, [VerifyEach(), CheckNumbers.on_random_inputs(graph)]).run(graph)
    once = print_graph(graph)
    PassManager(passes).run(graph)
    assert print_graph(graph) == once
