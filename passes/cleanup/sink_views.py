"""sink-views: views move behind elementwise operations, where they meet other views."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from leptonc.ir.build import Builder
from leptonc.ir.dims import Dim
from leptonc.ir.graph import Op, Value
from leptonc.passes.base import RewritePass
from leptonc.passes.cleanup.border_rules import compute_before_expand
from leptonc.passes.cleanup.movement_rules import (
    reshape_of_reshape,
    reshape_to_same,
    view_to_reshape,
)
from leptonc.passes.cleanup.transpose_rules import ELEMENTWISE
from leptonc.passes.constants import array_of
from leptonc.passes.contract import EXACT, Contract
from leptonc.passes.pattern import Match, pat
from leptonc.passes.rewrite import Rule, rule
from leptonc.passes.views import require_known_extents, reshape_to

Shape = tuple[Dim, ...]


def _view_of(value: Value) -> Op | None:
    op = value.producer
    return op if op is not None and op.name == "reshape" else None


def _means_the_same(constant: Value, source: Shape, view: Shape) -> bool:
    """True where a constant broadcasts alike to a tensor and to a view of it."""
    rank = constant.type.rank
    if rank > min(len(source), len(view)):
        return False
    single = all(dim == 1 for dim in constant.type.shape)
    return single or source[len(source) - rank :] == view[len(view) - rank :]


@rule(pat.any_of(*ELEMENTWISE)(...).fed_by("reshape"))
def view_behind(m: Match, build: Builder) -> Value:
    """An elementwise operation on views of tensors of one shape is itself viewed so."""
    op = m.root
    moved = [value for value in op.operands if array_of(value) is None]
    views = [each for each in map(_view_of, moved) if each is not None]
    m.fits(bool(views) and len(views) == len(moved))
    source, shape = views[0].operands[0], op.result.type.shape
    alike = all(
        each.operands[0].type.shape == source.type.shape and each.result.type.shape == shape
        for each in views
    )
    m.require(alike, "the operands are not views of tensors of one shape")
    constants = [value for value in op.operands if array_of(value) is not None]
    fits = all(_means_the_same(value, source.type.shape, shape) for value in constants)
    m.require(fits, "a constant broadcasts otherwise to what is viewed")
    m.require(all(each.result.only_user is op for each in views), "something else reads the view")
    require_known_extents(m, source)
    operands = [v if array_of(v) is not None else _source(v) for v in op.operands]
    result = build.op(op.definition, operands, op.attrs, names=op.operand_names).result
    return reshape_to(build, result, shape)


def _source(value: Value) -> Value:
    op = _view_of(value)
    return value if op is None else op.operands[0]


@dataclass(frozen=True)
class SinkViews(RewritePass):
    """Moves views behind elementwise operations on tensors that are viewed alike.

    So views meet and become one or none, and nothing stands between a product and the operations
    that can join its kernel. What a view was taken from may be repeated from less, which operations
    on each element alone then are computed of: behind that may be the next view.
    """

    name: ClassVar[str] = "sink-views"
    numbers: ClassVar[Contract] = EXACT
    rules: ClassVar[tuple[Rule, ...]] = (
        view_behind,
        view_to_reshape,
        reshape_to_same,
        reshape_of_reshape,
        compute_before_expand,
    )
