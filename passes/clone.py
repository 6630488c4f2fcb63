"""Copies of operations, regions and graphs; the data of constants is shared, not copied."""

from __future__ import annotations

from leptonc.ir.graph import Graph, Op, Region, Value


def clone_value(value: Value) -> Value:
    """A value of the same type, name and content that nothing defines yet."""
    copy = Value(value.type, value.name)
    copy.content = value.content
    return copy


def clone_op(op: Op, values: dict[Value, Value]) -> Op:
    """A detached copy that reads `values[operand]`, or the operand itself where that is missing.

    The results of the copy are added to `values`.
    """
    copy = Op(
        op.definition,
        [values.get(operand, operand) for operand in op.operands],
        [result.type for result in op.results],
        operand_names=op.operand_names,
        attrs=op.attrs,
        regions=[clone_region(region, values) for region in op.regions],
        location=op.location,
    )
    for old, new in zip(op.results, copy.results, strict=True):
        new.name, new.content = old.name, old.content
        values[old] = new
    return copy


def clone_region(region: Region, values: dict[Value, Value]) -> Region:
    """A detached copy of a region with inputs of its own."""
    inputs = [clone_value(value) for value in region.inputs]
    values.update(zip(region.inputs, inputs, strict=True))
    copy = Region(inputs)
    for op in region:
        copy.append(clone_op(op, values))
    return copy


def clone_graph(graph: Graph) -> Graph:
    """An equal graph that shares nothing with this one but the data of its constants."""
    inputs = [clone_value(value) for value in graph.inputs]
    copy = Graph(graph.name, inputs, graph.output_names)
    copy.metadata = dict(graph.metadata)
    copy.reserve_dims(graph._fresh)  # pyright: ignore[reportPrivateUsage]
    values = dict(zip(graph.inputs, inputs, strict=True))
    for op in graph:
        copy.append(clone_op(op, values))
    return copy
