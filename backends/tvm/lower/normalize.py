# pyright: standard
"""Lowering of normalisations: statistics as stages of their own, in two passes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tvm import te, tirx

from leptonc.backends.tvm.lower.arithmetic import let
from leptonc.backends.tvm.lower.parts import (
    Tensor,
    cast,
    compute,
    count_of,
    larger,
    natural,
    padded,
    read_aligned,
    reduced,
    tensor_as,
    without,
)
from leptonc.backends.tvm.lowering import TVM_DTYPE, LowerCall, Reason, Rule
from leptonc.backends.tvm.vector_math import exp, log
from leptonc.backends.tvm.vector_power import sqrt
from leptonc.ir.dims import Dim
from leptonc.ir.ops.normalize import STASH_DTYPES
from leptonc.ir.ops.normalize_local import MVN_EPSILON, lrn_reach


def moments(
    call: LowerCall, x: Tensor, axes: Sequence[int], dims: Sequence[Dim], epsilon: float
) -> tuple[Tensor, Tensor]:
    """Mean and inverse deviation over `axes`, whose extents are `dims`."""
    dtype = str(x.dtype)
    count = count_of(call, dims, dtype)
    mean, squares = _mean_and_squares(x, axes, count)
    one, small = tirx.const(1, dtype), tirx.const(epsilon, dtype)
    inverse = compute(
        squares.shape, lambda *i: one / sqrt(squares(*i) / count + small), name="inverse"
    )
    return mean, inverse


def _mean_and_squares(x: Tensor, axes: Sequence[int], count: Any) -> tuple[Tensor, Tensor]:
    """The mean of `count` elements over `axes`, and the sum of squared distances from it."""
    total = reduced(x.shape, axes, te.sum, x, "total")
    mean = compute(total.shape, lambda *i: total(*i) / count, name="mean")

    def square(*i: Any) -> Any:
        centred = x(*i) - mean(*without(i, axes))
        return centred * centred

    return mean, reduced(x.shape, axes, te.sum, square, "squares")


def layer_normalization(call: LowerCall) -> list[Tensor]:
    """Mean, inverse deviation, result."""
    x = tensor_as(call[0], natural(call[0].dtype))
    type = call.op.operands[0].type
    axis = call.known.int("axis") % type.rank
    axes = list(range(axis, type.rank))
    mean, inverse = moments(call, x, axes, type.shape[axis:], call.known.float("epsilon"))

    def element(*i: Any) -> Any:
        rest = without(i, axes)
        value = (x(*i) - mean(*rest)) * inverse(*rest) * _parameter(call, "scale", str(x.dtype), i)
        if call.get("bias") is not None:
            value = value + _parameter(call, "bias", str(x.dtype), i)
        return cast(value, call.dtype())

    y = compute(x.shape, element, name="normalized")
    stash = TVM_DTYPE[STASH_DTYPES[call.known.int("stash_type")]]

    def kept(stage: Tensor) -> Tensor:
        return compute(call.shape(1), lambda *i: cast(stage(*i[:axis]), stash), name="statistic")

    return [y, kept(mean), kept(inverse)]


def _parameter(call: LowerCall, name: str, dtype: str, index: Sequence[Any]) -> Any:
    """The element of a scale or bias that broadcasts to `index` of the first operand."""
    tensor, type = call.get(name), call.known.type(name)
    assert tensor is not None
    assert type is not None
    return cast(
        read_aligned(call, tensor, type.shape, call.op.operands[0].type.shape, index), dtype
    )


def rms_normalization(call: LowerCall) -> Tensor:
    """Mean square, then the scaled quotient."""
    x = tensor_as(call[0], natural(call[0].dtype))
    type = call.op.operands[0].type
    axis = call.known.int("axis") % type.rank
    axes = list(range(axis, type.rank))
    count = count_of(call, type.shape[axis:], str(x.dtype))
    squares = reduced(x.shape, axes, te.sum, lambda *i: x(*i) * x(*i), "squares")
    one, small = tirx.const(1, str(x.dtype)), tirx.const(call.known.float("epsilon"), str(x.dtype))
    inverse = compute(
        squares.shape, lambda *i: one / sqrt(squares(*i) / count + small), name="inverse"
    )

    def element(*i: Any) -> Any:
        value = x(*i) * inverse(*without(i, axes)) * _parameter(call, "scale", str(x.dtype), i)
        return cast(value, call.dtype())

    return compute(x.shape, element, name="normalized")


def batch_normalization(call: LowerCall) -> list[Tensor]:
    """A factor and a shift for each channel; in training of the operand's own statistics."""
    x = tensor_as(call[0], natural(call[0].dtype))
    dtype, rank = str(x.dtype), len(x.shape)
    scale, bias, mean, var = (tensor_as(call[slot], dtype) for slot in range(1, 5))
    running: list[Tensor] = []
    if call.known.int("training_mode"):
        seen, spread = _channel_moments(call, x)
        running = [
            _moved(call, old, new, slot)
            for slot, (old, new) in enumerate(((mean, seen), (var, spread)), 1)
        ]
        mean, var = seen, spread
    small = tirx.const(call.known.float("epsilon"), dtype)
    factor = compute(scale.shape, lambda c: scale(c) / sqrt(var(c) + small), name="factor")

    def element(*i: Any) -> Any:
        c = i[1] if rank > 1 else call.index(0)
        return cast((x(*i) - mean(c)) * factor(c) + bias(c), call.dtype())

    return [compute(x.shape, element, name="normalized"), *running]


