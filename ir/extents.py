"""All extents that a graph is written with: in types, known content and attributes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import cast

import numpy as np

from leptonc.ir.dims import Dim, Expr
from leptonc.ir.graph import Graph, Op, Value


def map_extents(graph: Graph, of: Callable[[Dim], Dim]) -> None:
    """Put `of` each extent in its place."""
    for value in _values(graph):
        if not value.type.is_static:
            value.type = value.type.with_shape(*map(of, value.type.shape))
        if value.content is not None:
            dims = [of(dim) for dim in value.content.reshape(-1)]
            content = np.empty(len(dims), object)
            content[:] = dims
            value.content = content.reshape(value.content.shape)
    for op in graph.walk():
        for name, dims in _attributes(op):
            changed = tuple(map(of, dims))
            if changed != dims:
                op.set_attr(name, changed)


def open_extents(graph: Graph) -> set[Expr]:
    """Those that are not known."""
    found: set[object] = set()
    for value in _values(graph):
        found.update(value.type.shape)
        if value.content is not None:
            found.update(value.content.reshape(-1))
    for op in graph.walk():
        for _, dims in _attributes(op):
            found.update(dims)
    return {dim for dim in found if isinstance(dim, Expr)}


def _values(graph: Graph) -> Iterator[Value]:
    yield from graph.inputs
    for op in graph.walk():
        for region in op.regions:
            yield from region.inputs
        yield from op.results


def _attributes(op: Op) -> Iterator[tuple[str, tuple[Dim, ...]]]:
    """The attributes that hold extents."""
    for name, attr in op.definition.attrs.items():
        dims = op.attrs[name]
        if attr.kind == "dims" and isinstance(dims, tuple):
            yield name, cast(tuple[Dim, ...], dims)
