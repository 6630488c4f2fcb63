# pyright: standard
"""Lowering of integer products with a constant weight, where no kernel with packed weights is.

Convolutions of bytes, too.
"""

from __future__ import annotations

from tvm import tirx

from leptonc.backends.tvm.lower.linear import product
from leptonc.backends.tvm.lower.nn import convolution, surrounded, widened, window_of
from leptonc.backends.tvm.lower.parts import Tensor, cast, compute
from leptonc.backends.tvm.lowering import LowerCall, Reason, Rule


def _integer_linear(call: LowerCall) -> Tensor:
    left, right = (value.type.shape for value in call.op.operands)
    return product(call, _wide(call[0]), _wide(call[1]), (left, right))


def _wide(x: Tensor) -> Tensor:
    return compute(x.shape, lambda *index: cast(x(*index), "int32"), name="wide")


def _integer_conv(call: LowerCall) -> Tensor:
    x, w = call.known.types
    window, filler = window_of(call, x, w), tirx.const(call.known.int("filler"), "int32")
    source = surrounded(call, _wide(call[0]), x.shape[2:], widened(window), filler)
    return convolution(call, source, _wide(call[1]), window, call.known.int("group"))


RULES: dict[str, Rule] = {"integer_linear": _integer_linear, "integer_conv": _integer_conv}
REASONS: dict[str, Reason] = {}
