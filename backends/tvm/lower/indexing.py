# pyright: standard
"""Index maps: which element of an operand a result element reads."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

from tvm import te, tirx

from leptonc.backends.tvm.lowering import LowerCall
from leptonc.ir.dims import Dim, bounds, is_positive, product

Index = Sequence[Any]


def compute(
    call: LowerCall, element: Callable[..., Any], result: int = 0, name: str = ""
) -> te.Tensor:
    """A result of the call, by the expression of its element at an index."""
    made: Any = te.compute(call.shape(result), element, name=name or call.op.name)
    return made


def zero(dtype: str) -> Any:
    """The number 0 (or false) of an element type."""
    return tirx.const(0, dtype)


def differ_maybe(a: Dim, b: Dim) -> bool:
    """True unless the extents are equal whatever the symbols are."""
    return bounds(a - b) != (0, 0)


def if_any(call: LowerCall, extent: Dim, value: Any) -> Any:
    """`value`, read only where there are elements: a clamped index is still outside of none."""
    if is_positive(extent):
        return value
    return tirx.if_then_else(call.dim(extent) > 0, value, zero(call.dtype()))


def inside(call: LowerCall, index: Any, extent: Dim) -> Any:
    """`index` limited to the elements there are."""
    return tirx.max(tirx.min(index, call.dim(extent) - 1), call.index(0))


def wrapped(call: LowerCall, index: Any, extent: Dim, *, trusted: bool = False) -> Any:
    """An index from data: negative ones count from the end, others are limited to what there is."""
    index = index.astype(call.dims.index_dtype)
    if trusted:
        return index
    return inside(call, tirx.Select(index < 0, index + call.dim(extent), index), extent)


def reshaped_index(
    call: LowerCall, source: Sequence[Dim], target: Sequence[Dim], index: Index
) -> list[Any]:
    """The index into `source` of the element at `index` of `target`, row-major order kept.

    Extents that both shapes share are indexed directly; only where dimensions are split or joined
    is there arithmetic.
    """
    found: list[Any] = [call.index(0)] * len(source)
    cuts = _common_cuts(source, target)
    for (a, b), (c, d) in pairwise(cuts):
        _map_group(call, source, target, index, (a, c), (b, d), found)
    return found


def _common_cuts(source: Sequence[Dim], target: Sequence[Dim]) -> list[tuple[int, int]]:
    """Pairs of positions up to which both shapes have the same number of elements."""
    front = _matches([product(source[:i]) for i in range(len(source) + 1)],
                     [product(target[:j]) for j in range(len(target) + 1)])  # fmt: skip
    back = _matches([product(source[i:]) for i in range(len(source) + 1)],
                    [product(target[j:]) for j in range(len(target) + 1)])  # fmt: skip
    whole = [(0, 0), (len(source), len(target))]
    cuts: list[tuple[int, int]] = []
    for cut in sorted({*front, *back, *whole}):
        if not cuts or (cut[0] > cuts[-1][0] and cut[1] > cuts[-1][1]):
            cuts.append(cut)
    if cuts[-1] != whole[1]:  # extents of 1 at the end belong to the last group
        cuts[-1:] = [whole[1]]
    return cuts


def _matches(left: Sequence[Dim], right: Sequence[Dim]) -> set[tuple[int, int]]:
    """Positions with equal products, none where an extent of 0 makes all products equal."""
    return {(i, j) for i, a in enumerate(left) for j, b in enumerate(right) if a == b and a != 0}


def _map_group(
    call: LowerCall, source: Sequence[Dim], target: Sequence[Dim], index: Index,
    sources: tuple[int, int], targets: tuple[int, int], found: list[Any],
) -> None:  # fmt: skip
    inner = [axis for axis in range(*sources) if source[axis] != 1]
    outer = [axis for axis in range(*targets) if target[axis] != 1]
    if not inner:
        return
    linear: Any = call.index(0)
    for axis in outer:
        linear = linear * call.dim(target[axis]) + index[axis] if axis != outer[0] else index[axis]
    for axis in reversed(inner[1:]):
        extent = call.dim(source[axis])
        found[axis] = modulo(linear, extent)
        linear = quotient(linear, extent)
    found[inner[0]] = linear


def quotient(value: Any, by: Any) -> Any:
    """`value // by` of an index that is not negative."""
    return tirx.floordiv(value, by) if isinstance(by, tirx.IntImm) else tirx.truncdiv(value, by)


def modulo(value: Any, by: Any) -> Any:
    """`value % by` of an index that is not negative."""
    return tirx.floormod(value, by) if isinstance(by, tirx.IntImm) else tirx.truncmod(value, by)


def reshaped(
    call: LowerCall, tensor: te.Tensor, source: Sequence[Dim], target: Sequence[Dim]
) -> te.Tensor:
    """The elements of `tensor` under another shape; zeros where run time gives it too few."""
    total, wanted = product(source), product(target)
    if total == 0 or wanted == 0:
        return compute(call, lambda *index: zero(call.dtype()))

    def element(*index: Any) -> Any:
        value = tensor(*reshaped_index(call, source, target, index))
        if not differ_maybe(total, wanted):
            return value
        linear: Any = call.index(0)
        for at, extent in zip(index, target, strict=True):
            linear = linear * call.dim(extent) + at
        return tirx.if_then_else(linear < call.dim(total), value, zero(call.dtype()))

    return compute(call, element)
