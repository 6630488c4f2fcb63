# pyright: standard
"""Functions of whole vectors that take fewer instructions with AVX-512.

An expression keeps what any CPU does beside what it is of; once loops are vectors and the target is
known, a call to a few lines of LLVM's language takes its place where there are instructions for it.
"""

from __future__ import annotations

import struct
from typing import Any

import tvm
import tvm_ffi
from tvm.ir import Call, Op, StringImm
from tvm.ir.op import register_op_attr
from tvm.tirx.op import register_intrin_lowering

from leptonc.backends.tvm.binding import PrimExpr, tirx

PURE = 1
"""The kind of effect of an expression that has none: `tvm.tirx.CallEffectKind` has it as Pure."""
VECTOR = "float32x16"
ARCHITECTURE = "x86-64-v4"
"""LLVM's name of the level that has these instructions: see `cpu/target.py`."""
ONE_PLUS_EXP = "leptonc_one_plus_exp"
MINUS_LOG2_E = -1.4426950216293335
# 2**f for f from 0 to 1, highest power first: 1.5e-7 of it at most, with the roundings.
EXP2 = (
    0.0018689563730731606, 0.009014884941279888, 0.05579930171370506, 0.24016565084457397,
    0.69315105676651, 1.0,
)  # fmt: skip


def splat(value: float) -> str:
    """A constant of fp32 in all lanes, in LLVM's language, which writes floats as doubles."""
    rounded = struct.unpack("f", struct.pack("f", value))[0]
    return f"splat (float 0x{struct.unpack('Q', struct.pack('d', rounded))[0]:016X})"


def one_plus_exp_source() -> str:
    """`1 + exp(-x)` in LLVM's language.

    One instruction takes the whole part of the power of 2 from it, another one scales by it, both
    as they should where that is infinite. The power is off by 1.5e-7, and by up to 4.2e-8 for each
    1 that x is away from zero, since it is rounded before its whole part is taken.
    """
    floats, reduce = "<16 x float>", "@llvm.x86.avx512.mask.reduce.ps.512"
    fma, scale = "@llvm.fma.v16f32", "@llvm.x86.avx512.mask.scalef.ps.512"
    sum, steps = splat(EXP2[0]), ""
    for i, constant in enumerate(EXP2[1:]):
        factors = f"{floats} {sum}, {floats} %f, {floats} {splat(constant)}"
        steps += f"  %p{i} = call {floats} {fma}({factors})\n"
        sum = f"%p{i}"
    return f"""
declare {floats} {fma}({floats}, {floats}, {floats})
declare {floats} {reduce}({floats}, i32, {floats}, i16, i32)
declare {floats} {scale}({floats}, {floats}, {floats}, i16, i32)
define {floats} @{ONE_PLUS_EXP}({floats} %x) alwaysinline {{
  %t = fmul {floats} %x, {splat(MINUS_LOG2_E)}
  %f = call {floats} {reduce}({floats} %t, i32 9, {floats} poison, i16 -1, i32 4)
{steps}  %e = call {floats} {scale}(
      {floats} {sum}, {floats} %t, {floats} poison, i16 -1, i32 4)
  %r = fadd {floats} %e, {splat(1.0)}
  ret {floats} %r
}}
"""


def or_instructions(x: PrimExpr, otherwise: PrimExpr) -> PrimExpr:
    """`1 + exp(-x)`: in instructions of AVX-512, or as it is said otherwise."""
    return tirx.call_intrin("float32", OPERATOR, x, otherwise)


def operator() -> Op:
    """An operator that vectorises and gives its second argument, where no pass knew better."""
    name = "leptonc.one_plus_exp"
    tvm.get_global_func("ir.RegisterOp")(name, "its second argument")
    register_op_attr(name, "TCallEffectKind", PURE)
    register_op_attr(name, "TVectorizable", True)
    register_op_attr(name, "TScriptPrinterName", "leptonc_one_plus_exp")
    register_intrin_lowering(name, target="default", f=lambda call: call.args[1])
    return Op.get(name)


OPERATOR = operator()


@tvm.tirx.transform.prim_func_pass(opt_level=0)
class VectorInstructions:
    """Vectors of 512 bits go through the instructions for them. Runs on vectorised functions."""

    def transform_function(self, function: Any, module: Any, context: Any) -> Any:
        """`function` with calls to a function that it brings along."""
        target = function.attrs.get("target") if function.attrs else None
        if target is None or str(target.attrs.get("mcpu", "")) != ARCHITECTURE:
            return function
        found: list[Any] = []

        def call(one: Any, mutator: Any) -> Any:
            if not one.op.same_as(OPERATOR) or str(one.ty) != VECTOR:
                return mutator.default_mutate(one)
            found.append(one)
            return tirx.call_pure_extern(VECTOR, ONE_PLUS_EXP, mutator.mutate(one.args[0]))

        body = tvm_ffi.structural_mutate(function.body, [(Call, call)])
        if not found:
            return function
        source = StringImm(one_plus_exp_source())
        brought = tirx.AttrStmt(tirx.const(0, "int32"), "pragma_import_llvm", source, body)
        return function.with_body(brought)
