"""sink-transposes: transposes move behind elementwise operations, where they meet and cancel."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from leptonc.ir.blob import Blob
from leptonc.ir.build import Builder
from leptonc.ir.graph import Value
from leptonc.ir.table import Trait, all_ops
from leptonc.passes.base import RewritePass
from leptonc.passes.cleanup.movement_rules import (
    permutation,
    transpose_nothing,
    transpose_of_transpose,
)
from leptonc.passes.constants import array_of
from leptonc.passes.contract import EXACT, Contract
from leptonc.passes.pattern import Match, pat
from leptonc.passes.rewrite import Rule, rule

ELEMENTWISE = tuple(
    row.name
    for row in all_ops().values()
    if row.has(Trait.ELEMENTWISE) and row.name not in ("cast", "identity")
)


@rule(pat.any_of(*ELEMENTWISE)(...))
def transpose_behind(m: Match, build: Builder) -> Value:
    """An elementwise operation on tensors that are transposed alike is transposed itself."""
    op = m.root
    moved = [value.producer for value in op.operands if array_of(value) is None]
    turned = [each for each in moved if each is not None and each.name == "transpose"]
    m.fits(bool(turned))
    order = permutation(turned[0])
    alike = len(turned) == len(moved) and all(permutation(each) == order for each in turned)
    m.require(alike, "not all operands are transposed alike")
    same = all(each.result.type.shape == op.result.type.shape for each in turned)
    m.require(same, "an operand is broadcast")
    shared = any(not _is_read_by_alone(each.result, m) for each in turned)
    m.require(not shared or len(turned) > 1, "something else reads the transposed tensor")
    operands = [_before(build, value, order) for value in op.operands]
    result = build.op(op.definition, operands, op.attrs, names=op.operand_names).result
    return build.transpose(result, perm=order)


def _is_read_by_alone(value: Value, m: Match) -> bool:
    return value.users == (m.root,)


def _before(build: Builder, value: Value, order: tuple[int, ...]) -> Value:
    """What `value` is without the transpose by `order`."""
    data = array_of(value)
    if data is None:
        assert value.producer is not None
        return value.producer.operands[0]
    if data.size == 1:
        return value
    whole = data.reshape((1,) * (len(order) - data.ndim) + data.shape)
    turned = np.transpose(whole, np.argsort(order))
    return build.const(Blob.of(np.ascontiguousarray(turned)))


@dataclass(frozen=True)
class SinkTransposes(RewritePass):
    """Moves transposes behind elementwise operations on tensors that are transposed alike.

    So the transposes that exporters put around each layer meet and cancel, and what stays does not
    stand between a product and the operations that can join its kernel. Constants are transposed
    at compile time.
    """

    name: ClassVar[str] = "sink-transposes"
    numbers: ClassVar[Contract] = EXACT
    rules: ClassVar[tuple[Rule, ...]] = (
        transpose_behind,
        transpose_nothing,
        transpose_of_transpose,
    )
