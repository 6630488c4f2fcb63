# pyright: standard
"""Values inside expressions that are computed once and used more often."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tvm
from tvm import tirx as typed_tirx
from tvm.ir import Call, Op
from tvm.ir.op import register_op_attr
from tvm.te.tensor import TensorSlice
from tvm.tirx.op import register_intrin_lowering

# TVM's expressions, buffers and builders: their members and operators are added at run time, and
# what is annotated is often wrong, so that a type checker can only be misled.
PrimExpr = Any
Buffer = Any
Tensor = Any
PrimFunc = Any
tirx: Any = typed_tirx

# The kind of effect of an expression that loads: `tvm.tirx.CallEffectKind` has it as ReadState.
READS_STATE = 2
# The float types of the same size.
FLOATS = {"float32": "float32", "float64": "float64", "int32": "float32", "int64": "float64"}


def let(value: PrimExpr, body: Callable[[PrimExpr], PrimExpr], name: str = "v") -> PrimExpr:
    """`body` of the value, which is computed once however often `body` uses it."""
    variable = tirx.Var(name, str(value.ty))
    return tirx.Let(variable, opaque(value), body(variable))


def expression(value: Any) -> PrimExpr:
    """The value as an expression, where it is the element of a tensor."""
    return value.asobject() if isinstance(value, TensorSlice) else value


def opaque(value: PrimExpr) -> PrimExpr:
    """The value, as an expression that TVM's analysers take for one with effects.

    They substitute the values of pure bindings into each other: the time to compile a chain of
    them is exponential in its length.
    """
    dtype = str(value.ty)
    if isinstance(value, tirx.Var) or dtype not in FLOATS:
        return value
    number = value if FLOATS[dtype] == dtype else tirx.reinterpret(FLOATS[dtype], value)
    fenced = tirx.call_intrin(FLOATS[dtype], FENCE, number)
    return fenced if FLOATS[dtype] == dtype else tirx.reinterpret(dtype, fenced)


def lower_fence(call: Call) -> PrimExpr:
    """The fence as LLVM's, which is no instruction."""
    return tirx.call_llvm_intrin(str(call.ty), "llvm.arithmetic.fence", call.args[0])


def fence_operator() -> Op:
    """An operator that vectorises, reads something as far as TVM knows, and gives its argument."""
    name = "leptonc.fence"
    tvm.get_global_func("ir.RegisterOp")(name, "its argument")
    register_op_attr(name, "TCallEffectKind", READS_STATE)
    register_op_attr(name, "TVectorizable", True)
    register_op_attr(name, "TScriptPrinterName", "leptonc_fence")
    register_intrin_lowering(name, target="default", f=lower_fence)
    return Op.get(name)


FENCE = fence_operator()
