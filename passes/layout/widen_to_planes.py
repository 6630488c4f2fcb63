"""widen-to-planes: convolutions and poolings along one axis become such over planes of one row."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from leptonc.ir.blob import Blob
from leptonc.ir.build import Builder
from leptonc.ir.dims import Dim
from leptonc.ir.graph import Attribute, Graph, Op, Region, Value
from leptonc.ir.table import Trait
from leptonc.ir.types import DType, TensorType
from leptonc.passes.base import Pass
from leptonc.passes.context import PassContext
from leptonc.passes.contract import REASSOCIATES, Contract
from leptonc.passes.views import reshape_to

POOLS = ("max_pool", "average_pool", "global_average_pool")


@dataclass(frozen=True)
class WidenToPlanes(Pass):
    """Gives signals [N, C, L] that are convolved, and what stands between, the shape [N, C, 1, L].

    What is made for images then applies to signals as well. Convolutions of f32 with constant
    weights take part, and so do the elementwise operations, poolings and concatenations of their
    results. The reshapes at the borders move nothing.
    """

    name: ClassVar[str] = "widen-to-planes"
    numbers: ClassVar[Contract] = REASSOCIATES

    def run(self, graph: Graph, context: PassContext) -> None:
        """Widen in every region."""
        regions: list[Region] = [graph]
        regions += [region for op in graph.walk() if op.name != "group" for region in op.regions]
        for region in regions:
            _Widening(region, context).run()


class _Widening:
    """One walk in dependency order; `wide` knows the form with a row of each signal."""

    def __init__(self, region: Region, context: PassContext) -> None:
        self.region, self.context = region, context
        self.wide: dict[Value, Value] = {}

    def run(self) -> None:
        for op in self.region:
            if self._takes_part(op) and self.context.grant("widen-to-planes", op.location):
                self._widen(op, Builder(self.region, before=op, location=op.location))

    def _takes_part(self, op: Op) -> bool:
        if not op.results or op.results[0].type.rank != 3:
            return False
        if op.name == "conv":
            return _is_fixed_conv(op)
        if not any(value in self.wide for value in op.operands):
            return False
        if op.name in POOLS:
            pads_told = op.attrs.get("auto_pad", "NOTSET") in ("NOTSET", "VALID")
            return pads_told and not any(value.is_used for value in op.results[1:])
        if op.name == "concat":
            return op.int("axis") % 3 == 1 and all(value in self.wide for value in op.operands)
        single = len(op.results) == 1 and op.definition.has(Trait.ELEMENTWISE)
        return single and all(self._is_bringable(value) for value in op.operands)

    def _is_bringable(self, value: Value) -> bool:
        return value in self.wide or value.blob is not None or value.type.rank in (0, 3)

    def _widen(self, op: Op, build: Builder) -> None:
        if op.name == "conv":
            x, w, *bias = op.operands
            operands = [self._signal(x, build), _constant(w, build), *bias]
        else:
            operands = [self._brought(value, build) for value in op.operands]
        old = op.results[0]
        new = build.op(op.definition, operands, _wide_attrs(op), names=op.operand_names).results[0]
        plain = reshape_to(build, new, old.type.shape)
        plain.name, new.name = old.name, f"{old.name}.wide" if old.name else ""
        self.wide[plain] = new
        old.replace_uses_with(plain)
        self.region.erase(op)

    def _signal(self, value: Value, build: Builder) -> Value:
        """A signal as planes of one row."""
        if value not in self.wide:
            self.wide[value] = reshape_to(build, value, _with_row(value.type.shape))
        return self.wide[value]

    def _brought(self, value: Value, build: Builder) -> Value:
        """An operand of an elementwise operation, so that it meets the same elements."""
        if value in self.wide or value.type.rank == 0:
            return self.wide.get(value, value)
        return self._signal(value, build) if value.blob is None else _constant(value, build)


def _is_fixed_conv(op: Op) -> bool:
    """A convolution of f32 signals with constants, and pads that are told."""
    constant = all(value.blob is not None for value in op.operands[1:])
    told = op.attrs["auto_pad"] in ("NOTSET", "VALID")
    return constant and told and op.operands[0].type.dtype is DType.F32


def _constant(value: Value, build: Builder) -> Value:
    """A constant with one row before its last axis."""
    blob = value.blob
    assert blob is not None
    *head, last = (1,) * (2 - value.type.rank) + blob.type.extents
    type = TensorType(blob.type.dtype, (*head, 1, last))
    constant = build.const(Blob(type, lambda: blob.array))
    constant.name = value.name
    return constant


def _with_row(shape: tuple[Dim, ...]) -> tuple[Dim, ...]:
    return (*shape[:-1], 1, shape[-1])


def _wide_attrs(op: Op) -> dict[str, Attribute]:
    """The attributes of a window along one axis, for planes of one row."""
    attrs = dict(op.attrs)
    for name in ("kernel_shape", "strides", "dilations"):
        if op.ints(name):
            attrs[name] = (1, *op.ints(name))
    if op.ints("pads"):
        before, after = op.ints("pads")
        attrs["pads"] = (0, before, 0, after)
    if op.name == "concat":
        attrs["axis"] = 1
    return attrs
