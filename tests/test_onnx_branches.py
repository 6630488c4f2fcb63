"""If nodes of which one branch alone can be compiled for: it is, and the other ends a run."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto
from onnx import helper as h

import leptonc
from leptonc.ir.diagnostics import LeptonError
from leptonc.ir.graph import Graph
from leptonc.ir.interpret import interpret
from leptonc.ir.verify import verify
from leptonc.onnx_import import ImportNotice, import_model
from tests.robustness.models import F32, const, model, node, untyped, value

BOOL = TensorProto.BOOL


def branch(*nodes: onnx.NodeProto) -> onnx.GraphProto:
    """A branch that gives what its last node does."""
    return h.make_graph(nodes, "branch", [], [untyped(nodes[-1].output[0])])


def either(
    condition: str, result: str, then: onnx.GraphProto, other: onnx.GraphProto
) -> onnx.NodeProto:
    """An If."""
    return node("If", (condition,), (result,), then_branch=then, else_branch=other)


def ones(name: str, *shape: int) -> TensorProto:
    """A weight."""
    return const(name, np.ones(shape), np.float32)


def names_of(graph: Graph) -> list[str]:
    """What the graph does, constants aside."""
    return [op.name for op in graph if op.name not in ("const", "dims")]


def squeezed_if_one(follow: list[onnx.NodeProto], *, after: str = "y") -> onnx.ModelProto:
    """The last axis of x is taken away if it has one element; `follow` reads it as `s`."""
    nodes = [
        node("Shape", ("x",), ("shape",)),
        node("Gather", ("shape", "last"), ("extent",), axis=0),
        node("Equal", ("extent", "one"), ("is_one",)),
        either(
            "is_one", "s",
            branch(node("Squeeze", ("x", "last"), ("t",))),
            branch(node("Identity", ("x",), ("e",))),
        ),
        *follow,
    ]  # fmt: skip
    constants = [const("last", [-1]), const("one", [1]), ones("w", 3, 2)]
    return model(
        nodes, inputs=[value("x", ("n", 3, "l"))], outputs=[untyped(after)], initializers=constants
    )


X = np.arange(6, dtype=np.float32).reshape(2, 3, 1)
TOO_LONG = np.zeros((2, 3, 4), np.float32)


def test_what_follows_tells_which_rank_is_meant() -> None:
    """Gemm takes matrices only; the branch that keeps the axis ends a run, compiled or not."""
    source = squeezed_if_one([node("Gemm", ("s", "w"), ("y",))])
    graph = import_model(source)
    verify(graph)
    assert "if" not in names_of(graph)
    expected = np.repeat(X[:, :, 0].sum(1, keepdims=True), 2, 1)
    np.testing.assert_allclose(interpret(graph, {"x": X})["y"], expected)
    with pytest.raises(LeptonError, match="a run needs the else branch"):
        interpret(graph, {"x": TOO_LONG})
    with leptonc.compile(source, threads=1, isolated=False) as session:
        np.testing.assert_allclose(session.run({"x": X})["y"], expected)
        with pytest.raises(LeptonError, match="a run needs the else branch") as caught:
            session.run({"x": TOO_LONG})
    assert caught.value.location.nodes == ("If_3",)


def test_the_second_branch_may_be_the_one() -> None:
    """What follows wants the axis: extents other than one."""
    source = squeezed_if_one([node("Conv", ("s", "k"), ("y",))])
    source.graph.initializer.append(ones("k", 1, 3, 1))
    graph = import_model(source)
    verify(graph)
    assert interpret(graph, {"x": TOO_LONG})["y"].shape == (2, 1, 4)
    with pytest.raises(LeptonError, match="a run needs the then branch"):
        interpret(graph, {"x": X})


def test_choices_depend_on_each_other() -> None:
    """Only one of four ways through the model is fit."""
    again = either(
        "is_one", "t2",
        branch(node("Gemm", ("s", "w"), ("t",))),
        branch(node("Unsqueeze", ("s", "last"), ("e",))),
    )  # fmt: skip
    source = squeezed_if_one([again, node("Gemm", ("t2", "v"), ("y",))])
    source.graph.initializer.append(ones("v", 2, 2))
    graph = import_model(source)
    verify(graph)
    assert interpret(graph, {"x": X})["y"].shape == (2, 2)


def test_where_both_ranks_fit_neither_is_chosen() -> None:
    with pytest.raises(LeptonError, match="from one branch and from the other") as caught:
        import_model(squeezed_if_one([node("Relu", ("s",), ("y",))]))
    assert caught.value.code == "E103"
    assert "--dim" in caught.value.notes[-1]


def test_where_no_rank_fits_neither_is_chosen() -> None:
    with pytest.raises(LeptonError, match="from one branch and from the other"):
        import_model(squeezed_if_one([node("Gemm", ("s", "last"), ("y",))]))


def reshaping(*, turned: bool) -> onnx.ModelProto:
    """By an input, six or eight elements are seen as two rows; one of them cannot be."""
    branches = [
        branch(node("Reshape", ("x", shape), (f"{shape}_y",))) for shape in ("three", "four")
    ]
    return model(
        [node("Relu", ("z",), ("zz",)), either("c", "y", *branches[:: -1 if turned else 1])],
        inputs=[value("c", (), BOOL), value("x", ("l",)), value("z", (1,))],
        outputs=[untyped("y")],
        initializers=[const("three", [2, 3]), const("four", [2, 4])],
    )


@pytest.mark.parametrize("turned", [False, True])
def test_a_branch_that_no_run_could_take_is_left_out(turned: bool) -> None:
    """A run that asks for it ends with the reason, compiled or not; others are not hindered."""
    source, x = reshaping(turned=turned), np.arange(6, dtype=np.float32)
    assert "if" in names_of(import_model(source))
    name = "then" if turned else "else"
    with pytest.warns(ImportNotice, match=f"the {name} branch of 'If_1' cannot run"):
        graph = import_model(source, {"l": 6})
    verify(graph)
    assert "if" not in names_of(graph)
    good, bad, z = np.array(not turned), np.array(turned), np.zeros(1, np.float32)
    assert interpret(graph, {"c": good, "x": x, "z": z})["y"].shape == (2, 3)
    with pytest.raises(LeptonError, match=f"a run needs the {name} branch, which cannot run"):
        interpret(graph, {"c": bad, "x": x, "z": z})
    with leptonc.compile(graph, threads=1, isolated=False) as session:
        given = {"c": good, "x": x, "z": z}
        assert session.run(given)["y"].shape == (2, 3)
        with pytest.raises(LeptonError, match=f"a run needs the {name} branch, which cannot run"):
            session.run({**given, "c": bad})


def test_both_branches_wrong_are_both_told() -> None:
    with pytest.raises(LeptonError, match="the model has 2 problems"):
        import_model(reshaping(turned=False), {"l": 7})


def test_an_unknown_operator_is_no_reason_to_leave_a_branch_out() -> None:
    source: Any = model(
        [either("c", "y", branch(node("Relu", ("x",), ("t",))),
                branch(node("Imagined", ("x",), ("e",))))],
        inputs=[value("c", (), BOOL), value("x", (2,), F32)], outputs=[untyped("y")],
    )  # fmt: skip
    with pytest.raises(LeptonError, match="cannot be imported"):
        import_model(source)
