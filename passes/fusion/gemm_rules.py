"""Rules of `join-nodes` about what a general product of two matrices can say."""

from __future__ import annotations

from leptonc.ir.build import Builder
from leptonc.ir.graph import Attribute, Value
from leptonc.ir.ops.extents import broadcasts_to
from leptonc.ir.types import DType
from leptonc.passes.cleanup.movement_rules import permutation
from leptonc.passes.constants import uniform
from leptonc.passes.pattern import Const, Match, OpPattern, Var, pat
from leptonc.passes.rewrite import Rule, rule

x, y, z, row = Var("x"), Var("y"), Var("z"), Var("row")
number = Const("number")
FLOATS = (DType.F16, DType.F32, DType.F64)
turned_x, turned_y = pat.transpose(x), pat.transpose(y)
product, general, layer = pat.matmul(x, y), pat.gemm(x, y), pat.linear(x, y)


def _require_matrices(m: Match) -> None:
    m.fits(m[x].type.rank == m[y].type.rank == 2 and m[x].type.dtype in FLOATS)


def _turned(pattern: OpPattern, inner: OpPattern, side: str, name: str) -> Rule:
    @rule(pattern)
    def body(m: Match, build: Builder) -> Value:
        """A general product reads a matrix that is transposed as it is."""
        _require_matrices(m)
        m.fits(permutation(m[inner]) == (1, 0))
        root = m.root
        attrs: dict[str, Attribute] = dict(root.attrs) if root.name == "gemm" else {}
        if root.name == "linear":
            attrs["transB"] = int(bool(root.attrs["transposed"]))
        attrs[side] = 1 - int(bool(attrs.get(side, 0)))
        added = [m[row]] if m.get(row) is not None else []
        names = ("a", "b", "bias")[: 2 + len(added)]
        return build.op("gemm", [m[x], m[y], *added], attrs, names=names).result

    return Rule(name, body.pattern, body.body, body.doc)


@rule(pat.add(product, z))
def sum_to_gemm(m: Match, build: Builder) -> Value:
    """A product of two matrices and what is added to it are a general product."""
    _require_matrices(m)
    _require_summand(m, product)
    return build.gemm(m[x], m[y], bias=m[z])


@rule(pat.add(layer, z))
def sum_behind_layer(m: Match, build: Builder) -> Value:
    """A linear layer on rows and what is added to it are a general product."""
    _require_matrices(m)
    _require_summand(m, layer)
    return build.gemm(m[x], m[y], bias=m[z], transB=int(bool(m[layer].attrs["transposed"])))


@rule(pat.add(general, z))
def sum_into_gemm(m: Match, build: Builder) -> Value:
    """What is added to a general product is part of it."""
    _require_summand(m, general)
    operands = [m[x], m[y], m[z]]
    return build.op("gemm", operands, m[general].attrs, names=("a", "b", "bias")).result


def _require_summand(m: Match, inner: OpPattern) -> None:
    m.fits(m[x].type.dtype in FLOATS)
    same = m.root.result.type == m[inner].result.type
    fits = same and broadcasts_to(m[z].type.shape, m.root.result.type.shape)
    m.require(fits, "the product broadcasts to the summand")


@rule(pat.mul(general, number))
def factor_into_gemm(m: Match, build: Builder) -> Value:
    """One factor of a general product is part of it."""
    op, factor = m[general], uniform(m[number])
    m.fits(factor is not None and m[x].type.dtype in FLOATS)
    m.require(m.root.result.type == op.result.type, "the constant broadcasts the product")
    attrs = {**op.attrs, "alpha": op.float("alpha") * (factor or 0.0)}
    return build.op("gemm", [m[x], m[y]], attrs).result


GEMM_RULES = (
    _turned(pat.matmul(x, turned_y), turned_y, "transB", "transpose-into-product"),
    _turned(pat.matmul(turned_x, y), turned_x, "transA", "left-transpose-into-product"),
    _turned(pat.gemm(x, turned_y, bias=row.optional()), turned_y, "transB", "transpose-into-gemm"),
    _turned(
        pat.gemm(turned_x, y, bias=row.optional()), turned_x, "transA", "left-transpose-into-gemm"
    ),
    _turned(
        pat.linear(turned_x, y, bias=row.optional()), turned_x, "transA", "transpose-into-layer"
    ),
    sum_to_gemm,
    sum_behind_layer,
    sum_into_gemm,
    factor_into_gemm,
)
