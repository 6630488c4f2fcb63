# pyright: standard
"""Lowering of products and convolutions of bytes: sums in 32-bit integers, then requantisation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from tvm import tirx

from leptonc.backends.tvm.lower.linear import product
from leptonc.backends.tvm.lower.nn import convolution, surrounded, widened, window_of
from leptonc.backends.tvm.lower.parts import Tensor, cast, compute
from leptonc.backends.tvm.lowering import LowerCall, Reason, Rule
from leptonc.backends.tvm.vector_math import clamp, nearest
from leptonc.ir.ops.quantized_linear import is_scalar
from leptonc.ir.types import TensorType

SUM = "int32"


def _given(call: LowerCall, name: str) -> tuple[Tensor, TensorType]:
    tensor, type = call.get(name), call.known.type(name)
    assert tensor is not None
    assert type is not None
    return tensor, type


def scalar(call: LowerCall, name: str) -> Any:
    """The only element of an operand."""
    tensor, type = _given(call, name)
    return tensor(*(call.index(0) for _ in range(type.rank)))


def _centred(
    call: LowerCall,
    name: str,
    zero_point: str,
    at: Callable[[Tensor, TensorType, Sequence[Any]], Any],
) -> Tensor:
    """Bytes less their zero point, which `at(tensor, type, index)` reads, as 32-bit integers."""
    tensor, _ = _given(call, name)
    if call.get(zero_point) is None:
        return compute(tensor.shape, lambda *i: cast(tensor(*i), SUM), name="wide")
    offset, type = _given(call, zero_point)
    return compute(
        tensor.shape,
        lambda *i: cast(tensor(*i), SUM) - cast(at(offset, type, i), SUM),
        name="centred",
    )


def _per_channel(tensor: Tensor, type: TensorType, index: Sequence[Any]) -> Any:
    """One number, or that of the output channel which comes first in `index`."""
    zero = tirx.const(0, str(index[0].ty))
    return tensor(*(zero for _ in range(type.rank))) if is_scalar(type) else tensor(index[0])


def _sums(call: LowerCall) -> Tensor:
    """The convolution of bytes less their zero points."""
    (_, x), (_, w) = _given(call, "x"), _given(call, "w")
    window = window_of(call, x, w)
    centred = _centred(call, "x", "x_zero_point", _per_channel)
    source = surrounded(call, centred, x.shape[2:], widened(window), tirx.const(0, SUM))
    weight = _centred(call, "w", "w_zero_point", _per_channel)
    return convolution(call, source, weight, window, call.known.int("group"))


def conv_integer(call: LowerCall) -> Tensor:
    """The sums themselves."""
    return _sums(call)


def requantized(call: LowerCall, total: Tensor, multiplier: Callable[..., Any]) -> Tensor:
    """Sums times `multiplier(*index)`, rounded to even as floats, shifted and saturated."""
    dtype = call.dtype()
    info = np.iinfo(dtype)

    def element(*index: Any) -> Any:
        offset = cast(scalar(call, "y_zero_point"), SUM)
        scaled = nearest(cast(total(*index), "float32") * multiplier(*index))
        # within these bounds every float is an integer that 32 bits hold, shifted or not
        whole = cast(clamp(scaled, -(2.0**24), 2.0**24), SUM) + offset
        low, high = tirx.const(info.min, SUM), tirx.const(info.max, SUM)
        return cast(tirx.max(tirx.min(whole, high), low), dtype)

    return compute(call.shape(), element, name="requantized")


def qlinear_conv(call: LowerCall) -> Tensor:
    """Sums, bias, requantisation."""
    total, bias = _sums(call), call.get("bias")
    if bias is not None:
        sums = total
        total = compute(sums.shape, lambda n, o, *i: sums(n, o, *i) + bias(o), name="biased")
    w_scale, type = _given(call, "w_scale")
    factors = compute(
        [call.dim(call.op.results[0].type.shape[1])],
        lambda o: (
            scalar(call, "x_scale") * _per_channel(w_scale, type, [o]) / scalar(call, "y_scale")
        ),
        name="factors",
    )
    return requantized(call, total, lambda n, o, *_: factors(o))


def _by_row(tensor: Tensor, type: TensorType, index: Sequence[Any]) -> Any:
    """The number that belongs to an element of the left matrix: one, or one for each row."""
    zero = tirx.const(0, str(index[0].ty))
    if is_scalar(type):
        return tensor(*(zero for _ in range(type.rank)))
    if type.rank == 1:
        return tensor(index[-2])
    return _aligned(tensor, type, index, zero)


def _by_column(tensor: Tensor, type: TensorType, index: Sequence[Any]) -> Any:
    """The number that belongs to an element of the right matrix: one, or one for each column."""
    zero = tirx.const(0, str(index[0].ty))
    if is_scalar(type):
        return tensor(*(zero for _ in range(type.rank)))
    return _aligned(tensor, type, index, zero)


def _aligned(tensor: Tensor, type: TensorType, index: Sequence[Any], zero: Any) -> Any:
    offset = len(index) - type.rank
    return tensor(*(zero if dim == 1 else index[offset + i] for i, dim in enumerate(type.shape)))


def _product(call: LowerCall) -> Tensor:
    (_, a), (_, b) = _given(call, "a"), _given(call, "b")
    left = _centred(call, "a", "a_zero_point", _by_row)
    right = _centred(call, "b", "b_zero_point", _by_column)
    return product(call, left, right, (a.shape, b.shape))


def matmul_integer(call: LowerCall) -> Tensor:
    """The sums themselves."""
    return _product(call)


def qlinear_matmul(call: LowerCall) -> Tensor:
    """Sums, requantisation."""
    (a_scale, a_type), (b_scale, b_type) = _given(call, "a_scale"), _given(call, "b_scale")
    (_, a), (_, b) = _given(call, "a"), _given(call, "b")

    def multiplier(*index: Any) -> Any:
        # the result's index, with a place for the axis that a vector operand lacks
        zero = call.index(0)
        left = index if a.rank > 1 else (zero, zero)
        left = left if b.rank > 1 else (*index, zero)
        right = index if b.rank > 1 else (zero,)
        first = cast(_by_row(a_scale, a_type, left), "float32")
        second = cast(_by_column(b_scale, b_type, right), "float32")
        return first * second / cast(scalar(call, "y_scale"), "float32")

    return requantized(call, _product(call), multiplier)


RULES: dict[str, Rule] = {
    "conv_integer": conv_integer,
    "matmul_integer": matmul_integer,
    "qlinear_conv": qlinear_conv,
    "qlinear_matmul": qlinear_matmul,
}
REASONS: dict[str, Reason] = {}
