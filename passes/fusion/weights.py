"""Scaling and shifting what products with constant weights compute, by changing the weights."""

from __future__ import annotations

from typing import Any

import numpy as np

from leptonc.ir.blob import Array, Blob
from leptonc.ir.build import Builder
from leptonc.ir.graph import Op, Value
from leptonc.ir.ops.windows import kernel_of, resolve_window
from leptonc.ir.table import Inference
from leptonc.passes.constants import array_of
from leptonc.passes.pattern import Const, Match, OpPattern, Var, pat

x = Var("x")
weight, bias = Const("weight"), Const("bias")

WEIGHTED = ("conv", "conv_transpose", "linear")
"""Products whose weight this module can change."""

LARGE = 1 << 16
"""Constants with more elements than this are not changed for one reader out of several."""

BLOCK = 1 << 20
"""So many elements are computed with at once, so that large weights take no wide copy."""


def weighted() -> OpPattern:
    """A product with a constant weight, and a constant bias if any, that nothing else reads."""
    return pat.any_of(*WEIGHTED)(x, weight, bias=bias.optional())


def channel_axis(op: Op) -> int:
    """The axis of the result along which the weight has its outputs."""
    return op.result.type.rank - 1 if op.name == "linear" else 1


def input_axis(op: Op) -> int:
    """The axis of the operand along which the weight has its inputs."""
    return op.operands[0].type.rank - 1 if op.name == "linear" else 1


def per_channel(m: Match, constant: Value, like: Value, axis: int) -> Array:
    """`constant` as one f64 for each channel; the rule does not apply where it varies elsewhere."""
    data = array_of(constant)
    m.fits(data is not None and constant.type.dtype.is_float)
    assert data is not None
    extent = like.type.shape[axis]
    m.fits(isinstance(extent, int))
    assert isinstance(extent, int)
    m.require(data.ndim <= like.type.rank, "the constant broadcasts the product")
    shape = (1,) * (like.type.rank - data.ndim) + data.shape
    expected = tuple(extent if index == axis else 1 for index in range(like.type.rank))
    m.require(
        all(have in (1, want) for have, want in zip(shape, expected, strict=True)),
        "the constant differs along other axes than the channels",
    )
    wide = np.broadcast_to(data.astype(np.float64).reshape(shape), expected).reshape(-1)
    m.require(bool(np.isfinite(wide).all()), "the constant is not finite")
    return wide


def require_own(m: Match, constant: Value) -> None:
    """Go on only where changing `constant` does not leave two large ones in place of one."""
    blob = constant.blob
    alone = constant.use_count == 1 or blob is None or blob.size <= LARGE
    m.require(alone, "the weight is large and something else reads it too")


