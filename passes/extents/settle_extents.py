"""settle-extents: extents that an operation takes for equal are said to be, by views that check."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import ClassVar

from leptonc.ir.build import Builder, infer_types
from leptonc.ir.dims import Dim, floordiv
from leptonc.ir.graph import Graph, Op
from leptonc.ir.location import Location
from leptonc.ir.table import GROUP
from leptonc.passes.base import Pass
from leptonc.passes.constants import integers
from leptonc.passes.context import PassContext
from leptonc.passes.contract import EXACT, Contract
from leptonc.passes.refine import erase_dead_from, refines, update_types
from leptonc.passes.views import reshape_to

Wanted = Iterator[tuple[str, int, Dim]]
"""Operand, axis, and the extent that it has to have there."""


def _linear(op: Op) -> Wanted:
    outputs = 0 if op.attrs["transposed"] else 1
    yield "x", -1, op.operands[1].type.shape[1 - outputs]
    yield "bias", 0, op.operands[1].type.shape[outputs]


def _conv(op: Op) -> Wanted:
    weight = op.operand("w")
    assert weight is not None
    yield "x", 1, weight.type.shape[1] * op.int("group")
    yield "bias", 0, weight.type.shape[0]
    for name in ("offset", "mask"):  # of a deformable one
        yield name, 0, op.operands[0].type.shape[0]


def _conv_transpose(op: Op) -> Wanted:
    weight = op.operands[1].type
    yield "x", 1, weight.shape[0]
    yield "bias", 0, weight.shape[1] * op.int("group")


def _channels(op: Op) -> Wanted:
    """Rows of one number for each channel; what is known about one of them holds for all."""
    names = ("scale", "bias", "mean", "var")
    rows = [value.type.shape[0] for name in names if (value := op.operand(name)) is not None]
    known = [dim for dim in (op.operands[0].type.shape[1], *rows) if isinstance(dim, int)]
    channels = known[0] if known else op.operands[0].type.shape[1]
    yield "x", 1, channels
    for name in names:
        yield name, 0, channels


def _whole(dim: Dim, parts: int) -> Dim:
    """What is left of an extent that is divided into parts, and multiplied again."""
    return floordiv(dim, parts) * parts


def _depth(op: Op) -> Wanted:
    yield "x", 1, _whole(op.operands[0].type.shape[1], op.int("blocksize") ** 2)


def _space(op: Op) -> Wanted:
    for axis in (2, 3):
        yield "x", axis, _whole(op.operands[0].type.shape[axis], op.int("blocksize"))


def _split(op: Op) -> Wanted:
    axis = op.int("axis")
    lengths = [value.type.shape[axis] for value in op.results]
    if op.operand("split") is not None and all(isinstance(each, int) for each in lengths):
        yield "x", axis, sum(each for each in lengths if isinstance(each, int))


def _squeeze(op: Op) -> Wanted:
    for axis in integers(op.operand("axes")) or ():
        yield "x", axis, 1


def _trailing(op: Op) -> Wanted:
    """Scales of the last axes, which may be 1 where they broadcast."""
    x = op.operands[0].type
    for name in ("scale", "bias"):
        value = op.operand(name)
        for back, dim in enumerate(reversed(value.type.shape) if value is not None else ()):
            if isinstance(dim, int) and dim != 1:
                yield "x", x.rank - 1 - back, dim
    for name in ("scale", "bias"):
        value = op.operand(name)
        if value is not None:
            for axis, dim in enumerate(value.type.shape):
                if not isinstance(dim, int):
                    yield name, axis, x.shape[x.rank - value.type.rank + axis]


def _recurrent(op: Op) -> Wanted:
    x, w, r = (operand.type.shape for operand in op.operands[:3])
    batch_first = bool(op.int("layout"))
    batch = x[0] if batch_first else x[1]
    yield "x", 2, w[2]
    yield "sequence_lens", 0, batch
    for name in ("initial_h", "initial_c"):
        yield name, 0 if batch_first else 1, batch
        yield name, 2, r[2]


def _attention(op: Op) -> Wanted:
    q, k = op.operands[0].type.shape, op.operands[1].type.shape
    for name in ("k", "v"):
        yield name, 0, q[0]
    yield "v", len(k) - 2, k[-2]
    if len(k) == 4:
        yield "k", 3, q[3]


def _same_batch(op: Op) -> Wanted:
    yield "grid", 0, op.operands[0].type.shape[0]


def _batches(op: Op) -> Wanted:
    pairs = zip(op.operands[0].type.shape, op.operands[1].type.shape, strict=False)
    for axis, (dim, place) in enumerate(list(pairs)[: op.int("batch_dims")]):
        yield ("indices", axis, dim) if isinstance(dim, int) else ("x", axis, place)


def _updates(op: Op) -> Wanted:
    for axis, dim in enumerate(op.operands[1].type.shape):
        yield "updates", axis, dim


def _updated_slices(op: Op) -> Wanted:
    x, places = op.operands[0].type.shape, op.operands[1].type.shape
    depth = places[-1]
    if isinstance(depth, int):
        for axis, dim in enumerate((*places[:-1], *x[depth:])):
            yield "updates", axis, dim


def _reversed(op: Op) -> Wanted:
    yield "sequence_lens", 0, op.operands[0].type.shape[op.int("batch_axis")]


WANTED: Mapping[str, Callable[[Op], Wanted]] = MappingProxyType({
    "linear": _linear, "conv": _conv, "conv_integer": _conv, "qlinear_conv": _conv,
    "integer_conv": _conv,
    "deform_conv": _conv, "conv_transpose": _conv_transpose, "batch_normalization": _channels,
    "instance_normalization": _channels, "group_normalization": _channels,
    "layer_normalization": _trailing, "rms_normalization": _trailing,
    "rnn": _recurrent, "gru": _recurrent, "lstm": _recurrent, "attention": _attention,
    "grid_sample": _same_batch, "gather_nd": _batches, "scatter_elements": _updates,
    "scatter_nd": _updated_slices, "reverse_sequence": _reversed,
    "split": _split, "squeeze": _squeeze, "depth_to_space": _depth, "space_to_depth": _space,
})  # fmt: skip
"""By operation. Inference takes open extents for what is said here; numbers it compared."""


@dataclass(frozen=True)
class SettleExtents(Pass):
    """Puts views before operations that take open extents for equal, or for known ones.

    Such a view ends the run where it has another number of elements than what it views. Behind it
    the extents are known, and kernels are made for them.
    """

    name: ClassVar[str] = "settle-extents"
    numbers: ClassVar[Contract] = EXACT

    def run(self, graph: Graph, context: PassContext) -> None:
        """Look at each operation once, in program order."""
        for op in list(graph.walk()):
            wanted = WANTED.get(op.name)
            if wanted is not None and op.region is not None and not _in_group(op):
                self._settle(op, wanted, context)

    def _settle(self, op: Op, wanted: Callable[[Op], Wanted], context: PassContext) -> None:
        shapes = {
            name: list(value.type.shape)
            for name, value in zip(op.operand_names, op.operands, strict=True)
        }
        for name, axis, dim in wanted(op):
            shape = shapes.get(name)
            if shape is not None and not isinstance(shape[axis], int) and shape[axis] != dim:
                shape[axis] = dim
        before, made = op.operands, list[Op]()
        for slot, name in enumerate(op.operand_names):
            value, shape = op.operands[slot], tuple(shapes[name])
            if shape == value.type.shape or not context.grant(self.name, op.location):
                continue
            assert op.region is not None
            location = Location.fused([op.location], by=self.name)
            build = Builder(op.region, before=op, location=location)
            op.set_operand(slot, reshape_to(build, value, shape))
            made += build.made
        pairs = zip(infer_types(op), op.results, strict=True) if made else ()
        if not all(refines(new, result.type) for new, result in pairs):
            op.set_operands(before, op.operand_names)
            erase_dead_from(reversed(made))
        update_types([op])


def _in_group(op: Op) -> bool:
    return op.region is not None and op.region.parent is not None and (
        op.region.parent.definition is GROUP
    )  # fmt: skip
