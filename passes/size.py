"""How large a graph is: operations, bytes of constants, and arithmetic."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import lru_cache

from leptonc.ir.dims import Dim, Expr, substitute, symbols
from leptonc.ir.graph import Graph, Op, Value
from leptonc.ir.table import Trait
from leptonc.ir.types import TensorType

NO_WORK = frozenset({"const", "dims", "return", "group", "if", "loop", "scan"})
"""Operations that compute nothing themselves; what is inside them counts."""
SILENT = frozenset({"const", "dims", "return", "group"})
"""Operations that are no nodes of a model."""


@dataclass(frozen=True, slots=True)
class Size:
    """Sizes of a graph, those of inner regions included, each region counted once."""

    nodes: int = 0
    constant_bytes: int = 0
    """Constants that share their data count once."""
    flops: int = 0
    """Multiplications and additions; extents that are open count as 1."""


_Work = dict[Op, tuple[TensorType, int]]


@dataclass
class GraphSizes:
    """Measures graphs; what has not changed since it was last asked for is not looked at again."""

    _version: int = field(default=-1, init=False)
    _last: Size = field(default_factory=Size, init=False)
    _work: _Work = field(default_factory=dict[Op, tuple[TensorType, int]], init=False)

    def of(self, graph: Graph) -> Size:
        """The size of the graph as it is."""
        if graph.version != self._version:
            self._version = graph.version
            self._last, self._work = _measured(graph, self._work)
        return self._last


def size_of(graph: Graph) -> Size:
    """The size of a graph."""
    return _measured(graph, {})[0]


def _measured(graph: Graph, before: _Work) -> tuple[Size, _Work]:
    """The size, and the arithmetic of each operation with the type that its result had."""
    nodes, flops = 0, 0
    data, work = dict[int, int](), _Work()
    for op in graph.walk():
        if op.name == "const":
            blob = op.result.blob
            if blob is not None:
                data[id(blob)] = (blob.size * blob.type.dtype.width + 7) // 8
            continue
        if op.name in SILENT or not op.results:
            continue
        nodes += 1
        type = op.results[0].type
        known = before.get(op)
        if known is None or known[0] is not type:
            known = type, flops_of(op)
        work[op] = known
        flops += known[1]
    return Size(nodes, sum(data.values()), flops), work


def flops_of(op: Op) -> int:
    """The arithmetic of one operation, roughly: movement is free, products count two a term."""
    definition = op.definition
    if op.name in NO_WORK or not op.results:
        return 0
    if definition.has(Trait.PRODUCT):
        return 2 * _terms(op)
    if definition.has(Trait.INJECTIVE) or definition.has(Trait.VIEW):
        return 0
    if definition.has(Trait.SHAPE_ONLY):
        return 0
    given = max((_elements(value) for value in op.operands), default=0)
    made = max(_elements(value) for value in op.results)
    return made if definition.has(Trait.ELEMENTWISE) else max(given, made)


def _terms(op: Op) -> int:
    """How many products of two elements a product adds up."""
    sizes = [_elements(value) for value in (*op.operands[:2], op.results[0])]
    if len(sizes) < 3 or 0 in sizes:
        return 0
    shapes = [value.type.shape for value in op.operands[:2]]
    if op.name in ("conv", "integer_conv", "conv_transpose", "deform_conv"):
        apart = sizes[0] if op.name == "conv_transpose" else sizes[2]
        return apart * sizes[1] // max(_extent(shapes[1][0]), 1)
    if op.name in ("matmul", "linear") and shapes[0]:
        return sizes[2] * _extent(shapes[0][-1])
    if op.name == "attention" and len(shapes[1]) >= 2:
        return (sizes[0] + sizes[2]) * _extent(shapes[1][-2])
    # of a matrix product without a batch the geometric mean of M*K, K*N and M*N, cubed, is exact
    return math.isqrt(sizes[0] * sizes[1] * sizes[2])


def _elements(value: Value) -> int:
    return _count(value.type.shape)


@lru_cache(maxsize=4096)  # few shapes, asked for after each pass
def _count(shape: tuple[Dim, ...]) -> int:
    return math.prod(map(_extent, shape))


def _extent(dim: Dim) -> int:
    if not isinstance(dim, Expr):
        return dim
    known = substitute(dim, dict.fromkeys(symbols(dim), 1))
    return max(known, 1) if isinstance(known, int) else 1
