"""Making operations: attributes completed, types inferred, small integer contents tracked."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from leptonc.ir.blob import Blob
from leptonc.ir.diagnostics import LeptonError
from leptonc.ir.dims import Dim, ExtentTooLargeError, substitute, symbols
from leptonc.ir.graph import Attribute, Content, Graph, Op, Region, Value
from leptonc.ir.location import UNKNOWN, Location
from leptonc.ir.table import CONST, RETURN, Inference, OpDef, op_named
from leptonc.ir.types import TensorType

CONTENT_LIMIT = 1024
"""Integer tensors up to this many elements have their contents tracked."""


def infer_types(op: Op | Inference) -> list[TensorType]:
    """The result types that the table infers; unknown extents are symbols that start with ``?``."""
    call = op if isinstance(op, Inference) else _call_of(op)
    types = call.definition.infer(call)
    return [types] if isinstance(types, TensorType) else list(types)


def _call_of(op: Op) -> Inference:
    return Inference(op.definition, op.operands, op.operand_names, op.attrs, op.regions)


def infer_content(op: Op) -> Content | None:
    """The result's elements as extents, for a small integer tensor that is known that far."""
    result = op.results[0]
    dtype = result.type.dtype
    if dtype.is_narrow or not (dtype.is_integer or dtype.value == "bool"):
        return None
    if not result.type.is_static or math.prod(result.type.extents) > CONTENT_LIMIT:
        return None
    if op.definition is CONST:
        blob = result.blob
        return blob.array.astype(object) if blob is not None and not blob.is_absent else None
    try:
        return op.definition.content(_call_of(op)) if op.definition.content is not None else None
    except ExtentTooLargeError:
        return None  # run time will tell


class Builder:
    """Appends operations to a region, or inserts them before an anchor.

    ``build.add(x, y)``, ``build.concat(a, b, axis=1)``, ``build.gemm(a, b, bias=c)``: positional
    arguments fill operands in order, keyword arguments are optional operands or attributes.
    `ops` names several results: ``build.op("split", [x], {...}).results``.
    """

    def __init__(
        self,
        region: Region,
        *,
        before: Op | None = None,
        location: Location = UNKNOWN,
        graph: Graph | None = None,
    ) -> None:
        self.region, self.anchor, self.location = region, before, location
        self._graph = graph
        self.made: list[Op] = []

    def __getattr__(self, name: str) -> Callable[..., Value]:
        definition = op_named(name.rstrip("_"))
        if definition is None:
            raise AttributeError(f"there is no operation {name!r}")

        def make(*operands: Value, **named: Value | Attribute) -> Value:
            optional = {k: v for k, v in named.items() if isinstance(v, Value)}
            attrs = {k: v for k, v in named.items() if not isinstance(v, Value)}
            values = (*operands, *optional.values())
            names = definition.slot_names(len(values), tuple(optional)) if optional else None
            return self.op(definition, values, attrs, names=names).result

        return make

    def op(
        self,
        definition: OpDef | str,
        operands: Sequence[Value],
        attrs: Mapping[str, Attribute] | None = None,
        *,
        names: Sequence[str] | None = None,
        regions: Sequence[Region] = (),
        result_types: Sequence[TensorType] | None = None,
    ) -> Op:
        """Make one operation; its types are inferred unless given. Errors carry the location."""
        row = op_named(definition) if isinstance(definition, str) else definition
        if row is None:
            raise LeptonError(f"unknown operation {definition}", self.location, code="E001")
        try:
            complete = row.complete(attrs or {})
            slots = row.slot_names(len(operands), names)
            if result_types is None:
                call = Inference(row, operands, slots, complete, regions)
                result_types = self._known(infer_types(call))
        except LeptonError as error:
            if error.location == UNKNOWN:
                error.location = self.location
            raise
        op = Op(
            row,
            operands,
            result_types,
            operand_names=slots,
            attrs=complete,
            regions=regions,
            location=self.location,
        )
        if op.results:
            op.results[0].content = infer_content(op)
        if self.anchor is not None:
            self.region.insert_before(self.anchor, op)
        else:
            self.region.append(op)
        self.made.append(op)
        return op

    def const(self, data: Blob | np.ndarray) -> Value:  # pyright: ignore[reportMissingTypeArgument, reportUnknownParameterType]
        """A compile-time constant."""
        blob = data if isinstance(data, Blob) else Blob.of(data)  # pyright: ignore[reportUnknownArgumentType]
        return self.op(CONST, (), {"value": blob}).result

    def return_(self, *values: Value) -> Op:
        """Close the region."""
        return self.op(RETURN, values)

    def _known(self, types: Sequence[TensorType]) -> list[TensorType]:
        """Fresh symbols in place of the extents that inference left unknown."""
        if all(type.is_static for type in types):
            return list(types)
        names = {
            name
            for type in types
            for dim in type.shape
            for name in symbols(dim)
            if name.startswith("?")
        }
        if not names:
            return list(types)
        graph = self._graph if self._graph is not None else self.region.graph
        if graph is None:
            raise LeptonError(
                "a detached region cannot name unknown extents", self.location, code="E205"
            )
        fresh: dict[str, Dim] = {name: graph.fresh_dim() for name in sorted(names)}
        return [type.with_shape(*(substitute(dim, fresh) for dim in type.shape)) for type in types]
