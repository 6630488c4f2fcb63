"""Operators of onnxruntime's own that stand for several of ONNX's, where a user allows them.

A table says which operation each begins with, and how the operations before it are taken in. What
is taken in has no other reader, and is written by the operator that took it.

Measured with onnxruntime 1.32 on one thread, its own optimisation on and off, each of these is at
least as fast as what it stands for. Left out for being slower are SkipLayerNormalization (5 to 7
times) and SkipSimplifiedLayerNormalization (1.2 to 2.5 times); MultiHeadAttention takes 1.1 to 1.6
times as long as Attention up to 200 places, and RotaryEmbedding just as long as ONNX's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, TypeAlias

from onnx import GraphProto

from leptonc.ir.graph import Attribute, Graph, Op, Region, Value
from leptonc.ir.types import DType
from leptonc.onnx_export_nodes import node_name

if TYPE_CHECKING:
    from leptonc.onnx_export import Exporter

MICROSOFT = "com.microsoft"


@dataclass(frozen=True)
class Fused:
    """One node in place of several operations, the last of which gives its results."""

    op_type: str
    operands: tuple[Value | None, ...]
    attributes: Mapping[str, Attribute]
    absorbed: tuple[Op, ...]


@dataclass(frozen=True)
class FusedPlan:
    """What is written as one node, by its last operation; the absorbed ones are not written."""

    fused: Mapping[Op, Fused] = field(default_factory=dict[Op, Fused])
    absorbed: frozenset[Op] = frozenset()


def export_fused(exporter: Exporter, proto: GraphProto, op: Op, found: Fused) -> None:
    """Write the node of several operations."""
    names = exporter.names
    operands = ["" if value is None else names[value] for value in found.operands]
    name, result = "+".join(map(node_name, (*found.absorbed, op)))[:200], [names[op.result]]
    exporter.emit(proto, found.op_type, operands, result, name, found.attributes, MICROSOFT)
    exporter.domains[MICROSOFT] = 1


Form: TypeAlias = "Callable[[Op], Fused | None]"


def plan_fused(graph: Graph, domains: frozenset[str]) -> FusedPlan:
    """What of `graph` is written by operators of `domains`."""
    if MICROSOFT not in domains:
        return FusedPlan()
    fused: dict[Op, Fused] = {}
    taken = set[Op]()
    for region in _regions(graph):
        for op in reversed(list(region)):
            if op in taken:
                continue
            for form in FORMS.get(op.name, ()):
                found = form(op)
                if found is not None and taken.isdisjoint(found.absorbed):
                    fused[op] = found
                    taken.update(found.absorbed)
                    break
    return FusedPlan(fused, frozenset({*taken, *_idle_constants(fused, taken)}))


def _regions(region: Region) -> Iterator[Region]:
    waiting = [region]
    while waiting:
        part = waiting.pop()
        yield part
        waiting.extend(inner for op in part for inner in op.regions)


def _idle_constants(fused: Mapping[Op, Fused], taken: set[Op]) -> Iterator[Op]:
    """The constants that only absorbed operations would have read."""
    read = {value for found in fused.values() for value in found.operands}
    gone = {*taken, *fused}
    for op in gone:
        for value in op.operands:
            if value.blob is not None and value not in read and gone.issuperset(value.users):
                assert value.producer is not None
                yield value.producer


def _only(value: Value | None, *names: str) -> Op | None:
    """What computes `value`, where it is one of `names` and nothing else reads it."""
    op = None if value is None else value.producer
    if value is None or op is None or op.name not in names or value.use_count != 1:
        return None
    return op if len(op.results) == 1 else None


def _is_plain(op: Op) -> bool:
    """True for numbers that those kernels take."""
    return op.results[0].type.dtype is DType.F32


# -- activations of products

ACTIVATIONS = MappingProxyType({
    "relu": "Relu", "sigmoid": "Sigmoid", "tanh": "Tanh", "leaky_relu": "LeakyRelu",
    "hard_sigmoid": "HardSigmoid", "clip": "Clip",
})  # fmt: skip


def _parameters(op: Op) -> tuple[float, ...] | None:
    """The numbers of an activation; None where they are known at run time only."""
    if op.name == "leaky_relu":
        return (op.float("alpha"),)
    if op.name == "hard_sigmoid":
        return op.float("alpha"), op.float("beta")
    if op.name != "clip":
        return ()
    limits = [op.operand(name) for name in op.operand_names[1:]]
    blobs = [value.blob for value in limits if value is not None]
    if len(limits) != 2 or len(blobs) != 2 or None in blobs:
        return None
    return tuple(float(blob.array.reshape(-1)[0]) for blob in blobs if blob is not None)


def _active_conv(op: Op) -> Fused | None:
    """A convolution with its activation."""
    conv, numbers = _only(op.operands[0], "conv"), _parameters(op)
    if conv is None or numbers is None or not _is_plain(op):
        return None
    kept = {key: value for key, value in conv.attrs.items() if value is not None}
    attributes: dict[str, Attribute] = {**kept, "activation": ACTIVATIONS[op.name]}
    if numbers:
        attributes["activation_params"] = numbers
    operands = (conv.operands[0], conv.operands[1], conv.operand("bias"))
    return Fused("FusedConv", _trimmed(operands), attributes, (conv,))


def _active_gemm(op: Op) -> Fused | None:
    """A linear layer on rows with its activation."""
    linear = _only(op.operands[0], "linear")
    if linear is None or not _is_plain(op) or op.name in ("clip", "hard_sigmoid"):
        return None
    x, bias = linear.operands[0], linear.operand("bias")
    if x.type.rank != 2 or bias is None:
        return None
    attributes: dict[str, Attribute] = {"activation": ACTIVATIONS[op.name]}
    if op.name == "leaky_relu":
        attributes["activation_alpha"] = op.float("alpha")
    if linear.attrs.get("transposed"):
        attributes["transB"] = 1
    return Fused("FusedGemm", (x, linear.operands[1], bias), attributes, (linear,))


def _trimmed(operands: tuple[Value | None, ...]) -> tuple[Value | None, ...]:
    return operands if operands[-1] is not None else operands[:-1]


# -- activations alone


def _gelu(op: Op) -> Fused | None:
    """A GELU with the row that was added before."""
    if not _is_plain(op):
        return None
    x = op.operands[0]
    if op.attrs.get("approximate") == "tanh":
        return Fused("FastGelu", (x,), {}, ())
    add = _only(x, "add")
    if add is None:
        return None
    for value, row in (add.operands, add.operands[::-1]):
        if row.blob is not None and row.type.rank == 1 and value.type == x.type:
            return Fused("BiasGelu", (value, row), {}, (add,))
    return None


def _swish(op: Op) -> Fused | None:
    """X times the sigmoid of a multiple of it."""
    if not _is_plain(op):
        return None
    return Fused("QuickGelu", (op.operands[0],), {"alpha": op.float("alpha")}, ())


# -- products


def _scaled_product(op: Op) -> Fused | None:
    """A product times one number, of matrices that may lie the other way round."""
    for value, factor in (op.operands, op.operands[::-1]):
        product, number = _only(value, "matmul"), factor.blob
        if product is None or number is None or number.size != 1 or not _is_plain(op):
            continue
        if product.result.type == op.result.type:
            return _product(product, float(number.array.reshape(-1)[0]), (product,))
    return None


def _turned_product(op: Op) -> Fused | None:
    """A product of matrices that lie the other way round."""
    found = _product(op, 1.0, ())
    return found if found.absorbed else None


def _product(op: Op, alpha: float, absorbed: tuple[Op, ...]) -> Fused:
    operands, attributes = list(op.operands), dict[str, Attribute]({"alpha": alpha})
    for at, side in enumerate("AB"):
        turn = _only(operands[at], "transpose")
        rank = operands[at].type.rank
        swapped = (*range(rank - 2), rank - 1, rank - 2)
        if turn is not None and _is_plain(op) and rank > 1 and turn.attrs.get("perm") == swapped:
            operands[at] = turn.operands[0]
            attributes[f"trans{side}"] = 1
            absorbed = (*absorbed, turn)
    return Fused("FusedMatMul", tuple(operands), attributes, absorbed)


FORMS: Mapping[str, tuple[Form, ...]] = MappingProxyType({
    **dict.fromkeys(ACTIVATIONS, (_active_conv, _active_gemm)),
    "gelu": (_gelu,), "swish": (_swish,), "mul": (_scaled_product,), "matmul": (_turned_product,),
})  # fmt: skip
"""By the operation that comes last: what it may be written as, the first that fits."""
