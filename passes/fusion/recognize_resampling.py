"""recognize-resampling: blocks moved and elements repeated by views become one operation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import ClassVar

import numpy as np

from leptonc.ir.blob import Blob
from leptonc.ir.build import Builder
from leptonc.ir.dims import Dim, floordiv
from leptonc.ir.graph import Op, Value
from leptonc.ir.types import DType
from leptonc.passes.base import RewritePass
from leptonc.passes.cleanup.movement_rules import permutation
from leptonc.passes.constants import integers
from leptonc.passes.contract import EXACT, Contract
from leptonc.passes.pattern import Match, Var, pat
from leptonc.passes.rewrite import Rule, rule

BLOCK_TYPES = frozenset({DType.F32, DType.F64, DType.F16, DType.U8, DType.I8})
RESIZE_TYPES = frozenset({DType.F32, DType.F16, DType.U8, DType.I8, DType.I32})
"""Element types for which runtimes have kernels; others stay as they are."""

VIEWS = frozenset({"reshape", "unsqueeze", "squeeze", "flatten"})

x = Var("x")
parted = pat.reshape(x, Var("parts"))
turned = pat.transpose(parted)


@rule(pat.reshape(turned, Var("extents")))
def blocks_by_transpose(m: Match, build: Builder) -> Value:
    """Channels split into blocks that are moved into space, or back, are one operation."""
    type, result = m[x].type, m.root.result.type
    m.fits(type.rank == result.rank == 4 and type.dtype in BLOCK_TYPES)
    parts, order = m[parted].result.type.shape, permutation(m[turned])
    if order in _MERGED and len(parts) == 5:
        return _of_merged_axes(m, build)
    m.fits(order in _ORDERS)
    name, mode, place = _ORDERS[order]
    block = parts[place]
    m.fits(isinstance(block, int) and block > 1)
    assert isinstance(block, int)
    m.fits(parts == _parts(name, mode, type.shape, block))
    m.fits(result.shape == _result(name, type.shape, block))
    attrs = {"blocksize": block} if mode == "DCR" else {"blocksize": block, "mode": mode}
    return build.op(name, [m[x]], attrs).result


_ORDERS: Mapping[tuple[int, ...], tuple[str, str, int]] = MappingProxyType(
    {
        (0, 1, 4, 2, 5, 3): ("depth_to_space", "CRD", 2),
        (0, 3, 4, 1, 5, 2): ("depth_to_space", "DCR", 1),
        (0, 3, 5, 1, 2, 4): ("space_to_depth", "DCR", 3),
    }
)
"""What a transpose of six axes means, and which of the axes tells the size of the blocks."""
_MERGED: tuple[tuple[int, ...], ...] = ((0, 3, 1, 4, 2),)


def _of_merged_axes(m: Match, build: Builder) -> Value:
    """Examples and channels may be merged while their blocks are moved."""
    type, parts = m[x].type, m[parted].result.type.shape
    block = parts[1]
    m.fits(isinstance(block, int) and block > 1)
    assert isinstance(block, int)
    batch, channels, height, width = type.shape
    inner = floordiv(channels, block * block)
    m.fits(parts == (batch * inner, block, block, height, width))
    m.fits(m.root.result.type.shape == _result("depth_to_space", type.shape, block))
    m.fits(not isinstance(channels, int) or channels % (block * block) == 0)
    return build.depth_to_space(m[x], blocksize=block, mode="CRD")


def _parts(name: str, mode: str, shape: tuple[Dim, ...], block: int) -> tuple[Dim, ...]:
    """The extents of the blocks and of what is moved with them."""
    batch, channels, height, width = shape
    if name == "space_to_depth":
        return (batch, channels, floordiv(height, block), block, floordiv(width, block), block)
    inner = floordiv(channels, block * block)
    if mode == "CRD":
        return (batch, inner, block, block, height, width)
    return (batch, block, block, inner, height, width)


def _result(name: str, shape: tuple[Dim, ...], block: int) -> tuple[Dim, ...]:
    batch, channels, height, width = shape
    if name == "space_to_depth":
        outer = floordiv(height, block), floordiv(width, block)
        return (batch, channels * (block * block), *outer)
    return (batch, floordiv(channels, block * block), height * block, width * block)


@rule(pat.reshape(x, Var("extents")))
def repeats_by_views(m: Match, build: Builder) -> Value:
    """Elements repeated along both axes of space by new axes are a resize to the nearest."""
    result = m.root.result.type
    m.fits(result.rank == 4 and result.dtype in RESIZE_TYPES)
    source, steps = _repeats_behind(m[x])
    m.fits(bool(steps) and source.type.rank == 4)
    shape, scales = list(source.type.shape), [1, 1, 1, 1]
    for start, factors in _grouped(m, steps):
        for axis, factor in _axes_repeated(m, start, factors, shape):
            shape[axis], scales[axis] = shape[axis] * factor, scales[axis] * factor
    m.fits(tuple(shape) == result.shape and scales[:2] == [1, 1] and min(scales[2:]) > 1)
    m.also += [*steps]
    wanted = build.const(Blob.of(np.array(scales, np.float32)))
    return build.resize(
        source, scales=wanted, mode="nearest", nearest_mode="floor",
        coordinate_transformation_mode="asymmetric",
    )  # fmt: skip


def _repeats_behind(value: Value) -> tuple[Value, list[Op]]:
    """What views and repeats that nothing else reads make `value` of, and the repeats."""
    steps: list[Op] = []
    for _ in range(8):
        op = value.producer
        if op is None or value.only_user is None:
            break
        if op.name in VIEWS:
            value = op.operands[0]
        elif op.name in ("expand", "tile") or (op.name == "concat" and len(set(op.operands)) == 1):
            steps.append(op)
            value = op.operands[0]
        else:
            break
        if value.type.rank == 4 and len(steps) == 2:
            break
    return value, steps


def _grouped(m: Match, steps: Sequence[Op]) -> list[tuple[Value, dict[int, int]]]:
    """What is repeated how often along which axes: repeats of repeats count as one."""
    found: list[tuple[Value, dict[int, int]]] = []
    last: Op | None = None
    for step in reversed(steps):
        factors = _factors_of(step)
        m.fits(factors is not None)
        if last is not None and step.operands[0] is last.results[0]:
            found[-1][1].update(factors or {})
        else:
            found.append((step.operands[0], dict(factors or {})))
        last = step
    return found


def _factors_of(op: Op) -> dict[int, int] | None:
    """How often each axis of extent 1 is repeated; None where other axes are, or it is unknown."""
    source = op.operands[0].type.shape
    if op.name == "concat":
        axis = op.int("axis") % len(source)
        return {axis: len(op.operands)} if source[axis] == 1 else None
    if op.name == "tile":
        times = integers(op.operand("repeats"))
        if times is None:
            return None
        found = {axis: count for axis, count in enumerate(times) if count != 1}
        return found if all(source[axis] == 1 for axis in found) else None
    target = op.results[0].type.shape
    if len(target) != len(source):
        return None
    found: dict[int, int] = {}
    for axis, (before, after) in enumerate(zip(source, target, strict=True)):
        if before != after:
            if before != 1 or not isinstance(after, int):
                return None
            found[axis] = after
    return found


def _axes_repeated(
    m: Match, start: Value, factors: dict[int, int], shape: list[Dim]
) -> list[tuple[int, int]]:
    """Along which axes of `shape` the new ones repeat; the rule does not apply to other views."""
    source = start.type.shape
    kept = [dim for axis, dim in enumerate(source) if axis not in factors]
    m.fits(_without_ones(kept) == _without_ones(shape))
    found: list[tuple[int, int]] = []
    for axis, factor in factors.items():
        before = _without_ones([dim for at, dim in enumerate(source[:axis]) if at not in factors])
        # where extents of 1 leave a choice, the extents of the root tell whether it was right
        ends = [end for end in range(1, 5) if _without_ones(shape[:end]) == before]
        m.fits(bool(ends) and factor > 1)
        found.append((ends[-1] - 1, factor))
    return found


def _without_ones(shape: Sequence[Dim]) -> list[Dim]:
    return [dim for dim in shape if dim != 1]


@dataclass(frozen=True)
class RecognizeResampling(RewritePass):
    """Recognises depth-to-space, space-to-depth and nearest upsampling written as views.

    Only what repeats along both axes of images counts as upsampling: along one axis it may as well
    be heads of attention.
    """

    name: ClassVar[str] = "recognize-resampling"
    numbers: ClassVar[Contract] = EXACT
    rules: ClassVar[tuple[Rule, ...]] = (blocks_by_transpose, repeats_by_views)
