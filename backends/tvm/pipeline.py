# pyright: standard
"""TVM's passes from a scheduled kernel to code for a CPU, without those for GPUs."""

from __future__ import annotations

from typing import Any

import tvm
from tvm import s_tir, tirx

from leptonc.backends.tvm.registers import BindingsToRegisters, FlattenBindings

PIPELINE = "leptonc"
"""The name `tirx.build` knows the passes by."""


def _lowering() -> Any:
    transform, blocks = tirx.transform, s_tir.transform
    return tvm.ir.transform.Sequential([
        FlattenBindings(),
        blocks.CanonicalizeLoop(),
        blocks.LowerInitBlock(),
        blocks.PlanAndUpdateBufferAllocationLocation(),
        blocks.ConvertBlocksToOpaque(),
        blocks.CompactBufferAllocation(),
        blocks.LowerMatchBuffer(),
        blocks.StmtSimplify(),
        blocks.LowerOpaqueBlock(),
        transform.FlattenBuffer(),
        transform.BF16ComputeLegalize(),
        transform.NarrowDataType(32),
        blocks.LoopPartition(),
        transform.VectorizeLoop(True),
        transform.StorageRewrite(),
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
        transform.LowerTVMBuiltin(), transform.LowerIntrin(), BindingsToRegisters(),
    ])  # fmt: skip


def _for_device() -> Any:
    return tvm.ir.transform.Sequential([])


def _passes() -> tuple[Any, Any, Any]:
    return _lowering(), _for_host, _for_device


tirx.register_tir_pipeline(PIPELINE, _passes)
