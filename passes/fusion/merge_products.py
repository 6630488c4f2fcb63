"""merge-products: linear layers that read the same tensor become one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from leptonc.ir.blob import Array
from leptonc.ir.build import Builder
from leptonc.ir.graph import Graph, Op, Region, Value
from leptonc.ir.location import Location
from leptonc.ir.table import Trait
from leptonc.passes.base import Pass, option
from leptonc.passes.constants import array_of
from leptonc.passes.context import PassContext
from leptonc.passes.contract import REASSOCIATES, Contract
from leptonc.passes.fusion.weights import LARGE
from leptonc.passes.refine import erase_dead_from, replace_value


@dataclass(frozen=True)
class MergeProducts(Pass):
    """Computes linear layers on one tensor, such as queries, keys and values, as one layer.

    The tensor is read and packed once. What reads the results gets slices, so layers stay apart
    whose result an elementwise operation reads: their kernel computes that with it. So do
    convolutions, whose channels lie in blocks that slices would have to move.
    """

    name: ClassVar[str] = "merge-products"
    numbers: ClassVar[Contract] = REASSOCIATES
    columns: int = option(1 << 14, "merge up to this many outputs")
    elementwise: bool = option(False, "merge also where elementwise operations read the results")

    def run(self, graph: Graph, context: PassContext) -> None:
        """Merge in each region, in program order."""
        for region in _regions(graph):
            for layers in _by_operand(region):
                self._merge(layers, context)

    def _merge(self, layers: Sequence[Op], context: PassContext) -> None:
        chosen: list[Op] = []
        total = 0
        for op in layers:
            reason = self._reason_against(op, total)
            if reason:
                context.miss(self.name, op.location, reason)
                continue
            chosen.append(op)
            total += _columns(op)
        location = Location.fused((op.location for op in chosen), by=self.name)
        if len(chosen) > 1 and context.grant(self.name, location):
            _replace(chosen, location)

    def _reason_against(self, op: Op, total: int) -> str:
        """Why `op` is not merged with layers of `total` outputs; empty if it is."""
        if total + _columns(op) > self.columns:
            return f"together they have more than {self.columns} outputs"
        if any(value.use_count > 1 and _size(value) > LARGE for value in op.operands[1:]):
            return "the weight is large and something else reads it too"
        joined = any(reader.definition.has(Trait.ELEMENTWISE) for reader in op.result.users)
        if joined and not self.elementwise:
            return "what reads it is computed with it"
        return ""


def _regions(graph: Graph) -> Iterator[Region]:
    yield graph
    for op in [op for op in graph.walk() if op.regions]:
        yield from op.regions


def _by_operand(region: Region) -> list[list[Op]]:
    """Layers with constant weights that read one tensor, two or more, of one orientation."""
    found: dict[tuple[Value, bool], list[Op]] = {}
    for op in region:
        known = op.name == "linear" and all(value.blob is not None for value in op.operands[1:])
        if known and op.operands[0].blob is None:
            key = op.operands[0], bool(op.attrs["transposed"])
            found.setdefault(key, []).append(op)
    return [layers for layers in found.values() if len(layers) > 1]


def _columns(op: Op) -> int:
    return op.operands[1].type.extents[0 if op.attrs["transposed"] else 1]


def _size(value: Value) -> int:
    return value.blob.size if value.blob is not None else 0


def _replace(layers: Sequence[Op], location: Location) -> None:
    """Put one layer and a split of its result in place of `layers`."""
    first = layers[0]
    assert first.region is not None
    build = Builder(first.region, before=first, location=location)
    operands = [first.operands[0], build.const(_weights(layers))]
    if any(op.operand("bias") is not None for op in layers):
        operands.append(build.const(np.concatenate([_bias(op) for op in layers])))
    names = ("x", "w", "bias")[: len(operands)]
    whole = build.op(first.definition, operands, first.attrs, names=names).result
    lengths = build.const(np.array([_columns(op) for op in layers], np.int64))
    parts = build.op("split", [whole, lengths], {"axis": whole.type.rank - 1}).results
    for op, part in zip(layers, parts, strict=True):
        replace_value(op.result, part)
    erase_dead_from(layers)


def _weights(layers: Sequence[Op]) -> Array:
    arrays = [array_of(op.operands[1]) for op in layers]
    axis = 0 if layers[0].attrs["transposed"] else 1
    return np.concatenate([array for array in arrays if array is not None], axis)


def _bias(op: Op) -> Array:
    value = op.operand("bias")
    given = None if value is None else array_of(value)
    return np.zeros(_columns(op), op.result.type.dtype.numpy) if given is None else given
