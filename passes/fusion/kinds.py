"""What operations are to fusion: their kind, their inputs, and what they cost to repeat."""

from __future__ import annotations

import enum
from collections.abc import Container, Iterable

from leptonc.ir.graph import Op, Value
from leptonc.ir.ops.run_time import EXTENTS
from leptonc.ir.table import CONST, DIMS, GROUP, RETURN, Trait
from leptonc.passes.fusion.limits import FusionLimits

CHEAP = frozenset({
    "abs", "add", "and", "bitwise_and", "bitwise_not", "bitwise_or", "bitwise_xor", "cast", "clip",
    "equal", "greater", "greater_or_equal", "identity", "less", "less_or_equal", "max", "min",
    "mul", "neg", "not", "or", "relu", "sub", "where", "xor",
})  # fmt: skip
"""Elementwise operations that cost no more than the load that computing them again saves."""

MOVES = frozenset({
    "constant_of_shape", "expand", "flatten", "identity", "range", "reshape", "slice", "squeeze",
    "transpose", "unsqueeze",
})  # fmt: skip
"""Copies of elements that are found by index arithmetic alone."""

REPEATING = frozenset({
    "expand", "gather", "gather_elements", "gather_nd", "one_hot", "resize", "tile", "upsample",
})  # fmt: skip
"""Operations that copy an element but may copy it many times."""


class Kind(enum.Enum):
    """What an operation is to fusion; the value is the kind of a group around it."""

    ELEMENTWISE = "elementwise"
    INJECTIVE = "injective"
    REDUCTION = "reduction"
    PRODUCT = "product"
    OPAQUE = "opaque"


def kind_of(op: Op, limits: FusionLimits) -> Kind | None:
    """What `op` is to fusion; None for what stays outside of groups."""
    row = op.definition
    if row in (CONST, DIMS, EXTENTS, GROUP, RETURN) or op.regions:
        return None
    if op.name in limits.opaque or row.has(Trait.EFFECT) or row.takes_memory:
        return Kind.OPAQUE
    for kind in (Kind.PRODUCT, Kind.REDUCTION, Kind.ELEMENTWISE, Kind.INJECTIVE):
        if row.has(Trait[kind.name]):
            return kind if len(op.results) == 1 or kind is not Kind.ELEMENTWISE else Kind.OPAQUE
    return Kind.OPAQUE


def inputs_of(ops: Iterable[Op], numbers: Container[Op] = ()) -> list[Value]:
    """The tensors that a group of `ops` reads, without what is put inside it instead.

    Nothing is put inside for `numbers`.
    """
    inside = dict.fromkeys(ops)
    found: dict[Value, None] = {}
    for op in inside:
        for slot, value in enumerate(op.operands):
            moves = op not in numbers and moves_inside(op, slot)
            if value.producer not in inside and not moves:
                found[value] = None
    return list(found)


def moves_inside(op: Op, slot: int) -> bool:
    """True where operand `slot` of `op` is copied into the group: one number, or extents."""
    producer = op.operands[slot].producer
    if producer is None or producer.definition not in (CONST, DIMS) or op.definition.takes_memory:
        return False
    name = op.operand_names[slot]
    if any(operand.shape_like and operand.name == name for operand in op.definition.operands):
        return True
    if producer.definition is DIMS:
        return True
    type = producer.result.type
    takes_numbers = op.definition.has(Trait.ELEMENTWISE) or op.definition.has(Trait.INJECTIVE)
    return takes_numbers and type.shape.count(1) == type.rank


def is_free_to_repeat(op: Op) -> bool:
    """True where computing `op` again reads no more bytes than its result has.

    That is a cheap operation on one tensor of the same shape, whose elements are not wider, and on
    single numbers.
    """
    tensors = [value for slot, value in enumerate(op.operands) if not moves_inside(op, slot)]
    if op.name not in CHEAP or len(tensors) != 1 or len(op.results) != 1:
        return False
    source, result = tensors[0].type, op.results[0].type
    return source.shape == result.shape and source.dtype.width <= result.dtype.width


def is_one_number(op: Op) -> bool:
    """True where `op` is cheap and computes a single number of single numbers."""
    types = [value.type for value in (*op.operands, *op.results)]
    return op.name in CHEAP and all(type.shape.count(1) == type.rank for type in types)


def feeders_within(op: Op, inside: set[Op]) -> list[Op]:
    """The operations among `inside` whose results `op` reads."""
    return [value.producer for value in op.operands if value.producer in inside]  # pyright: ignore[reportReturnType] - None is never inside


def is_shape_of(op: Op, reader: Op) -> bool:
    """True where `reader` takes extents from `op`, which must be known before its kernel runs."""
    shapes = {operand.name for operand in reader.definition.operands if operand.shape_like}
    return any(
        value.producer is op and name in shapes
        for name, value in zip(reader.operand_names, reader.operands, strict=True)
    )


def is_view(op: Op) -> bool:
    """True where the result has the operand's elements in their order."""
    return op.definition.has(Trait.VIEW)


def reads_once(reduction: Op) -> bool:
    """True for reductions that read each element of their operand once; windows overlap."""
    return reduction.name.startswith(("reduce_", "arg_", "global_"))


def repeats(op: Op, reader: Op) -> bool:
    """True where `reader` needs some elements of `op` several times."""
    if reader.name in REPEATING:
        return True
    if reader.definition.has(Trait.ELEMENTWISE):
        return op.results[0].type.shape != reader.results[0].type.shape
    return False
