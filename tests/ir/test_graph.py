"""The graph keeps its order, its use lists and its count right by construction."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from leptonc.ir.build import Builder
from leptonc.ir.diagnostics import LeptonBug, LeptonError
from leptonc.ir.graph import Graph, Op, Use, Value
from leptonc.ir.table import RETURN
from leptonc.ir.text import parse_graph, print_graph
from leptonc.ir.types import DType, TensorType
from leptonc.ir.verify import Verifier, verify

VECTOR = TensorType(DType.F32, (4,))


def chain(length: int) -> tuple[Graph, list[Op]]:
    """A line of relus."""
    graph = Graph("chain", [Value(VECTOR, "x")], ["y"])
    build = Builder(graph)
    value, ops = graph.inputs[0], list[Op]()
    for _ in range(length):
        value = build.relu(value)
        assert value.producer is not None
        ops.append(value.producer)
    build.return_(value)
    return graph, ops


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.sampled_from("ier"), st.integers(0, 30)), max_size=25))
def test_any_edits_keep_order_and_count(edits: list[tuple[str, int]]) -> None:
    """Insertions, removals and moves agree with a plain list."""
    graph, ops = chain(5)
    model: list[Op] = [*ops, graph.terminator]
    for kind, number in edits:
        at = number % (len(model) - 1) if len(model) > 1 else 0
        anchor = model[at]
        if kind == "i":
            build = Builder(graph, before=anchor)
            made = build.relu(graph.inputs[0]).producer
            assert made is not None
            model.insert(at, made)
        elif kind == "e" and anchor is not graph.terminator:
            for result in anchor.results:
                result.replace_uses_with(graph.inputs[0])
            graph.erase(anchor)
            model.remove(anchor)
        elif anchor is not graph.terminator:
            other = model[number * 7 % len(model)]
            if other is not anchor:
                graph.move_before(other, anchor)
                model.remove(anchor)
                model.insert(model.index(other), anchor)
        assert list(graph) == model
        assert list(reversed(graph)) == model[::-1]
        assert len(graph) == len(model)


def test_iteration_leaves_out_what_is_erased_on_the_way() -> None:
    """A walk over a graph that it changes sees every operation that still stands."""
    graph, ops = chain(3)
    seen: list[Op] = []
    for op in graph:
        seen.append(op)
        if op is ops[0]:
            ops[1].results[0].replace_uses_with(ops[0].results[0])
            graph.erase(ops[1])
    assert ops[1] not in seen
    assert ops[2] in seen


def test_each_change_grows_the_version() -> None:
    """A driver can tell a change without asking."""
    graph, ops = chain(2)
    version = graph.version
    ops[1].set_operand(0, graph.inputs[0])
    assert graph.version > version
    version = graph.version
    ops[0].set_attr("note", 1)
    assert graph.version > version


def test_a_value_that_is_read_cannot_go() -> None:
    """Erasing it is a bug of whoever asked."""
    graph, ops = chain(2)
    with pytest.raises(LeptonBug, match="still read"):
        graph.erase(ops[0])


def test_a_stale_use_list_is_found() -> None:
    """The verifier names the operation whose operand does not know its reader."""
    graph, ops = chain(2)
    ops[0].result._uses.pop(Use(ops[1], 0))  # pyright: ignore[reportPrivateUsage]
    with pytest.raises(LeptonError, match="use list of relu's operand 0 is stale") as error:
        verify(graph)
    assert error.value.code == "E204"


def test_a_use_before_its_definition_is_found() -> None:
    """The verifier names the operand."""
    graph, ops = chain(2)
    graph.move_before(ops[0], ops[1])
    with pytest.raises(LeptonError, match="read before it is defined") as error:
        verify(graph)
    assert error.value.code == "E203"


def test_a_wrong_type_is_found() -> None:
    """The verifier tells both types."""
    graph, ops = chain(1)
    ops[0].result.type = TensorType(DType.F32, (5,))
    with pytest.raises(LeptonError, match=r"declared f32\[5\] but computes f32\[4\]") as error:
        verify(graph)
    assert error.value.code == "E206"


CHANGES: dict[str, Callable[[Op], None]] = {
    "result": lambda op: setattr(op.result, "type", TensorType(DType.F32, (5,))),
    "type of an operand": lambda op: setattr(op.operands[0], "type", TensorType(DType.F32, (3, 2))),
    "operand": lambda op: op.set_operand(0, op.operands[1]),
    "attribute": lambda op: op.set_attr("axis", 1),
}


@pytest.mark.parametrize("change", list(CHANGES))
def test_a_verifier_looks_again_at_what_changed(change: str) -> None:
    """What was right in the last call is inferred again once it differs."""
    graph = parse_graph("""graph @m(%a: f32[2,3], %b: f32[4,3]) -> (y: f32[6,3]) {
      %y = concat(%a, %b) {axis = 0} : f32[6,3]
      return %y
    }""")
    verifier = Verifier()
    for _ in range(2):
        verifier.verify(graph)
    (op,) = (op for op in graph if op.name == "concat")
    CHANGES[change](op)
    for _ in range(2):
        with pytest.raises(LeptonError):
            verifier.verify(graph)


def test_a_region_without_return_is_found() -> None:
    """Nothing passes for a graph without an end."""
    graph = Graph("open", [Value(VECTOR, "x")], ["y"])
    Builder(graph).relu(graph.inputs[0])
    with pytest.raises(LeptonError, match="does not end in return") as error:
        verify(graph)
    assert error.value.code == "E201"
    graph.append(Op(RETURN, [], ()))
    with pytest.raises(LeptonError, match="names 1 outputs and returns 0") as error:
        verify(graph)
    assert error.value.code == "E202"


def test_contents_of_shapes_are_tracked() -> None:
    """Shape, gather, concat and reshape with symbols give the type that a person would write."""
    graph = parse_graph("""graph @m(%x: f32[batch,seq,768]) -> (y: f32[batch,seq,12,64]) {
      %zero = const() {value = dense([0, 1])} : i64[2]
      %rest = const() {value = dense([12, -1])} : i64[2]
      %shape = shape(%x) : i64[3]
      %lead = gather(%shape, %zero) : i64[2]
      %full = concat(%lead, %rest) {axis = 0} : i64[4]
      %y = reshape(%x, %full) : f32[batch,seq,12,64]
      return %y
    }""")
    verify(graph)


def test_shape_arithmetic_gives_exact_extents() -> None:
    """The builder infers -1 from a quotient of products."""
    graph = parse_graph(
        "graph @m(%x: f32[batch,2*seq,768]) -> (y: f32[batch,2*seq,768]) {\n  return %x\n}"
    )
    build = Builder(graph, before=graph.terminator)
    shape = build.const(np.array([0, -1, 384], np.int64))
    assert str(build.reshape(graph.inputs[0], shape).type) == "f32[batch,4*seq,384]"
    assert "4*seq" in print_graph(graph)
