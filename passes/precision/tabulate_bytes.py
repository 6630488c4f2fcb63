"""tabulate-bytes: what is computed of single bytes is looked up."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import ClassVar

import numpy as np

from leptonc.ir.blob import Array, Blob
from leptonc.ir.build import Builder
from leptonc.ir.diagnostics import LeptonError
from leptonc.ir.graph import Graph, Op, Region, Value
from leptonc.ir.location import Location
from leptonc.ir.table import RETURN, Evaluation, Trait
from leptonc.ir.types import DType, TensorType
from leptonc.passes.base import Pass, option
from leptonc.passes.context import PassContext
from leptonc.passes.contract import EXACT, Contract
from leptonc.passes.refine import erase_dead_from, replace_value

BYTES = frozenset({DType.I8, DType.U8})
RESULTS = BYTES | {DType.F32}
"""What tables hold."""
COUNT = 256
"""The different bytes."""
BETWEEN = frozenset({"dequantize_linear", "quantize_linear"})
"""Elementwise, where their scales are single numbers."""
SMOOTH = (
    "acos", "acosh", "asin", "asinh", "atan", "atanh", "celu", "cos", "cosh", "elu", "erf", "exp",
    "gelu", "hard_swish", "log", "mish", "pow", "selu", "sigmoid", "sin", "sinh", "softplus",
    "softsign", "swish", "tan", "tanh",
)  # fmt: skip
EFFORT: Mapping[str, int] = MappingProxyType(
    {name: 16 for name in SMOOTH}
    | {"quantize_linear": 8, "qlinear_add": 14, "qlinear_mul": 14, "dequantize_linear": 3}
    | {"div": 3, "sqrt": 3, "reciprocal": 3}
)
"""The vector operations that stand for one; 1 for all others.

With 16 lanes, 262,144 lookups take 98 us, a sigmoid that is quantised (27) 113 and two
quantisations with two products (24) 85; with 8 lanes 116, 149 and 97.
"""


@dataclass(frozen=True)
class TabulateBytes(Pass):
    """Looks up what depends on one byte only, in place of computing it for each element.

    That is what elementwise operations make of one tensor of bytes and of single numbers: an
    activation between two quantisations, for one, however it is written. The table is computed by
    their reference meaning. Numbers that a `dequantize_linear` makes real at the end are looked up
    as bytes, as kernels of integers want them.
    """

    name: ClassVar[str] = "tabulate-bytes"
    numbers: ClassVar[Contract] = EXACT
    effort: int = option(25, "how many operations on vectors take as long as lookups")
    elements: int = option(16 * COUNT, "the fewest elements that tables are read for")

    def run(self, graph: Graph, context: PassContext) -> None:
        """Go through every region but those of groups."""
        regions: list[Region] = [graph]
        regions += [region for op in graph.walk() if op.name != "group" for region in op.regions]
        for region in regions:
            self._run(region, context)

    def _run(self, region: Region, context: PassContext) -> None:
        chains = Chains.of(region, self.elements)
        # what one table replaces is part of what another one is made of
        tables = [(value, self._table_of(value, chains, context)) for value in chains.exits()]
        for value, table in tables:
            root = value.producer
            assert root is not None
            if table is None or not context.grant(self.name, root.location):
                continue
            location = Location.fused([root.location], by=self.name)
            build = Builder(region, before=root, location=location)
            places = build.cast(chains.sources[value], to=DType.I32)
            replace_value(value, build.gather(build.const(Blob.of(table)), places, axis=0))
            erase_dead_from([root])

    def _table_of(self, value: Value, chains: Chains, context: PassContext) -> Array | None:
        """The table in place of a value, where reading it is less than computing the value."""
        ops = chains.between(value)
        effort = sum(EFFORT.get(op.name, 1) for op in ops)
        if effort < self.effort:
            reason = f"it is {effort} vector operations, a lookup takes as long as {self.effort}"
            context.miss(self.name, ops[-1].location, reason)
            return None
        return _table(ops, chains.sources[value])


@dataclass(frozen=True)
class Chains:
    """For each value that is computed of single bytes alone, the tensor of these bytes."""

    sources: Mapping[Value, Value]

    @staticmethod
    def of(region: Region, elements: int) -> Chains:
        """What a region computes so, where it is surely as many elements."""
        sources: dict[Value, Value] = {}
        for op in region:
            source = _source(op, sources)
            if source is not None and _count(source) >= elements:
                sources[op.results[0]] = source
        return Chains(sources)

    def exits(self) -> Iterator[Value]:
        """The values that anything else reads, bytes where they are made real in the end."""
        for value in self.sources:
            op = value.producer
            assert op is not None
            if op.name == "dequantize_linear" or value.type.dtype not in RESULTS:
                continue
            if any(self._leaves(user, value) for user in value.users):
                yield value

    def _leaves(self, user: Op, value: Value) -> bool:
        """Whether a reader of a value computes something else of it."""
        result = user.results[0] if user.results else None
        if result is None or self.sources.get(result) is not self.sources[value]:
            return True
        made_real = user.name == "dequantize_linear"
        return made_real and any(self._leaves(each, result) for each in result.users)

    def between(self, value: Value) -> list[Op]:
        """What computes a value of its bytes, in dependency order."""
        source, found = self.sources[value], dict[Op, None]()
        waiting = [(value, False)]
        while waiting:
            each, is_ready = waiting.pop()
            op = each.producer
            if each is source or op is None or op in found or each not in self.sources:
                continue
            if is_ready:
                found[op] = None
                continue
            waiting.append((each, True))
            waiting += [(operand, False) for operand in op.operands]
        return list(found)


def _source(op: Op, sources: Mapping[Value, Value]) -> Value | None:
    """The only tensor of bytes that an elementwise operation reads, at one element at a time."""
    if len(op.results) != 1 or op.regions or op.definition is RETURN:
        return None
    if not op.definition.has(Trait.ELEMENTWISE) and op.name not in BETWEEN:
        return None
    if op.definition.evaluate is None or op.definition.has(Trait.EFFECT):
        return None
    shape = op.results[0].type.shape
    read = [value for value in op.operands if not _is_number(value)]
    if not read or any(value.blob is not None or value.type.shape != shape for value in read):
        return None
    if op.name in BETWEEN and read != [op.operands[0]]:
        return None
    found = {sources.get(value, value) for value in read}
    if len(found) > 1:
        found = set(read)
    source = found.pop()
    return source if not found and source.type.dtype in BYTES else None


def _count(value: Value) -> int:
    """The elements of a tensor whose open extents are 1."""
    return math.prod(dim for dim in value.type.shape if isinstance(dim, int))


def _is_number(value: Value) -> bool:
    return value.blob is not None and all(dim == 1 for dim in value.type.shape)


def _table(ops: list[Op], source: Value) -> Array | None:
    """What the operations make of each byte, that of negative ones behind the others."""
    known = {source: np.arange(COUNT, dtype=np.uint8).view(source.type.dtype.numpy)}
    for op in ops:
        arrays = [
            known[value] if value.blob is None else value.blob.array.reshape(())
            for value in op.operands
        ]
        call = Evaluation(op.definition, arrays, op.operand_names, op.attrs)
        result = op.results[0]
        call.result_types = (TensorType(result.type.dtype, (COUNT,)),)
        assert op.definition.evaluate is not None
        try:
            with np.errstate(all="ignore"):
                known[result] = np.asarray(op.definition.evaluate(call)).reshape(COUNT)
        except LeptonError:
            return None
    return known[ops[-1].results[0]]
