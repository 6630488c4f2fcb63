"""The ONNX form of operations that are not one ONNX operator."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from onnx import GraphProto, TensorProto

from leptonc.ir.blob import Blob
from leptonc.ir.build import infer_content
from leptonc.ir.diagnostics import LeptonError
from leptonc.ir.dims import Call, Dim, Expr, Symbol, symbols
from leptonc.ir.graph import Op, Value

if TYPE_CHECKING:
    from leptonc.onnx_export import Exporter

REGION_NAMES: Mapping[str, tuple[str, ...]] = MappingProxyType({
    "if": ("then_branch", "else_branch"), "loop": ("body",), "scan": ("body",),
})  # fmt: skip
"""The attributes that regions become."""

EXPLICIT = frozenset({"mean_variance_normalization"})
"""Operations written with all their attributes: ONNX's checker forgets the default of one."""

VARIADIC = frozenset({"split", "if", "loop", "scan"})
"""Operations whose results all have to be named, read or not."""


class SymbolSources:
    """Where the size of each symbol can be read: a value and one of its axes."""

    def __init__(self) -> None:
        self._found: dict[str, tuple[str, int]] = {}

    def add(self, value: Value, name: str) -> None:
        """Note the symbols that are the whole of one of the value's extents."""
        for axis, dim in enumerate(value.type.shape):
            if isinstance(dim, Expr) and (text := str(dim)) in symbols(dim):
                self._found.setdefault(text, (name, axis))

    def of(self, symbol: str) -> tuple[str, int] | None:
        """The name of a value and the axis whose extent is `symbol`."""
        return self._found.get(symbol)


class _Extents:
    """Writes extents as nodes; each gives a tensor of one i64 element."""

    def __init__(self, exporter: Exporter, proto: GraphProto, op: Op) -> None:
        self.exporter, self.proto, self.op = exporter, proto, op

    def node(self, op_type: str, *operands: str, **attributes: int) -> str:
        name = self.exporter.fresh_name(f"{self.op.result.name or 'dims'}_{op_type.lower()}")
        self.exporter.emit(self.proto, op_type, operands, [name], name, attributes)
        return name

    def constant(self, *numbers: int) -> str:
        return self.exporter.constant(self.proto, Blob.of(np.array(numbers, np.int64)), "extent")

    def of(self, dim: Dim) -> str:
        """The name of a tensor that holds `dim`."""
        if isinstance(dim, int):
            return self.constant(dim)
        total = ""
        for monomial, factor in dim.terms:
            parts = [self._atom(atom) for atom in monomial]
            if factor != 1 or not parts:
                parts.append(self.constant(factor))
            term = parts[0]
            for part in parts[1:]:
                term = self.node("Mul", term, part)
            total = self.node("Add", total, term) if total else term
        return total

    def _atom(self, atom: Symbol | Call) -> str:
        if isinstance(atom, Symbol):
            return self._symbol(atom.name)
        left, right = (self.of(arg) for arg in atom.args)
        if atom.function != "floordiv":
            return self.node(atom.function.title(), left, right)
        rest = self.node("Mod", left, right)  # Div rounds to zero, floordiv down
        return self.node("Div", self.node("Sub", left, rest), right)

    def _symbol(self, name: str) -> str:
        found = self.exporter.sources.of(name)
        if found is None:
            raise LeptonError(
                f"no value has the extent {name}, so it cannot be written as a Shape",
                self.op.location,
                code="E022",
            )
        value, axis = found
        return self.node("Shape", value, start=axis, end=axis + 1)


def _dims(exporter: Exporter, proto: GraphProto, op: Op) -> None:
    content = op.results[0].content
    if content is None:
        content = infer_content(op)
    assert content is not None
    extents = _Extents(exporter, proto, op)
    parts = [extents.of(dim) for dim in content.reshape(-1)]
    flat = extents.node("Concat", *parts, axis=0) if parts else extents.constant()
    shaped = extents.node("Reshape", flat, extents.constant(*content.shape))
    name = exporter.names[op.result]
    from leptonc.onnx_tensor import ONNX_OF_DTYPE

    exporter.emit(
        proto, "Cast", [shaped], [name], name, {"to": ONNX_OF_DTYPE[op.result.type.dtype]}
    )


def _linear(exporter: Exporter, proto: GraphProto, op: Op) -> None:
    """One Gemm where there is something to save by it, else a product and a sum."""
    x, w, bias = op.operand("x"), op.operand("w"), op.operand("bias")
    assert x is not None
    assert w is not None
    name, node = exporter.names[op.result], "+".join(op.location.nodes)[:200]
    operands = [exporter.names[x], exporter.names[w]]
    transposed = bool(op.attrs.get("transposed"))
    # of integers onnxruntime has products only
    if x.type.rank == 2 and x.type.dtype.is_float and (transposed or bias is not None):
        operands += [exporter.names[bias]] if bias is not None else []
        exporter.emit(proto, "Gemm", operands, [name], node, {"transB": 1} if transposed else {})
        return
    if transposed:
        operands[1] = exporter.fresh_name(f"{name}_transposed")
        exporter.emit(
            proto, "Transpose", [exporter.names[w]], [operands[1]], node, {"perm": (1, 0)}
        )
    if bias is None:
        exporter.emit(proto, "MatMul", operands, [name], node)
        return
    product = exporter.fresh_name(f"{name}_product")
    exporter.emit(proto, "MatMul", operands, [product], node)
    exporter.emit(proto, "Add", [product, exporter.names[bias]], [name], f"{node}_bias")


def _linear_bytes(exporter: Exporter, proto: GraphProto, op: Op) -> None:
    """A product with what the bytes stand for."""
    names = [exporter.names[value] for value in op.operands]
    name, node = exporter.names[op.result], "+".join(op.location.nodes)[:200]
    weight = exporter.fresh_name(f"{name}_weight")
    if len(names) > 2:
        attributes = {"axis": 0, "block_size": op.int("block_size")}
        exporter.need(21, op)
        exporter.emit(proto, "DequantizeLinear", names[1:], [weight], f"{node}_weight", attributes)
    else:
        exporter.emit(
            proto, "Cast", names[1:], [weight], f"{node}_weight", {"to": TensorProto.FLOAT}
        )
    exporter.emit(proto, "MatMul", [names[0], weight], [name], node)


Rule: TypeAlias = "Callable[[Exporter, GraphProto, Op], None]"

EXPORT: Mapping[str, Rule] = MappingProxyType({
    "dims": _dims, "linear": _linear, "linear_bytes": _linear_bytes,
})  # fmt: skip
"""How the operations that only leptonc has are written."""
