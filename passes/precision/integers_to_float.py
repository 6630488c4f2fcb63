"""integers-to-float: scaled integers are computed with as floats, where that is exact."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import ClassVar

from leptonc.ir.build import Builder
from leptonc.ir.graph import Graph, Op, Region, Value
from leptonc.ir.types import DType
from leptonc.passes.base import Pass
from leptonc.passes.context import PassContext
from leptonc.passes.contract import EXACT, Contract
from leptonc.passes.precision import integer_products, scaling
from leptonc.passes.precision.integral import BYTES, Integral, Integrals, largest_of
from leptonc.passes.refine import replace_value

MOVES = frozenset({
    "concat", "flatten", "identity", "max_pool", "reshape", "slice", "squeeze", "transpose",
    "unsqueeze",
})  # fmt: skip
"""Operations that give back some of the elements of their operands."""

PRODUCTS = frozenset({"integer_linear", "integer_conv"})
"""Operations that read bytes."""

Rule = Callable[[Op, Integrals, Builder], "Integral | Value | None"]
"""The result of an operation as floats that are integers, or itself; None where it stays."""

RULES: Mapping[str, Rule] = MappingProxyType({**scaling.RULES, **integer_products.RULES})


@dataclass(frozen=True)
class IntegersToFloat(Pass):
    """Computes with integers of 8 and 16 bits, and with sums of their products, as f32.

    Products with constant weights become such of f32 wherever no sum can exceed what f32 holds
    exactly, in parts if need be; so they get the kernels, layouts and epilogues that floats have.
    Quantisation becomes elementwise operations, which join the kernels around them.
    """

    name: ClassVar[str] = "integers-to-float"
    numbers: ClassVar[Contract] = EXACT

    def run(self, graph: Graph, context: PassContext) -> None:
        """Rewrite every region but those of groups."""
        regions: list[Region] = [graph]
        regions += [region for op in graph.walk() if op.name != "group" for region in op.regions]
        for region in regions:
            _Walk(region, context).run()


class _Walk:
    """One walk in dependency order."""

    def __init__(self, region: Region, context: PassContext) -> None:
        self.region, self.context = region, context
        self.known = Integrals()
        self.bytes: set[Value] = set()
        """What only products of bytes read: it is moved as bytes."""

    def run(self) -> None:
        for op in reversed(self.region):
            if op.name in MOVES and all(map(self._reads_bytes, op.results[0].users)):
                self.bytes.add(op.results[0])
        for op in self.region:
            rule = self._rule_of(op)
            if rule is None:
                continue
            build = Builder(self.region, before=op, location=op.location)
            self.known.build = build
            if self.context.grant("integers-to-float", op.location):
                result = rule(op, self.known, build)
                if result is not None:
                    self._replace(op, result, build)

    def _rule_of(self, op: Op) -> Rule | None:
        if op.name in RULES:
            return None if self._stays(op) else RULES[op.name]
        if not op.operands or op.operands[0] not in self.known.floats:
            return None
        if op.name in MOVES and not any(value.is_used for value in op.results[1:]):
            return None if op.results[0] in self.bytes else _move
        if op.name == "cast" and op.result.type.dtype is DType.F32:
            return _as_it_is
        return _add if op.name == "add" else None

    def _stays(self, op: Op) -> bool:
        """Whether what is quantised by its own range is read as bytes alone: of one kernel."""
        users = op.results[0].users
        taken = (user.name == "return" or self._reads_bytes(user) for user in users)
        return op.name == "dynamic_quantize_linear" and all(taken)

    def _reads_bytes(self, op: Op) -> bool:
        return op.name in PRODUCTS or any(value in self.bytes for value in op.results)

    def _replace(self, op: Op, result: Integral | Value, build: Builder) -> None:
        old = op.results[0]
        if isinstance(result, Integral):
            new = build.op("cast", [result.value], {"to": old.type.dtype}).result
            if any(user.name == "integer_conv" for user in old.users):
                # it is in memory as bytes: of a kernel with two results, nothing more is fused
                back = build.op("cast", [new], {"to": DType.F32}).result
                result = Integral(back, result.largest)
            self.known.floats[new] = result
        else:
            new = result
        if new.name == "":
            new.name = old.name
        replace_value(old, new)
        self.region.erase(op)


def _move(op: Op, known: Integrals, build: Builder) -> Integral | None:
    """Elements that are moved about stay floats."""
    data = op.operands if op.name == "concat" else op.operands[:1]
    if not all(value in known.floats for value in data):
        return None
    floats = [known.floats[value] for value in data]
    operands = [*(item.value for item in floats), *op.operands[len(data) :]]
    result = build.op(op.definition, operands, op.attrs, names=op.operand_names).results[0]
    return Integral(result, max(item.largest for item in floats))


def _as_it_is(op: Op, known: Integrals, build: Builder) -> Value:
    """A float that is an integer, made an integer, is a float again."""
    return known.floats[op.operands[0]].value


def _add(op: Op, known: Integrals, build: Builder) -> Integral | None:
    """A constant added to a sum of products."""
    addend = op.operands[1]
    if addend.blob is None or addend.type.dtype not in (DType.I32, *BYTES):
        return None
    total, offset = known.floats[op.operands[0]], largest_of(addend)
    if not known.holds(total.largest + offset):
        return None
    return Integral(build.add(total.value, known.constant(addend)), total.largest + offset)
