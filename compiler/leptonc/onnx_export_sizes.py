"""Extents as ONNX nodes: read where a tensor has them, computed where none has, and each once."""

from __future__ import annotations

import math
from collections import ChainMap
from collections.abc import Generator, Hashable, MutableMapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from onnx import GraphProto

from leptonc.ir.blob import Blob
from leptonc.ir.build import infer_content
from leptonc.ir.diagnostics import LeptonError
from leptonc.ir.dims import Call, Dim, Expr, Symbol, bounds, floordiv
from leptonc.ir.graph import Op, Value
from leptonc.ir.types import DType
from leptonc.onnx_tensor import ONNX_OF_DTYPE

if TYPE_CHECKING:
    from leptonc.onnx_export import Exporter


PARTS_SINCE = 15
"""The opset of a Shape of some extents."""

LIMITS_SINCE = 12
"""The opset of a Max and a Min of integers."""


class Place(NamedTuple):
    """One axis of a tensor that is written already, or one element of a row of extents."""

    name: str
    axis: int
    shape: tuple[Dim, ...]
    is_element: bool = False


class Sizes:
    """What has been written so far and has extents to read, and the extents that were computed.

    A region sees what the regions around it have, but not what they get after it.
    """

    def __init__(self) -> None:
        self.places: MutableMapping[Expr, Place] = {}
        self.written: MutableMapping[Hashable, str] = {}

    def add(self, value: Value, name: str) -> None:
        """Note the extents of a value that only run time tells."""
        for axis, dim in enumerate(value.type.shape):
            if isinstance(dim, Expr) and dim not in self.places:
                self.places[dim] = Place(name, axis, value.type.shape)

    def add_elements(self, name: str, dims: Sequence[Dim]) -> None:
        """Note a row that holds extents."""
        for index, dim in enumerate(dims):
            if isinstance(dim, Expr) and dim not in self.places:
                self.places[dim] = Place(name, index, tuple(dims), is_element=True)

    @contextmanager
    def inside(self) -> Generator[None]:
        """A region: what is noted in it is forgotten after it."""
        outside = self.places, self.written
        self.places, self.written = ChainMap({}, self.places), ChainMap({}, self.written)
        yield
        self.places, self.written = outside


