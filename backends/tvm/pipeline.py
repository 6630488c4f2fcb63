# pyright: standard
"""TVM's passes from a scheduled kernel to code for a CPU, without those for GPUs."""

from __future__ import annotations

from typing import Any

import tvm
from tvm import s_tir, tirx

from leptonc.backends.tvm.flatten import WHOLE, Flatten
from leptonc.backends.tvm.registers import BindingsToRegisters, FlattenBindings
from leptonc.backends.tvm.vector_instructions import VectorInstructions

PIPELINE = "leptonc"
"""The name `tirx.build` knows the passes by."""


@tirx.transform.prim_func_pass(opt_level=0)
class CompactScheduled:
    """Buffers of scheduled kernels are as small as what is read of them.

    The others keep theirs: where an index is data, TVM takes the data for known before it is.
    """

    def __init__(self) -> None:
        self.compact = s_tir.transform.CompactBufferAllocation()

    def transform_function(self, function: Any, module: Any, context: Any) -> Any:
        """`function` with smaller buffers."""
        if WHOLE in function.attrs:
            return function
        return self.compact(tvm.IRModule({"kernel": function}))["kernel"]


def _lowering() -> Any:
    transform, blocks = tirx.transform, s_tir.transform
    return tvm.ir.transform.Sequential([
        FlattenBindings(),
        blocks.CanonicalizeLoop(),
        blocks.LowerInitBlock(),
        blocks.PlanAndUpdateBufferAllocationLocation(),
        blocks.ConvertBlocksToOpaque(),
        CompactScheduled(),
        blocks.LowerMatchBuffer(),
        blocks.StmtSimplify(),
        blocks.LowerOpaqueBlock(),
        Flatten(),
        transform.BF16ComputeLegalize(),
        transform.NarrowDataType(32),
        blocks.LoopPartition(),
        transform.VectorizeLoop(True),
        transform.StorageRewrite(),
        transform.ConvertSSA(),  # inlining repeats bindings
        blocks.HoistIfThenElse(),
        transform.UnrollLoop(),
        transform.StmtSimplify(),
        transform.RemoveNoOp(),
        blocks.RewriteUnsafeSelect(),
        transform.AnnotateEntryFunc(),
        transform.SplitHostDevice(),
        transform.MakePackedAPI(),
        transform.BF16StorageLegalize(),
    ])  # fmt: skip


def _for_host() -> Any:
    transform = tirx.transform
    return tvm.ir.transform.Sequential([
        VectorInstructions(), transform.LowerTVMBuiltin(), transform.LowerIntrin(),
        BindingsToRegisters(),
    ])  # fmt: skip


def _for_device() -> Any:
    return tvm.ir.transform.Sequential([])


def _passes() -> tuple[Any, Any, Any]:
    return _lowering(), _for_host, _for_device


tirx.register_tir_pipeline(PIPELINE, _passes)
