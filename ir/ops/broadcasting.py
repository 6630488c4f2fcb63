"""Multidirectional broadcasting of extents, and the checks of element types that families share."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from leptonc.ir.diagnostics import LeptonError
from leptonc.ir.dims import Dim, broadcast
from leptonc.ir.table import Inference
from leptonc.ir.types import DType

Shape = tuple[Dim, ...]

FLOATS = frozenset({DType.F32, DType.F16, DType.BF16, DType.F64})
SIGNED = frozenset({DType.I8, DType.I16, DType.I32, DType.I64})
UNSIGNED = frozenset({DType.U8, DType.U16, DType.U32, DType.U64})
INTEGERS = SIGNED | UNSIGNED
NUMBERS = FLOATS | INTEGERS
FLOATS8 = frozenset({DType.F8E4M3FN, DType.F8E4M3FNUZ, DType.F8E5M2, DType.F8E5M2FNUZ})
SUB_BYTE = frozenset({DType.I4, DType.U4, DType.I2, DType.U2, DType.F4E2M1})
NARROW = FLOATS8 | SUB_BYTE | {DType.F8E8M0}
COMPLEX = frozenset({DType.C64, DType.C128})
ANY = frozenset(DType)


def broadcast_dims(a: Dim, b: Dim) -> Dim | None:
    """The extent that `a` and `b` broadcast to; None where two known extents differ.

    An extent of 1 gives way. A known extent wins over a symbolic one, since at run time the symbol
    must be equal to it or be 1, which the run time checks. Two symbolic extents broadcast to what
    run time tells.
    """
    if isinstance(a, int) and isinstance(b, int) and a != b and 1 not in (a, b):
        return None
    return broadcast(a, b)


def broadcast_shapes(*shapes: Sequence[Dim]) -> Shape:
    """The shape that all `shapes` broadcast to; raises E103 where they do not."""
    rank = max((len(shape) for shape in shapes), default=0)
    result: list[Dim] = [1] * rank
    for shape in shapes:
        offset = rank - len(shape)
        for axis, dim in enumerate(shape):
            joined = broadcast_dims(result[offset + axis], dim)
            if joined is None:
                raise LeptonError(
                    f"shapes {' and '.join(map(shown_shape, shapes))} do not broadcast: "
                    f"{result[offset + axis]} against {dim} on axis {offset + axis}",
                    notes=["extents must be equal, or one of them 1, counted from the last axis"],
                    code="E103",
                )
            result[offset + axis] = joined
    return tuple(result)


def shown_shape(shape: Sequence[Dim]) -> str:
    """A shape as textual IR spells it."""
    return f"[{','.join(map(str, shape))}]"


def check_dtype(call: Inference, name: str, allowed: Collection[DType]) -> None:
    """Raise E102 unless every operand called `name` has one of the `allowed` element types."""
    for value in call.all(name):
        if value.type.dtype not in allowed:
            known = ", ".join(sorted(dtype.value for dtype in allowed))
            raise LeptonError(
                f"{call.definition.name} of {value.type.dtype} is not defined ({name})",
                notes=[f"it takes: {known}"],
                code="E102",
            )


def check_same_dtype(call: Inference, *names: str) -> DType:
    """The element type that the operands called `names` share; raises E101 where they differ."""
    values = [value for name in names for value in call.all(name)]
    for value in values[1:]:
        if value.type.dtype is not values[0].type.dtype:
            raise LeptonError(
                f"{call.definition.name} has operands of {values[0].type.dtype} and "
                f"{value.type.dtype}, should be of one element type",
                notes=["insert a cast of one of them"],
                code="E101",
            )
    return values[0].type.dtype


def check_count(call: Inference, least: int) -> None:
    """Raise E104 unless there are at least `least` operands."""
    if len(call) < least:
        raise LeptonError(
            f"{call.definition.name} has {len(call)} operands, should have at least {least}",
            code="E104",
        )


def normalized_axis(call: Inference, axis: int, rank: int) -> int:
    """`axis` counted from the front; raises E107 where `rank` dimensions have no such axis."""
    if not -rank <= axis < rank:
        raise LeptonError(
            f"{call.definition.name}: axis {axis} does not exist in {rank} dimensions",
            notes=[f"it may be {-rank} to {rank - 1}"] if rank else ["the operand is a scalar"],
            code="E107",
        )
    return axis % rank