class SizeWriter:
    """Writes extents for one operation; each node gives a row of i64 elements."""

    def __init__(self, exporter: Exporter, proto: GraphProto, op: Op) -> None:
        self.exporter, self.proto, self.op = exporter, proto, op
        self.sizes = exporter.sizes

    def node(self, op_type: str, *operands: str, **attributes: int) -> str:
        """The result of a node, which is written where none like it has been."""
        key = (op_type, operands, tuple(attributes.items()))
        if (known := self.sizes.written.get(key)) is not None:
            return known
        wanted = self.op.results[0].name or "dims"
        name = self.exporter.fresh_name(f"{wanted}_{op_type.lower()}")
        self.exporter.emit(self.proto, op_type, operands, [name], name, attributes)
        self.sizes.written[key] = name
        return name

    def constant(self, *numbers: int) -> str:
        """The name of a row of numbers."""
        if (known := self.sizes.written.get(numbers)) is None:
            blob = Blob.of(np.array(numbers, np.int64))
            known = self.exporter.constant(self.proto, blob, "extent")
            self.sizes.written[numbers] = known
        return known

    def of(self, dim: Dim) -> str:
        """The name of a row that holds `dim` alone."""
        if isinstance(dim, int):
            return self.constant(dim)
        if (known := self.sizes.written.get(dim)) is not None:
            return known
        if (place := self.sizes.places.get(dim)) is not None:
            return self._read(place, 1)
        name = self.sizes.written[dim] = self._computed(dim)
        return name

    def _computed(self, dim: Expr) -> str:
        """The name of a row that holds `dim`, which nothing that is written has."""
        shared = math.gcd(*(factor for _, factor in dim.terms))
        if shared > 1 and len(dim.terms) > 1:
            return self._scaled(self.of(floordiv(dim, shared)), shared)
        total = ""
        rest: Dim = dim
        for atom, factor in _remainders(dim):
            a, b = atom.args
            term = self._scaled(self.node("Mod", self.of(a), self.of(b)), factor)
            total = self.node("Add", total, term) if total else term
            rest = rest - (a - Expr({(atom,): 1}) * b) * factor
        for monomial, factor in rest.terms if isinstance(rest, Expr) else (((), rest),):
            if factor:
                term = self._product(monomial, factor)
                total = self.node("Add", total, term) if total else term
        return total

    def _scaled(self, name: str, factor: int) -> str:
        return name if factor == 1 else self.node("Mul", name, self.constant(factor))

    def row(self, dims: Sequence[Dim]) -> str:
        """The name of a row that holds `dims`; extents beside each other are read at once."""
        if not dims:
            return self.constant()
        parts: list[str] = []
        at = 0
        while at < len(dims):
            part, count = self._longest(dims[at:])
            parts.append(part)
            at += count
        return parts[0] if len(parts) == 1 else self.node("Concat", *parts, axis=0)

    def scalar(self, dim: Dim) -> str:
        """The name of a tensor of rank 0 that holds `dim`."""
        place = self.sizes.places.get(dim) if isinstance(dim, Expr) else None
        if place is not None and len(place.shape) == 1 and not place.is_element:
            return self.node("Size", place.name)
        return self.node("Squeeze", self.of(dim))

    def _longest(self, dims: Sequence[Dim]) -> tuple[str, int]:
        """The name of a row that holds the first of `dims`, and how many those are."""
        first, count = dims[0], 1
        if isinstance(first, int):
            while count < len(dims) and isinstance(dims[count], int):
                count += 1
            return self.constant(*dims[:count]), count  # pyright: ignore[reportArgumentType]
        place = self.sizes.places.get(first)
        if place is None:
            return self.of(first), 1
        following = place.shape[place.axis :]
        while count < min(len(dims), len(following)) and dims[count] == following[count]:
            count += 1
        while 1 < count < len(dims) and isinstance(dims[count - 1], int):
            count -= 1  # the numbers that follow are one constant
        return self.of(first) if count == 1 else self._read(place, count), count

    def _read(self, place: Place, count: int) -> str:
        start, end = place.axis, place.axis + count
        if place.is_element:
            if count == len(place.shape):
                return place.name
            return self.node("Gather", place.name, self.constant(*range(start, end)))
        if (start, end) == (0, len(place.shape)):
            return self.node("Shape", place.name)
        if (self.exporter.asked or PARTS_SINCE) < PARTS_SINCE:
            whole = self.node("Shape", place.name)
            return self.node("Gather", whole, self.constant(*range(start, end)))
        return self.node("Shape", place.name, start=start, end=end)

    def _product(self, monomial: Sequence[Symbol | Call], factor: int) -> str:
        parts = [self._atom(atom) for atom in monomial]
        if factor != 1 or not parts:
            parts.append(self.constant(factor))
        term = parts[0]
        for part in parts[1:]:
            term = self.node("Mul", term, part)
        return term

    def _atom(self, atom: Symbol | Call) -> str:
        place = self.sizes.places.get(Expr({(atom,): 1}))
        if place is not None:
            return self._read(place, 1)
        if isinstance(atom, Symbol):
            raise LeptonError(
                f"no value has the extent {atom.name}, so it cannot be written as a Shape",
                self.op.location,
                code="E022",
            )
        left, right = (self.of(arg) for arg in atom.args)
        if atom.function == "broadcast":  # the larger, or 0 where one of them is
            self.exporter.require("Max", LIMITS_SINCE)
            least = self.node("Min", left, right, self.constant(1))
            return self.node("Mul", self.node("Max", left, right), least)
        if atom.function != "floordiv":
            self.exporter.require(atom.function.title(), LIMITS_SINCE)
            return self.node(atom.function.title(), left, right)
        if all(bounds(arg)[0] >= 0 for arg in atom.args):
            return self.node("Div", left, right)
        rest = self.node("Mod", left, right)  # Div rounds to zero, floordiv down
        return self.node("Div", self.node("Sub", left, rest), right)


def _remainders(dim: Expr) -> list[tuple[Call, int]]:
    """The divisions in a sum that with other terms of it are remainders, and how often they are."""
    found: list[tuple[Call, int]] = []
    for monomial, factor in dim.terms:
        match monomial:
            case (Call("floordiv", (a, int(by))) as atom,) if by > 0 and factor % by == 0:
                times = -factor // by
                rest = dim - (a - Expr({monomial: 1}) * by) * times
                if not isinstance(rest, Expr) or len(rest.terms) < len(dim.terms):
                    found.append((atom, times))
            case _:
                pass
    return found[:1]


def export_dims(exporter: Exporter, proto: GraphProto, op: Op) -> None:
    """Write the extents that an operation gives; the name of its result may be one that is there.

    The result has a name of its own where it is an output.
    """
    content = op.results[0].content
    if content is None:
        content = infer_content(op)
    assert content is not None
    writer, result = SizeWriter(exporter, proto, op), op.results[0]
    dims: list[Dim] = list(content.reshape(-1))
    name = writer.scalar(dims[0]) if content.ndim == 0 else writer.row(dims)
    if content.ndim > 1:
        name = writer.node("Reshape", name, writer.constant(*content.shape))
    if result.type.dtype is not DType.I64:
        name = writer.node("Cast", name, to=ONNX_OF_DTYPE[result.type.dtype])
    if any(user.name == "return" for user in result.users):
        exporter.emit(proto, "Identity", [name], [exporter.names[result]], exporter.names[result])
    else:
        exporter.names[result] = name
