# pyright: standard
"""Lowering of tensors that are quantised by their own range."""

from __future__ import annotations

from typing import Any

from tvm.tirx import PrimFunc

from leptonc.backends.cpu.dynamic_quantize import DynamicBuffers, DynamicSpec, dynamic_quantize
from leptonc.backends.tvm.lower.opaque import Kernel, kernel
from leptonc.backends.tvm.lowering import KernelRule, LowerCall, Reason, Rule


def _lowered(call: LowerCall, cpu: Any) -> PrimFunc:
    op = call.op
    shape = tuple(d if isinstance(d, int) else call.dim(d) for d in op.operands[0].type.shape)
    channels = op.int("channels") if op.name == "dynamic_quantize_blocked" else 0

    def body(job: Kernel) -> None:
        y, scale, point = (job.outputs.get(at) for at in range(3))
        factor = op.operand("factor")
        given = None if factor is None else job.inputs[factor]
        buffers = DynamicBuffers(job.inputs[op.operands[0]], y, scale, point, given)
        dynamic_quantize(DynamicSpec(shape, channels), cpu, buffers)

    return kernel(call, cpu, body)


RULES: dict[str, Rule] = {}
KERNELS: dict[str, KernelRule] = {
    "dynamic_quantize_linear": _lowered, "dynamic_quantize_blocked": _lowered,
}  # fmt: skip
REASONS: dict[str, Reason] = {}
