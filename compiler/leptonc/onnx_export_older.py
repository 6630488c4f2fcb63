"""Models for older opsets: what came later spelled out, and nodes in their older forms."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import TypeAlias

import numpy as np
from onnx import AttributeProto, GraphProto, NodeProto, TensorProto

from leptonc.ir.blob import Blob
from leptonc.ir.build import Builder
from leptonc.ir.graph import Attribute, Graph, Op, Value
from leptonc.ir.table import DIMS
from leptonc.ir.types import DType
from leptonc.onnx_opsets import AXES_SINCE, OLDEST_OPSET, PARTS, operand_since
from leptonc.passes.refine import replace_value

# -- operators that an opset lacks


def _number(build: Builder, like: Value, value: float) -> Value:
    return build.const(np.array(value, like.type.dtype.numpy))


def _gelu(op: Op, build: Builder) -> Value:
    (x,) = op.operands
    half, one = _number(build, x, 0.5), _number(build, x, 1)
    if op.str("approximate") == "tanh":
        cube = build.mul(build.mul(x, x), build.mul(x, _number(build, x, 0.044715)))
        inner = build.mul(build.add(x, cube), _number(build, x, (2 / np.pi) ** 0.5))
        gate = build.tanh(inner)
    else:
        gate = build.erf(build.mul(x, _number(build, x, 0.5**0.5)))
    return build.mul(build.mul(x, half), build.add(gate, one))


def _mish(op: Op, build: Builder) -> Value:
    (x,) = op.operands
    return build.mul(x, build.tanh(build.softplus(x)))


def _hard_swish(op: Op, build: Builder) -> Value:
    (x,) = op.operands
    gate = build.op("hard_sigmoid", [x], {"alpha": 1 / 6, "beta": 0.5}).result
    return build.mul(x, gate)


def _mean(build: Builder, x: Value, axis: int) -> Value:
    axes = build.const(np.arange(axis, x.type.rank))
    return build.op("reduce_mean", [x, axes], names=("x", "axes")).result


def _wide(x: Value, build: Builder) -> Value:
    """X, where squares of it might be too large for its type in a wider one."""
    narrow = x.type.dtype.numpy.itemsize < 4
    return build.op("cast", [x], {"to": DType.F32}).result if narrow else x


def _narrow(y: Value, like: Value, build: Builder) -> Value:
    dtype = like.type.dtype
    return y if y.type.dtype is dtype else build.op("cast", [y], {"to": dtype}).result


def _scaled(op: Op, build: Builder, x: Value, axis: int) -> Value:
    """X over the root of the mean of its squares, times the scale, in the type of the operand."""
    variance = _mean(build, build.mul(x, x), axis)
    root = build.sqrt(build.add(variance, _number(build, x, op.float("epsilon"))))
    scale = op.operand("scale")
    normal = _narrow(build.div(x, root), op.operands[0], build)
    return normal if scale is None else build.mul(normal, scale)


def _layer_norm(op: Op, build: Builder) -> Value:
    x = _wide(op.operands[0], build)
    axis = op.int("axis") % x.type.rank
    centred = _scaled(op, build, build.sub(x, _mean(build, x, axis)), axis)
    bias = op.operand("bias")
    return centred if bias is None else build.add(centred, bias)


def _rms_norm(op: Op, build: Builder) -> Value:
    x = _wide(op.operands[0], build)
    return _scaled(op, build, x, op.int("axis") % x.type.rank)


def _turned_softmax(op: Op, build: Builder) -> Value:
    """The same along the last axis: others once took all that follow them as one."""
    (x,) = op.operands
    rank = x.type.rank
    axis = op.int("axis") % rank
    perm = tuple({axis: rank - 1, rank - 1: axis}.get(at, at) for at in range(rank))
    turned = build.op("transpose", [x], {"perm": perm}).result
    inner = build.op(op.definition, [turned], {**op.attrs, "axis": rank - 1}).result
    return build.op("transpose", [inner], {"perm": perm}).result


def _is_inner(op: Op) -> bool:
    rank = op.operands[0].type.rank
    return rank > 0 and op.int("axis") % rank != rank - 1


def _or_equal(op: Op, build: Builder) -> Value:
    strict = build.op(op.name.removesuffix("_or_equal"), op.operands).result
    return build.op("or", [strict, build.op("equal", op.operands).result]).result


def _shape(op: Op, build: Builder) -> Value:
    """All extents, and of these the ones that are wanted."""
    whole = build.shape(op.operands[0])
    end = op.attrs.get("end")
    limits = op.int("start"), op.operands[0].type.rank if end is None else end
    rows = [build.const(np.array([limit], np.int64)) for limit in (*limits, 0)]
    return build.op("slice", [whole, *rows]).result


def _is_part(op: Op) -> bool:
    return bool(op.int("start")) or op.attrs.get("end") is not None


def _triangle(op: Op, build: Builder) -> Value:
    """Places are compared: what lies on the other side of the diagonal is zero."""
    x = op.operands[0]
    zero, one = (build.const(np.array(number, np.int64)) for number in (0, 1))
    dims = [{"value": (dim,), "shape": ()} for dim in x.type.shape[-2:]]
    rows, columns = (build.range(zero, build.op(DIMS, [], each).result, one) for each in dims)
    places = build.sub(columns, build.reshape(rows, build.const(np.array([-1, 1], np.int64))))
    lost = build.less if op.int("upper") else build.greater
    k = op.operand("k")
    return build.where(lost(places, zero if k is None else k), _number(build, x, 0), x)


def _whole_clip(op: Op, build: Builder) -> Value:
    x, low, high = op.operands[0], op.operand("min"), op.operand("max")
    if low is not None:
        x = build.where(build.less(x, low), low, x)
    return x if high is None else build.where(build.greater(x, high), high, x)


def _is_whole(op: Op) -> bool:
    return not op.operands[0].type.dtype.is_float


Spell: TypeAlias = "Callable[[Op, Builder], Value]"

SINCE: Mapping[str, tuple[int, Spell]] = MappingProxyType({
    "gelu": (20, _gelu), "hard_swish": (14, _hard_swish), "mish": (18, _mish),
    "layer_normalization": (17, _layer_norm), "rms_normalization": (23, _rms_norm),
    **dict.fromkeys(("softmax", "log_softmax", "hardmax"), (13, _turned_softmax)),
    **dict.fromkeys(("less_or_equal", "greater_or_equal"), (12, _or_equal)), "shape": (15, _shape),
    "trilu": (14, _triangle), "clip": (12, _whole_clip),
})  # fmt: skip
"""Operations that came with an opset, and how they are computed without."""

ONLY: Mapping[str, Callable[[Op], bool]] = MappingProxyType({
    "softmax": _is_inner, "log_softmax": _is_inner, "hardmax": _is_inner, "shape": _is_part,
    "clip": _is_whole,
})  # fmt: skip
"""Which of them, where it is not all."""

ATTENTION_SINCE = 23
"""The opset of attention, which a pass spells out."""


def spell_out(graph: Graph, opset: int) -> int:
    """Replace what `opset` has no operator for, where it can be computed; return how much."""
    count = 0
    for op in list(graph.walk()):
        since, spell = SINCE.get(op.name, (0, None))
        if spell is None or since <= opset or _has_more_results(op) or op.region is None:
            continue
        if not ONLY.get(op.name, bool)(op):
            continue
        build = Builder(op.region, before=op, location=op.location)
        replace_value(op.results[0], spell(op, build))
        op.region.erase(op)
        count += 1
    return count


def _has_more_results(op: Op) -> bool:
    return any(value.is_used for value in op.results[1:])


# -- operators with an older form

FLOAT_MOD_SINCE = 28
"""Before, only integers had a remainder with the sign of the divisor."""


CHANNELS, CHANNELS_SINCE = ("QuantizeLinear", "DequantizeLinear"), 13
"""Before, tensors were quantised as a whole."""

LAST = ("Softmax", "LogSoftmax", "Hardmax")
LAST_SINCE = 13
"""Since then these are along the last axis by default, and other inputs of Resize optional."""


def idle_attributes(op_type: str, operands: Sequence[Value | None]) -> frozenset[str]:
    """Attributes that mean nothing with these operands, and that older forms do not have."""
    axes = operands[1] if op_type.startswith("Reduce") and len(operands) > 1 else None
    known = axes is not None and axes.blob is not None and 0 not in axes.type.shape
    return frozenset({"noop_with_empty_axes"} if known else ())


def needed_by_operands(
    op_type: str, operands: Sequence[Value | None], attributes: Mapping[str, Attribute]
) -> int:
    """The opset that a node needs for operands that older ones had as constants, or not at all."""
    if op_type == "Mod" and not attributes.get("fmod") and operands[0] is not None:
        return FLOAT_MOD_SINCE if operands[0].type.dtype.is_float else OLDEST_OPSET
    if op_type == "Split" and len(operands) == 1 and operands[0] is not None:
        return OLDEST_OPSET if _is_even(operands[0], attributes) else AXES_SINCE
    since, second = operand_since(op_type), operands[1] if len(operands) > 1 else None
    if op_type in CHANNELS and second is not None and second.type.rank:
        return CHANNELS_SINCE
    return since if since and second is not None and second.blob is None else OLDEST_OPSET


def _is_even(x: Value, attributes: Mapping[str, Attribute]) -> bool:
    """True where a split into parts has parts of one size."""
    axis, parts = attributes.get("axis", 0), attributes.get("num_outputs")
    assert isinstance(axis, int)
    extent = x.type.shape[axis]
    return isinstance(extent, int) and isinstance(parts, int) and extent % parts == 0


def write_as_of(opset: int, graph: GraphProto, blobs: Mapping[str, Blob]) -> None:
    """Give the nodes of a finished graph the form that `opset` has; `blobs` are its constants."""
    if opset >= AXES_SINCE:
        return
    graphs = list(_graphs(graph))
    freed = set[str]()
    for part in graphs:
        for node in part.node:
            if node.op_type == "Split" and not node.domain:
                kept = [item for item in node.attribute if item.name not in PARTS]
                del node.attribute[:]
                node.attribute.extend(kept)
            if opset < operand_since(node.op_type) and not node.domain and len(node.input) > 1:
                freed.add(node.input[1])
                _operand_to_attribute(node, blobs)
            if opset < LAST_SINCE and not node.domain:
                _fill_in(part, node)
    reads = Counter(name for part in graphs for node in part.node for name in node.input)
    reads.update(item.name for part in graphs for item in part.output)
    for part in graphs:
        names = [item.name for item in part.initializer]
        for at in reversed(range(len(names))):
            if names[at] in freed and not reads[names[at]]:
                del part.initializer[at]


def _operand_to_attribute(node: NodeProto, blobs: Mapping[str, Blob]) -> None:
    operand, name = node.input.pop(), "split" if node.op_type == "Split" else "axes"
    if operand:
        numbers = [int(number) for number in blobs[operand].array.reshape(-1)]
        node.attribute.add(name=name, type=AttributeProto.INTS, ints=numbers)


def _fill_in(graph: GraphProto, node: NodeProto) -> None:
    """Say what had another default, and give what could not be left out."""
    if node.op_type in LAST and not any(item.name == "axis" for item in node.attribute):
        node.attribute.add(name="axis", type=AttributeProto.INT, i=-1)
    if node.op_type == "Resize":
        for at in (1, 2):
            if not node.input[at]:
                node.input[at] = name = f"{node.output[0]}_no_{('roi', 'scales')[at - 1]}"
                graph.initializer.add(name=name, data_type=TensorProto.FLOAT, dims=[0])


def _graphs(graph: GraphProto) -> Iterator[GraphProto]:
    waiting = [graph]
    while waiting:
        part = waiting.pop()
        yield part
        waiting.extend(
            attribute.g
            for node in part.node
            for attribute in node.attribute
            if attribute.HasField("g")
        )
