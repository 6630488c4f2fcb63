# pyright: standard
"""Lowering of products with a weight of bytes, where no kernel with packed weights takes them."""

from __future__ import annotations

from typing import Any

from tvm import tirx

from leptonc.backends.tvm.lower.linear import product
from leptonc.backends.tvm.lower.parts import Tensor, cast, compute
from leptonc.backends.tvm.lowering import LowerCall, Reason, Rule


def _linear_bytes(call: LowerCall) -> Tensor:
    x, w, scales = call[0], call[1], call.get("scales")
    block = call.known.int("block_size")

    def real(depth: Any, column: Any) -> Any:
        value = cast(w(depth, column), "float32")
        if scales is None:
            return value
        return value * scales(tirx.floordiv(depth, call.index(block)), column)

    weight = compute(w.shape, real, name="real")
    left, right = (value.type.shape for value in call.op.operands[:2])
    return product(call, x, weight, (left, right))


RULES: dict[str, Rule] = {"linear_bytes": _linear_bytes}
REASONS: dict[str, Reason] = {}
