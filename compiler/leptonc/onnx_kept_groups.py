"""Sequences and optionals of a model's boundary, put around the tensors that they became.

The signature is that of the original: sequences are taken apart behind the inputs, and put together
before the outputs. What each is said to be is copied, docs and metadata included.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
import onnx
from onnx import AttributeProto, GraphProto, NodeProto, ValueInfoProto, numpy_helper

from leptonc.groups import Groups, element
from leptonc.ir.diagnostics import LeptonError, shown

OPTIONALS_SINCE = 15


def keep_groups(model: onnx.ModelProto, original: onnx.ModelProto, groups: Groups) -> None:
    """Give `model` the inputs and outputs of `original`, where some are no tensors."""
    if not any(map(_is_group, (*original.graph.input, *original.graph.output))):
        return
    _Keeper(model, groups).run(original.graph)


def _is_group(item: ValueInfoProto) -> bool:
    kind = item.type.WhichOneof("value")
    is_map = item.type.sequence_type.elem_type.HasField("map_type")
    return kind in ("sequence_type", "optional_type") and not is_map


class _Keeper:
    def __init__(self, model: onnx.ModelProto, groups: Groups) -> None:
        self.graph, self.groups = model.graph, groups
        self.opset = next(item.version for item in model.opset_import if not item.domain)
        self.taken = {name for node in self.graph.node for name in (*node.input, *node.output)}
        self.taken |= {item.name for item in (*self.graph.input, *self.graph.initializer)}
        self.first: list[NodeProto] = []
        self.last: list[NodeProto] = []

    def run(self, original: GraphProto) -> None:
        graph = self.graph
        inputs = [self._input(item) for item in original.input if self._is_there(item)]
        outputs = [self._output(item) for item in original.output]
        nodes = [*self.first, *graph.node, *self.last]
        for field, items in ((graph.input, inputs), (graph.output, outputs), (graph.node, nodes)):
            copies = [type(item).FromString(item.SerializeToString()) for item in items]
            del field[:]
            field.extend(copies)  # pyright: ignore[reportArgumentType] - each of its own kind

    def _is_there(self, item: ValueInfoProto) -> bool:
        """False for constants that older models list as inputs."""
        return _is_group(item) or any(item.name == ours.name for ours in self.graph.input)

    def _input(self, item: ValueInfoProto) -> ValueInfoProto:
        if not _is_group(item):
            return next(ours for ours in self.graph.input if ours.name == item.name)
        if item.name not in self.groups.inputs:
            self._present(item)
            return item
        length, source = self.groups.inputs[item.name], item.name
        if item.type.HasField("optional_type"):
            self._need_optionals(item)
            if length:
                source = self._fresh(f"{item.name}_sequence")
                self._before("OptionalGetElement", [item.name], source)
        for index in range(length or 0):
            place = self._fresh(f"{item.name}_place")
            self.graph.initializer.append(numpy_helper.from_array(np.array(index), place))
            self._before("SequenceAt", [source, place], element(item.name, index))
        return item

    def _present(self, item: ValueInfoProto) -> None:
        """An optional that a run gives: the tensor in it goes by another name inside."""
        self._need_optionals(item)
        inner = self._fresh(f"{item.name}_tensor")
        _rename(self.graph, {item.name: inner})
        self._before("OptionalGetElement", [item.name], inner)

    def _output(self, item: ValueInfoProto) -> ValueInfoProto:
        if not _is_group(item):
            return next(ours for ours in self.graph.output if ours.name == item.name)
        optional = item.type.HasField("optional_type")
        if item.name not in self.groups.outputs:
            self._need_optionals(item)
            inner = self._fresh(f"{item.name}_tensor")
            _rename(self.graph, {item.name: inner})
            self._after("Optional", [inner], item.name)
            return item
        length = self.groups.outputs[item.name]
        if length is None:
            self._need_optionals(item)
            made = self._after("Optional", [], item.name)
            kind = made.attribute.add(name="type", type=AttributeProto.TYPE_PROTO)
            kind.tp.CopyFrom(item.type.optional_type.elem_type)
            return item
        sequence = self._fresh(f"{item.name}_sequence") if optional else item.name
        self._sequence(item, length, sequence)
        if optional:
            self._need_optionals(item)
            self._after("Optional", [sequence], item.name)
        return item

    def _sequence(self, item: ValueInfoProto, length: int, name: str) -> None:
        if length:
            parts = [element(item.name, index) for index in range(length)]
            self._after("SequenceConstruct", parts, name)
            return
        kind = item.type.optional_type.elem_type if name != item.name else item.type
        made = self._after("SequenceEmpty", [], name)
        dtype = kind.sequence_type.elem_type.tensor_type.elem_type
        made.attribute.add(name="dtype", type=AttributeProto.INT, i=dtype)

    def _need_optionals(self, item: ValueInfoProto) -> None:
        if self.opset < OPTIONALS_SINCE:
            raise LeptonError(
                f"{shown(item.name)} is optional, which needs opset {OPTIONALS_SINCE}, "
                f"not {self.opset}",
                code="E022",
            )

    def _fresh(self, wanted: str) -> str:
        name, count = wanted, 2
        while name in self.taken:
            name, count = f"{wanted}_{count}", count + 1
        self.taken.add(name)
        return name

    def _before(self, op_type: str, operands: Iterable[str], result: str) -> None:
        node = NodeProto(op_type=op_type, name=f"{op_type}_{result}", output=[result])
        node.input.extend(operands)
        self.first.append(node)

    def _after(self, op_type: str, operands: Iterable[str], result: str) -> NodeProto:
        node = NodeProto(op_type=op_type, name=f"{op_type}_{result}", output=[result])
        node.input.extend(operands)
        self.last.append(node)
        return node


def _rename(graph: GraphProto, names: Mapping[str, str]) -> None:
    """Call values by other names wherever they are read or made, inner graphs included."""
    waiting = [graph]
    while waiting:
        part = waiting.pop()
        for node in part.node:
            for field in (node.input, node.output):
                for at, name in enumerate(field):
                    field[at] = names.get(name, name)
            waiting.extend(item.g for item in node.attribute if item.HasField("g"))
        if part is not graph:
            for item in part.output:
                item.name = names.get(item.name, item.name)