def _channel_moments(call: LowerCall, x: Tensor) -> tuple[Tensor, Tensor]:
    shape = call.op.operands[0].type.shape
    axes = [axis for axis in range(len(shape)) if axis != 1]
    count = count_of(call, [shape[axis] for axis in axes], str(x.dtype))
    channels = [call.dim(dim) for dim in call.op.operands[1].type.shape]

    def channel(c: Any) -> list[Any]:
        return [c] if len(shape) > 1 else []

    total = reduced(x.shape, axes, te.sum, x, "total")
    mean = compute(channels, lambda c: total(*channel(c)) / count, name="mean")

    def square(*i: Any) -> Any:
        centred = x(*i) - mean(i[1] if len(shape) > 1 else call.index(0))
        return centred * centred

    squares = reduced(x.shape, axes, te.sum, square, "squares")
    return mean, compute(channels, lambda c: squares(*channel(c)) / count, name="variance")


def _moved(call: LowerCall, old: Tensor, new: Tensor, result: int) -> Tensor:
    """The statistic that training leaves behind."""
    momentum = call.known.float("momentum")
    keep, take = tirx.const(momentum, str(old.dtype)), tirx.const(1 - momentum, str(old.dtype))
    return compute(
        old.shape, lambda c: cast(old(c) * keep + new(c) * take, call.dtype(result)), name="running"
    )


def group_normalization(call: LowerCall) -> Tensor:
    """Statistics of each group of channels of each example."""
    return _grouped(call, call.known.int("num_groups"))


def _grouped(call: LowerCall, groups: int) -> Tensor:
    x = tensor_as(call[0], natural(call[0].dtype))
    batch, channels, *space = call.op.operands[0].type.shape
    each = channels // groups
    width = call.dim(each)
    shape = [call.dim(batch), call.index(groups), width, *(call.dim(dim) for dim in space)]
    split = compute(shape, lambda n, g, c, *i: x(n, g * width + c, *i), name="split")
    axes = list(range(2, len(shape)))
    mean, inverse = moments(call, split, axes, [each, *space], call.known.float("epsilon"))
    scale, bias = tensor_as(call[1], str(x.dtype)), tensor_as(call[2], str(x.dtype))

    def element(n: Any, c: Any, *i: Any) -> Any:
        g = tirx.floordiv(c, width)
        return cast((x(n, c, *i) - mean(n, g)) * inverse(n, g) * scale(c) + bias(c), call.dtype())

    return compute(x.shape, element, name="normalized")