def multiplied(m: Match, data: Array, factor: Array) -> Array:
    """`data` times a factor that broadcasts to it, rounded once to the element type of `data`.

    The rule does not apply where an element would become infinite, or lose its precision because
    it is too small while others are not.
    """
    result = np.empty(data.shape, data.dtype)
    whole = np.broadcast_to(factor, data.shape)
    step = max(1, BLOCK // max(1, data.size // max(1, len(data))))
    normal = smallest_normal(data.dtype)
    largest, lost = 0.0, False
    for start in range(0, len(data), step):
        part = slice(start, start + step)
        with np.errstate(all="ignore"):
            wide = data[part].astype(np.float64) * whole[part]
            result[part] = wide.astype(data.dtype)
        _require_finite(m, result[part])
        size = np.abs(wide, out=wide)
        largest = max(largest, float(size.max(initial=0.0)))
        lost = lost or bool(((size > 0) & (size < normal)).any())
    enough = not lost or largest >= 16 * normal
    m.require(enough, "the new weight would be too small for its element type")
    return result


def narrowed(m: Match, wide: Array, dtype: np.dtype[Any]) -> Array:
    """f64 numbers in an element type; the rule does not apply where one would become infinite."""
    with np.errstate(over="ignore", under="ignore"):
        result = wide.astype(dtype)
    _require_finite(m, result)
    return result


def _require_finite(m: Match, result: Array) -> None:
    finite = bool(np.isfinite(result).all())
    m.require(finite, "a number of the new constant would not be finite")


def smallest_normal(dtype: np.dtype[Any]) -> float:
    """The smallest number of an element type that has all its digits."""
    import ml_dtypes  # numpy does not know the narrow floats

    finfo: Any = ml_dtypes.finfo
    return float(finfo(dtype).smallest_normal)


def rebuilt(
    m: Match, build: Builder, op: Op, source: Value, data: Array | None, offset: Array | None
) -> Value:
    """`op` on `source`; the weight and bias of the match stay where there are no data for them."""
    old = op.operands[1]
    row = None if offset is None else narrowed(m, offset, old.type.dtype.numpy)
    new, added = old, m.get(bias)
    if data is not None:
        new = build.const(Blob.of(np.ascontiguousarray(data)))
        new.name = old.name
    if row is not None:
        added = build.const(Blob.of(row))
    operands, names = [source, new], list(op.operand_names[:2])
    if added is not None:
        operands.append(added)
        names.append("bias")
    return build.op(op.definition, operands, op.attrs, names=names).result


def affine_after(
    m: Match, build: Builder, op: Op, scale: Array | None, shift: Array | None
) -> Value:
    """The product that gives `scale * op + shift`, both per channel."""
    offset, data = wide_bias(m), None
    if scale is not None:
        require_own(m, m[weight])
        with np.errstate(all="ignore"):
            offset = offset * scale if offset is not None else None
        data = multiplied(m, m.blob(weight).array, output_factors(op, scale))
    if shift is not None:
        with np.errstate(all="ignore"):
            offset = shift if offset is None else offset + shift
    return rebuilt(m, build, op, m[x], data, offset)


def affine_before(
    m: Match, build: Builder, op: Op, scale: Array | None, shift: Array | None
) -> Value:
    """The product that gives what `op` gives for `scale * x + shift`, both per input channel.

    A shift needs that no padding is read: nothing is added to it.
    """
    offset, data = None, None
    if shift is not None:
        old, offset = wide_bias(m), response_to(op, m.blob(weight).array, shift)
        with np.errstate(all="ignore"):
            offset = offset if old is None else old + offset
    if scale is not None:
        require_own(m, m[weight])
        data = multiplied(m, m.blob(weight).array, input_factors(op, scale))
    return rebuilt(m, build, op, m[x], data, offset)


def wide_bias(m: Match) -> Array | None:
    """The bias of the match in f64, if there is one."""
    found = m.get(bias)
    data = None if found is None else array_of(found)
    return None if data is None else data.astype(np.float64)


def output_factors(op: Op, scale: Array) -> Array:
    """One factor for each output of `op`, in a shape that broadcasts to its weight."""
    shape = op.operands[1].type.extents
    if op.name == "linear":
        return scale[:, None] if op.attrs["transposed"] else scale
    if op.name == "conv":
        return scale.reshape(len(scale), *(1,) * (len(shape) - 1))
    # conv_transpose: inputs x outputs of one group x window
    return _within_groups(scale, shape, op.int("group"))


def input_factors(op: Op, scale: Array) -> Array:
    """One factor for each input of `op`, in a shape that broadcasts to its weight."""
    shape = op.operands[1].type.extents
    if op.name == "linear":
        return scale if op.attrs["transposed"] else scale[:, None]
    if op.name == "conv_transpose":
        return scale.reshape(len(scale), *(1,) * (len(shape) - 1))
    # conv: outputs x inputs of one group x window
    return _within_groups(scale, shape, op.int("group"))


def _within_groups(scale: Array, shape: tuple[int, ...], groups: int) -> Array:
    """Factors for a weight whose axis 0 is divided into groups and whose axis 1 is one group's."""
    rows = np.repeat(scale.reshape(groups, shape[1]), shape[0] // groups, axis=0)
    return rows.reshape(shape[0], shape[1], *(1,) * (len(shape) - 2))


def response_to(op: Op, data: Array, shift: Array) -> Array:
    """What each output gets from `shift` on every input, where no padding is in the way."""
    if op.name == "linear":
        matrix = data if op.attrs["transposed"] else data.T
        step = max(1, BLOCK // max(1, matrix.shape[1]))
        with np.errstate(all="ignore"):
            parts = [
                matrix[start : start + step].astype(np.float64) @ shift
                for start in range(0, len(matrix), step)
            ]
        return np.concatenate(parts) if parts else np.zeros(0)
    groups = op.int("group")
    with np.errstate(all="ignore"):
        taps = data.sum(axis=tuple(range(2, data.ndim)), dtype=np.float64)
        taps = taps.reshape(groups, data.shape[0] // groups, data.shape[1])
        return np.einsum("goi,gi->go", taps, shift.reshape(groups, -1)).reshape(-1)


def pads_nothing(op: Op) -> bool:
    """True where no output of the product reads padding."""
    if op.name == "linear":
        return True
    if op.name != "conv":
        return False
    w = op.operands[1].type
    call = Inference(op.definition, op.operands, op.operand_names, op.attrs, op.regions)
    space = op.operands[0].type.shape[2:]
    return not resolve_window(call, space, kernel_of(call, w, len(space))).is_padded
