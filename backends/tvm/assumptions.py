"""What types of symbolic extents take for granted, and run time has to check.

Inference takes symbolic extents that have to be equal for equal. Where nothing proves it, the
program compares their sizes before the kernel that relies on it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from leptonc.ir.dims import Dim, bounds, floordiv, symbols
from leptonc.ir.graph import Op, Value
from leptonc.ir.ops.attention import head_shapes
from leptonc.ir.ops.einsum import label_extents, parse_equation
from leptonc.ir.ops.movement import pad_widths
from leptonc.ir.table import Inference, Trait


@dataclass(frozen=True)
class Assumption:
    """The extent `found` is `wanted`, or 1 where that broadcasts, or not below it."""

    found: Dim
    wanted: Dim
    broadcasts: bool = False
    is_least: bool = False
    what: str = "an operand"

    @property
    def symbols(self) -> frozenset[str]:
        """The symbols whose sizes decide."""
        return symbols(self.found) | symbols(self.wanted)


def assumptions(op: Op) -> list[Assumption]:
    """What `op`, or the operations of a group, take for granted; each thing once."""
    found: dict[Assumption, None] = {}
    for inner in op.regions[0] if op.name == "group" else (op,):
        if not all(value.type.is_static for value in (*inner.operands, *inner.results)):
            found.update(dict.fromkeys(_of(inner)))
    return list(found)


def _of(op: Op) -> Iterator[Assumption]:
    shapes = [value.type.shape for value in op.operands]
    for dim in (dim for value in op.results for dim in value.type.shape):
        if not isinstance(dim, int) and bounds(dim)[0] < 0:
            yield Assumption(dim, 0, is_least=True, what="a result")
    if op.definition.has(Trait.ELEMENTWISE):
        for shape in shapes:
            yield from _broadcast(shape, op.result.type.shape)
    elif op.name == "expand":
        yield from _broadcast(shapes[0], op.result.type.shape)
        wanted = _outside(op.operands[1]).content
        if wanted is not None:
            yield from _broadcast([*wanted], op.result.type.shape)
    elif op.name == "matmul" and len(shapes[0]) > 1 and len(shapes[1]) > 1:
        yield from _equal(shapes[1][-2:-1], shapes[0][-1:])
        for shape in shapes:
            yield from _broadcast(shape[:-2], op.result.type.shape[:-2])
    elif op.name == "concat":
        axis = op.int("axis") % op.result.type.rank
        for shape in shapes[1:]:
            yield from _equal(_without(shape, axis), _without(shapes[0], axis))
    else:
        yield from _particular(op, shapes)


def _particular(op: Op, shapes: Sequence[tuple[Dim, ...]]) -> Iterator[Assumption]:
    if op.name == "einsum":
        equation = parse_equation(str(op.attrs["equation"]), [len(shape) for shape in shapes])
        extents = label_extents(equation, shapes)
        for term, shape in zip(equation.terms, shapes, strict=True):
            yield from _broadcast(shape, [extents[label] for label in term])
    elif op.name == "gather_elements":
        axis = op.int("axis") % len(shapes[0])
        pairs = zip(_without(shapes[0], axis), _without(shapes[1], axis), strict=True)
        for found, wanted in pairs:
            if found != wanted and _is_open(found, wanted):
                yield Assumption(found, wanted, is_least=True)
    elif op.name == "attention" and (mask := op.operand("mask")) is not None:
        counts = op.int("q_num_heads"), op.int("kv_num_heads")
        q, k, _ = head_shapes(shapes[:3], *counts)
        yield from _broadcast(mask.type.shape, (*q[:3], k[2]))
    elif op.name == "group_normalization":
        channels, groups = op.operands[0].type.shape[1], op.int("num_groups")
        yield from _equal([channels], [floordiv(channels, groups) * groups])
    elif op.name in _LEAST:
        for found, wanted in _LEAST[op.name](op):
            if not isinstance(found, int) and wanted > 0:
                yield Assumption(found, wanted, is_least=True)


def _gathered(op: Op) -> Iterator[tuple[Dim, int]]:
    """Indices that are known lie in the axis."""
    blob = _outside(op.operands[1]).blob
    if blob is not None and blob.size:
        low, high = int(blob.array.min()), int(blob.array.max())
        yield op.operands[0].type.shape[op.int("axis")], max(high + 1, -low)


def _outside(value: Value) -> Value:
    """What an input of a group stands for."""
    region = value.owner
    if region is None or region.parent is None or region.parent.name != "group":
        return value
    return region.parent.operands[region.inputs.index(value)]


def _picked(op: Op) -> Iterator[tuple[Dim, int]]:
    yield op.operands[0].type.shape[op.int("axis")], 1


def _largest(op: Op) -> Iterator[tuple[Dim, int]]:
    axis = op.int("axis")
    count = op.results[0].type.shape[axis]
    if isinstance(count, int):
        yield op.operands[0].type.shape[axis], count


def _reflected(op: Op) -> Iterator[tuple[Dim, int]]:
    """A border shows what lies behind the first and the last element."""
    widths = pad_widths(Inference(op.definition, op.operands, op.operand_names, op.attrs))
    if op.attrs["mode"] == "reflect" and widths is not None:
        for extent, pair in zip(op.operands[0].type.shape, widths, strict=True):
            yield extent, max((width + 1 for width in pair if isinstance(width, int)), default=0)


_LEAST: Mapping[str, Callable[[Op], Iterator[tuple[Dim, int]]]] = MappingProxyType({
    "gather": _gathered, "arg_max": _picked, "arg_min": _picked, "top_k": _largest,
    "pad": _reflected,
})  # fmt: skip
"""Which extents have to be how long, by operation."""


def _without(shape: Sequence[Dim], axis: int) -> Sequence[Dim]:
    return (*shape[:axis], *shape[axis + 1 :])


def _broadcast(shape: Sequence[Dim], result: Sequence[Dim]) -> Iterator[Assumption]:
    for found, wanted in zip(reversed(shape), reversed(result), strict=False):
        if found not in (1, wanted) and _is_open(found, wanted):
            yield Assumption(found, wanted, broadcasts=True)


def _is_open(*dims: Dim) -> bool:
    """True unless both are numbers, which were compared at compile time."""
    return not all(isinstance(dim, int) for dim in dims)


def _equal(shape: Iterable[Dim], other: Iterable[Dim]) -> Iterator[Assumption]:
    for found, wanted in zip(shape, other, strict=True):
        if found != wanted and _is_open(found, wanted):
            yield Assumption(found, wanted, broadcasts=False)
