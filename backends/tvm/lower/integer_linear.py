# pyright: standard
"""Lowering of integer products with a constant weight, where no kernel with packed weights is."""

from __future__ import annotations

from leptonc.backends.tvm.lower.linear import product
from leptonc.backends.tvm.lower.parts import Tensor, cast, compute
from leptonc.backends.tvm.lowering import LowerCall, Reason, Rule


def _integer_linear(call: LowerCall) -> Tensor:
    left, right = (value.type.shape for value in call.op.operands)
    return product(call, _wide(call[0]), _wide(call[1]), (left, right))


def _wide(x: Tensor) -> Tensor:
    return compute(x.shape, lambda *index: cast(x(*index), "int32"), name="wide")


RULES: dict[str, Rule] = {"integer_linear": _integer_linear}
REASONS: dict[str, Reason] = {}
