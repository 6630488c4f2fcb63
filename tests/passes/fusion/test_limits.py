"""Groups stay within what the target's kernels can hold, and each operation is in exactly one."""

from __future__ import annotations

from collections import Counter

from leptonc.ir.graph import Graph, Op
from leptonc.ir.text import parse_graph
from leptonc.ir.verify import verify
from leptonc.passes.context import PassContext
from leptonc.passes.fusion.group_operations import GroupOperations
from leptonc.passes.fusion.limits import FusionLimits

OUTSIDE = ("const", "dims", "return", "group")


def chain(length: int) -> Graph:
    """Additions of as many inputs."""
    inputs = ", ".join(f"%x{i}: f32[4]" for i in range(length + 1))
    lines = ["  %s0 = add(%x0, %x1) : f32[4]"]
    lines += [f"  %s{i} = add(%s{i - 1}, %x{i + 1}) : f32[4]" for i in range(1, length)]
    body = "\n".join(lines)
    return parse_graph(
        f"graph @g({inputs}) -> (y: f32[4]) {{\n{body}\n  return %s{length - 1}\n}}\n"
    )


def grouped(graph: Graph, limits: FusionLimits) -> list[list[str]]:
    """The names of the operations in each group."""
    GroupOperations().run(graph, PassContext(facts={FusionLimits: limits}))
    verify(graph)
    assert all(op.name in OUTSIDE for op in graph)
    return [inside(op) for op in graph if op.name == "group"]


def inside(group: Op) -> list[str]:
    return [op.name for op in group.regions[0] if op.name not in OUTSIDE]


def test_groups_hold_as_many_operations_as_allowed() -> None:
    groups = grouped(chain(10), FusionLimits(max_ops=4))
    assert Counter(map(len, groups)) == {4: 2, 2: 1}


def test_groups_read_as_many_tensors_as_allowed() -> None:
    graph = chain(10)
    groups = grouped(graph, FusionLimits(max_inputs=4))
    assert sum(map(len, groups)) == 10
    assert max(len(op.operands) for op in graph if op.name == "group") == 4


PRODUCT = """graph @g(%x: f32[2,3], %w: f32[3,3]) -> (y: f32[2,3]) {
  %a = exp(%x) : f32[2,3]
  %m = matmul(%a, %w) : f32[2,3]
  %s = softmax(%m) : f32[2,3]
  %y = relu(%s) : f32[2,3]
  return %y
}
"""


def test_opaque_operations_take_nothing_in() -> None:
    groups = grouped(parse_graph(PRODUCT), FusionLimits(opaque=frozenset({"softmax"})))
    assert groups == [["exp"], ["matmul"], ["softmax"], ["relu"]]


def test_closed_operations_take_no_epilogue() -> None:
    groups = grouped(parse_graph(PRODUCT), FusionLimits(closed=frozenset({"softmax"})))
    assert groups == [["exp"], ["matmul"], ["softmax"], ["relu"]]
    assert grouped(parse_graph(PRODUCT), FusionLimits())[-1] == ["softmax", "relu"]


def test_without_fusion_each_operation_is_a_group() -> None:
    graph = parse_graph(PRODUCT)
    GroupOperations(fuse=False).run(graph, PassContext())
    assert [inside(op) for op in graph if op.name == "group"] == [
        ["exp"],
        ["matmul"],
        ["softmax"],
        ["relu"],
    ]


def test_repeated_cheap_work_is_bounded() -> None:
    lines = ["  %b0 = neg(%b) : f32[4]"]
    lines += [f"  %b{i} = neg(%b{i - 1}) : f32[4]" for i in range(1, 8)]
    graph = parse_graph(
        "graph @g(%x: f32[9,4], %b: f32[4]) -> (y: f32[9,4]) {\n"
        + "\n".join(lines)
        + "\n  %y = add(%x, %b7) : f32[9,4]\n  return %y\n}\n"
    )
    groups = grouped(graph, FusionLimits(max_repeated=3))
    assert groups == [["neg"] * 5, ["neg"] * 3 + ["add"]]
