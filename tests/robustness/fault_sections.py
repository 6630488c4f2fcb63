"""Sections of a model that take more than one line to write."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from onnx import NodeProto, TensorProto
from onnx import helper as h

from tests.robustness.draft import OPSET, UNDECODED, Draft
from tests.robustness.models import I64, const, function, graph, untyped, value


def loop(draft: Draft, broken: bool) -> None:
    """A loop whose carried value changes its element type."""
    if not broken:
        draft.add("Neg")
        return
    body = h.make_graph(
        [h.make_node("Identity", ["go"], ["again"]), h.make_node("Neg", ["v"], ["w"])],
        "body",
        [value("i", (), I64), value("go", (), TensorProto.BOOL), value("v", (2, 3))],
        [untyped("again"), untyped("again")],
    )
    draft.add("Loop", (draft.weight(3, np.int64), "", "x"), body=body)


def choice(
    draft: Draft, then_op: NodeProto, else_op: NodeProto, output: str = "e", *, broken: bool
) -> None:
    """A choice at run time where it is broken, else one that importing makes."""
    name = f"c of {draft.name}"
    if broken:
        draft.inputs.append(value(name, (), TensorProto.BOOL))
    else:
        draft.weights.append(const(name, True, np.bool_))
    draft.add(
        "If", (name,),
        then_branch=graph([then_op], ["t"]), else_branch=graph([else_op], [output]),
    )  # fmt: skip


def branches(draft: Draft, broken: bool) -> None:
    other = "Shape" if broken else "Neg"
    choice(
        draft, h.make_node("Relu", ["x"], ["t"]), h.make_node(other, ["x"], ["e"]), broken=broken
    )


def subgraph_output(draft: Draft, broken: bool) -> None:
    nodes = h.make_node("Relu", ["x"], ["t"]), h.make_node("Neg", ["x"], ["e"])
    choice(draft, *nodes, output="nowhere" if broken else "e", broken=broken)


def inside_a_branch(draft: Draft, broken: bool) -> None:
    inner = h.make_node("Oddity" if broken else "Neg", ["x"], ["e"], name="node in a branch")
    choice(draft, h.make_node("Relu", ["x"], ["t"]), inner, broken=broken)


def cycle(draft: Draft, broken: bool) -> None:
    draft.add("Add", ("x", "second" if broken else "x"), ("first",))
    draft.add("Relu", ("first",), ("second",), name="other of the cycle")
    draft.add("Neg", ("second",), name="after the cycle")


def twice(draft: Draft, broken: bool) -> None:
    draft.add("Relu", ("x",), ("r",), name="first of two")
    draft.add("Neg", ("x",), ("r" if broken else "s",))
    draft.add("Add", ("r", "r"), name="reader of two")


def unknown_attribute(draft: Draft, broken: bool) -> None:
    """An attribute that the operator does not have."""
    made = draft.add("LeakyRelu")
    if broken:
        made.attribute.append(h.make_attribute("beta", 1.0))


def missing_attribute(draft: Draft, broken: bool) -> None:
    """An attribute that the operator needs."""
    made = draft.add("Concat", ("x", "x"))
    if not broken:
        made.attribute.append(h.make_attribute("axis", 0))


def attribute_twice(draft: Draft, broken: bool) -> None:
    made = draft.add("LeakyRelu", alpha=0.5)
    if broken:
        made.attribute.append(h.make_attribute("alpha", 0.25))


def output_twice(draft: Draft, broken: bool) -> None:
    draft.add("Relu")
    if broken:
        draft.outputs.append(untyped(draft.y))


def input_twice(draft: Draft, broken: bool) -> None:
    for _ in range(1 + broken):
        draft.inputs.append(value("doubled input", (2,)))
    draft.add("Relu", ("doubled input",))


def weight_twice(draft: Draft, broken: bool) -> None:
    for _ in range(1 + broken):
        draft.weight([1.0])
    draft.add("Add", ("x", draft.weights[-1].name))


def conv(draft: Draft, channels: int, **attributes: Any) -> None:
    draft.inputs.append(value(f"image of {draft.name}", (1, 4, 8, 8)))
    weight = draft.weight(np.ones((2, channels, 3, 3)))
    draft.add("Conv", (f"image of {draft.name}", weight), **attributes)


def declared_output(draft: Draft, broken: bool) -> None:
    draft.add("Relu", outputs=(draft.y,))
    draft.outputs.append(value(draft.y, (2, 4) if broken else (2, 3)))


def an_input(draft: Draft, extent: int) -> None:
    draft.inputs.append(value(f"input of {draft.name}", (extent,)))
    draft.add("Relu", (f"input of {draft.name}",))


def link(draft: Draft, broken: bool) -> None:
    link = draft.folder / "link.bin"
    link.unlink(missing_ok=True)
    link.symlink_to(draft.folder.parent / "outside.bin" if broken else draft.folder / "data.bin")
    draft.external("link.bin")


def call_of(
    draft: Draft, nodes: Sequence[NodeProto], opset: int = OPSET, inputs: Sequence[str] = ("x",)
) -> None:
    name = draft.name.title().replace(" ", "")
    made = function(name, nodes)
    made.opset_import[0].version = opset
    draft.functions.append(made)
    draft.domains["local"] = 1
    draft.add(name, inputs, domain="local")


def recursion(draft: Draft, broken: bool) -> None:
    op, domain = ("Recursion", "local") if broken else ("Relu", "")
    call_of(draft, [h.make_node(op, ["a"], ["b"], domain=domain)])


def old_in_function(draft: Draft, broken: bool) -> None:
    call_of(draft, [h.make_node("Relu", ["a"], ["b"], name="old node")], 3 if broken else OPSET)


def not_text(draft: Draft, broken: bool) -> None:
    draft.inputs.append(value("blocks", (1, 4, 2, 2)))
    made = draft.add("DepthToSpace", ("blocks",), blocksize=2)
    made.attribute.append(h.make_attribute("mode", UNDECODED if broken else "DCR"))


def name_not_text(draft: Draft, broken: bool) -> None:
    draft.add("Relu", outputs=(UNDECODED if broken else "inner",))
    draft.add("Neg", (UNDECODED if broken else "inner",), name="reader of no text")


def sparse(draft: Draft, broken: bool) -> None:
    values = const(f"w of {draft.name}", [1.0], np.float32)
    indices = const("indices", [7 if broken else 2])
    draft.sparse.append(h.make_sparse_tensor(values, indices, [3]))
    draft.add("Add", ("x", values.name))


def ir_version(draft: Draft, broken: bool) -> None:
    draft.ir_version = 9999 if broken else 10


def fed_by_failed(draft: Draft, broken: bool) -> None:
    """A fault of a node's own is told though what it reads cannot be known either."""
    draft.add("Relu" if not broken else "LeakyRelu", ("y of unknown operator",))
    if broken:
        draft.nodes[-1].attribute.append(h.make_attribute("gamma", 1))