def instance_normalization(call: LowerCall) -> Tensor:
    """Statistics of each channel of each example."""
    x = tensor_as(call[0], natural(call[0].dtype))
    space = call.op.operands[0].type.shape[2:]
    axes = list(range(2, len(x.shape)))
    mean, inverse = moments(call, x, axes, space, call.known.float("epsilon"))
    scale, bias = tensor_as(call[1], str(x.dtype)), tensor_as(call[2], str(x.dtype))
    return compute(
        x.shape,
        lambda n, c, *i: cast(
            (x(n, c, *i) - mean(n, c)) * inverse(n, c) * scale(c) + bias(c), call.dtype()
        ),
        name="normalized",
    )


def lrn(call: LowerCall) -> Tensor:
    """Squares with channels around them, their sum over neighbours, quotient by a power."""
    x = tensor_as(call[0], natural(call[0].dtype))
    size, dtype = call.known.int("size"), str(x.dtype)
    before, behind = lrn_reach(size)
    squares = compute(x.shape, lambda *i: x(*i) * x(*i), name="squares")
    low = [None, call.index(before), *[None] * (len(x.shape) - 2)]
    shape = [None, x.shape[1] + call.index(before + behind), *low[2:]]
    around = padded(squares, low, shape, tirx.const(0, dtype))
    window = te.reduce_axis((call.index(0), call.index(size)), name="neighbour")
    total = compute(
        x.shape, lambda n, c, *i: te.sum(around(n, c + window, *i), axis=window), name="total"
    )
    bias = tirx.const(call.known.float("bias"), dtype)
    alpha = tirx.const(call.known.float("alpha") / size, dtype)
    power = call.known.float("beta")

    def element(*i: Any) -> Any:
        base = bias + alpha * total(*i)
        if power == 0.75:  # what all known networks have
            return cast(let(base, lambda b: x(*i) / sqrt(b * sqrt(b))), call.dtype())
        return cast(x(*i) * exp(log(base) * tirx.const(-power, dtype)), call.dtype())

    return compute(x.shape, element, name="lrn")


def lp_normalization(call: LowerCall) -> Tensor:
    """The norm, then the quotient where it is not zero."""
    x = tensor_as(call[0], natural(call[0].dtype))
    axis, p = call.known.int("axis") % len(x.shape), call.known.int("p")
    zero = tirx.const(0, str(x.dtype))

    def size(*i: Any) -> Any:
        return larger(x(*i), zero - x(*i)) if p == 1 else x(*i) * x(*i)

    total = reduced(x.shape, [axis], te.sum, size, "total")

    def element(*i: Any) -> Any:
        norm = total(*without(i, [axis]))
        quotient = x(*i) / (norm if p == 1 else sqrt(norm))
        return cast(tirx.Select(norm == zero, zero, quotient), call.dtype())

    return compute(x.shape, element, name="normalized")


def mean_variance_normalization(call: LowerCall) -> Tensor:
    """Mean and deviation over the axes, then the quotient."""
    x = tensor_as(call[0], natural(call[0].dtype))
    dims = call.op.operands[0].type.shape
    axes = sorted(axis % len(dims) for axis in call.known.ints("axes") or ())
    count = count_of(call, [dims[axis] for axis in axes], str(x.dtype))
    mean, squares = _mean_and_squares(x, axes, count)
    small = tirx.const(MVN_EPSILON, str(x.dtype))
    deviation = compute(
        squares.shape, lambda *i: sqrt(squares(*i) / count) + small, name="deviation"
    )

    def element(*i: Any) -> Any:
        rest = without(i, axes)
        return cast((x(*i) - mean(*rest)) / deviation(*rest), call.dtype())

    return compute(x.shape, element, name="normalized")


RULES: dict[str, Rule] = {
    "layer_normalization": layer_normalization,
    "rms_normalization": rms_normalization,
    "batch_normalization": batch_normalization,
    "group_normalization": group_normalization,
    "instance_normalization": instance_normalization,
    "lrn": lrn,
    "lp_normalization": lp_normalization,
    "mean_variance_normalization": mean_variance_normalization,
}
REASONS: dict[str, Reason] = {}
