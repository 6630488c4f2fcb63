"""Rules of `join-nodes` about integers that are moved before they are made real."""

from __future__ import annotations

from leptonc.ir.build import Builder
from leptonc.ir.graph import Value
from leptonc.ir.types import DType
from leptonc.passes.pattern import Match, Var, pat
from leptonc.passes.rewrite import rule

INTEGERS = frozenset({DType.I8, DType.U8, DType.I16, DType.U16})

x, scale, point = Var("x"), Var("scale"), Var("zero point")
real = pat.dequantize_linear(x, scale, point.optional())
moved = pat.any_of("flatten", "reshape", "slice", "squeeze", "transpose", "unsqueeze")


@rule(moved(..., x=real))
def moved_before_real(m: Match, build: Builder) -> Value:
    """Integers are moved before one scale makes them real: that is a quarter of the bytes.

    Some releases of onnxruntime fail on numbers that are moved behind it from opset 21 on.
    """
    op, inner = m.root, m[real]
    m.fits(m[x].type.dtype in INTEGERS)
    m.require(m[x].blob is None, "the integers are constant")
    m.require(m[scale].type.shape in ((), (1,)), "there is more than one scale")
    made = m[x].producer
    paired = made is not None and made.name == "quantize_linear" and m[x].type.dtype.is_signed
    m.require(not paired, "onnxruntime looks for signed numbers in pairs")
    operands = [m[x], *op.operands[1:]]
    types = [op.result.type.with_dtype(m[x].type.dtype)]
    view = build.op(
        op.definition, operands, op.attrs, names=op.operand_names, result_types=types
    ).result
    operands = [view, *inner.operands[1:]]
    return build.op(inner.definition, operands, inner.attrs, names=inner.operand_names).result


RULES = (moved_before_real,)
