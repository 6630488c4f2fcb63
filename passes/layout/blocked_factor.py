"""Products of blocked tensors with a number for each channel, in the kernels that read them."""

from __future__ import annotations

from leptonc.ir.graph import Value


def multiplied(plain: Value, blocked: Value) -> list[Value]:
    """The operands whose product is `blocked`, the number for each channel last, if there is one.

    Itself where something else reads that product, or its form `plain` that is not blocked: it has
    to be in memory then, and is read from there.
    """
    product = blocked.producer
    if product is None or product.name != "mul" or len(plain.uses) > 1:
        return [blocked]
    if any(user is not plain.producer for user in blocked.users):
        return [blocked]
    shape = blocked.type.shape
    each = (*shape[:2], 1, 1, shape[-1])
    for x, factor in (product.operands, product.operands[::-1]):
        if x.type.shape == shape and factor.type.shape == each != shape:
            return [x, factor]
    return [blocked]
