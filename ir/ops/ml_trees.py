"""Rows that walk decision trees: for every row of the operand, the leaf that each tree ends in.

A step of a walk goes to the second of a node's two children where ``x[feature] <= threshold``, to
the first otherwise, for NaN too. Other comparisons and other ways for NaN are rewritten to that
before. Thresholds stand among integers as their bits, so that one load finds a whole node.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from leptonc.ir.blob import Array
from leptonc.ir.diagnostics import LeptonError
from leptonc.ir.ops.broadcasting import check_dtype, check_same_dtype
from leptonc.ir.table import Attr, Evaluation, Inference, define
from leptonc.ir.types import DType, TensorType

WALKED = 8
"""Trees are walked this many at a time: their count is a multiple of it."""

NODE_WORDS = 4
"""Words of a linked node: threshold, feature, place of its children, row of a leaf's values."""

AGGREGATES = ("sum", "min", "max")

_WORDS = {DType.F32: DType.I32, DType.F64: DType.I64}


def _wrong(call: Inference, what: str) -> LeptonError:
    return LeptonError(f"{call.definition.name}: {what}", code="E103")


def _check(call: Inference, node_rank: int, words: int) -> TensorType:
    """The type of the result, once everything that both layouts have in common fits."""
    check_dtype(call, "x", _WORDS)
    dtype = check_same_dtype(call, "x", "values", "base")
    x, nodes, base = call[0].type, call[1].type, call.type("base")
    assert base is not None
    if x.rank != 2 or base.rank != 1:
        raise _wrong(call, f"x is {x} and base {base}, should be of rank 2 and 1")
    if nodes.dtype is not _WORDS[dtype]:
        raise _wrong(call, f"nodes are {nodes.dtype} beside {dtype}, should be {_WORDS[dtype]}")
    if nodes.rank != node_rank or nodes.shape[-1] != words:
        raise _wrong(call, f"nodes are {nodes}, should have {node_rank} axes, the last of {words}")
    if call.str("aggregate") not in AGGREGATES:
        raise _wrong(call, f"aggregate is {call.attrs['aggregate']!r}, should be of {AGGREGATES}")
    features = call.int("features")
    extent = x.shape[1]
    if not isinstance(extent, int) or extent < features:
        raise _wrong(call, f"x is {x}, its trees ask for {features} features")
    return TensorType(dtype, (x.shape[0], *base.shape))


def _perfect_infer(call: Inference) -> TensorType:
    result = _check(call, 3, 2)
    trees, size = call[1].type.shape[:2]
    values, targets = call.type("values"), call.type("targets")
    assert values is not None
    tail = () if targets is not None or result.shape[1] == 1 else (result.shape[1],)
    if values.shape != (trees, size, *tail):
        raise _wrong(call, f"values are {values}, should be {[trees, size, *tail]}")
    if not isinstance(size, int) or size < 1 or size & (size - 1):
        raise _wrong(call, f"trees of {size} nodes, should be a power of two")
    _check_trees(call, trees)
    return result


def _linked_infer(call: Inference) -> TensorType:
    result = _check(call, 2, NODE_WORDS)
    values, targets = call.type("values"), call.type("targets")
    assert values is not None
    tail = () if targets is not None or result.shape[1] == 1 else (result.shape[1],)
    if values.shape[1:] != tail:
        raise _wrong(call, f"values are {values}, should be rows of {list(tail)}")
    depths = call.type("depths")
    assert depths is not None
    (groups,) = depths.shape
    if depths.dtype is not DType.I32 or not isinstance(groups, int):
        raise _wrong(call, f"depths are {depths}, should be i32")
    _check_trees(call, groups * WALKED)
    return result


def _check_trees(call: Inference, trees: object) -> None:
    targets = call.type("targets")
    if not isinstance(trees, int) or trees % WALKED or trees < WALKED:
        raise _wrong(call, f"there are {trees} trees, should be a multiple of {WALKED}")
    if targets is not None and (targets.shape != (trees,) or targets.dtype is not DType.I32):
        raise _wrong(call, f"targets are {targets}, should be i32[{trees}]")


def _aggregated(call: Evaluation, leaves: Iterator[Array]) -> Array:
    """The values of the leaves combined, from what `leaves` gives for one tree after another."""
    base, targets = call.get("base"), call.get("targets")
    assert base is not None
    combine: dict[str, Callable[[Array, Array], Array]] = {
        "sum": np.add, "min": np.minimum, "max": np.maximum,
    }  # fmt: skip
    function = combine[call.str("aggregate")]
    result = np.tile(base, (len(call[0]), 1))
    for tree, found in enumerate(leaves):
        if targets is not None:
            at = int(targets[tree])
            result[:, at] = function(result[:, at], found)
        else:
            result = function(result, found.reshape(result.shape))
    return result


def _perfect_evaluate(call: Evaluation) -> Array:
    x, nodes, values = call[0], call[1], call.get("values")
    assert values is not None
    rows = np.arange(len(x))

    def leaves() -> Iterator[Array]:
        for tree, leaf in zip(nodes, values, strict=True):
            thresholds = np.ascontiguousarray(tree[:, 0]).view(x.dtype)
            at = np.ones(len(x), np.int64)
            for _ in range(len(tree).bit_length() - 1):
                at = 2 * at + (x[rows, tree[at, 1]] <= thresholds[at])
            yield leaf[at - len(tree)]

    return _aggregated(call, leaves())


def _linked_evaluate(call: Evaluation) -> Array:
    x, nodes, values, depths = call[0], call[1], call.get("values"), call.get("depths")
    assert values is not None
    assert depths is not None
    rows, thresholds = np.arange(len(x)), np.ascontiguousarray(nodes[:, 0]).view(x.dtype)

    def leaves() -> Iterator[Array]:
        for tree in range(len(depths) * WALKED):
            at = np.full(len(x), tree, np.int64)
            for _ in range(int(depths[tree // WALKED])):
                step = x[rows, nodes[at, 1]] <= thresholds[at]
                at = nodes[at, 2] // NODE_WORDS + step
            yield values[nodes[at, 3]]

    return _aggregated(call, leaves())


_ATTRS = {"aggregate": Attr("str", "sum"), "features": Attr("int", required=True)}

PERFECT = define(
    "perfect_trees(x, nodes, values, base, targets?)",
    "What the leaves of trees of one depth give together; `nodes` are (threshold, feature), level "
    "by level from place 1 on, `targets` the column of each tree.",
    infer=_perfect_infer,
    evaluate=_perfect_evaluate,
    attrs=_ATTRS,
)

LINKED = define(
    "linked_trees(x, nodes, values, base, depths, targets?)",
    "What the leaves of trees of any shape give together; the first `nodes` are the roots, a node "
    "knows where its two children are, and a leaf is its own child.",
    infer=_linked_infer,
    evaluate=_linked_evaluate,
    attrs=_ATTRS,
)
