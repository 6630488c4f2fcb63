# pyright: standard
"""Lowering of attention whose heads and widths are known."""

from __future__ import annotations

from typing import Any

from tvm.tirx import PrimFunc

from leptonc.backends.cpu import emit
from leptonc.backends.cpu.attention import attention
from leptonc.backends.cpu.attention_tile import AttentionBuffers, AttentionSpec
from leptonc.backends.tvm.lower.opaque import kernel
from leptonc.backends.tvm.lowering import KernelRule, LowerCall, Reason, Rule
from leptonc.ir.graph import Op
from leptonc.ir.ops.attention import head_shapes
from leptonc.ir.ops.bf16 import OPERANDS
from leptonc.ir.types import DType


def _lowered(call: LowerCall, cpu: Any) -> PrimFunc:
    op = call.op
    given = op.operand("mask")

    def write(job: Any) -> None:
        q, k, v = (job.inputs[value] for value in op.operands[:3])
        mask = None if given is None else job.inputs[given]
        if mask is not None:
            mask = _as_rank_four(call, mask)
        attention(_spec(call), cpu, AttentionBuffers(q, k, v, mask, job.outputs[0]))

    return kernel(call, cpu, write)


def _spec(call: LowerCall) -> AttentionSpec:
    op = call.op
    q, k, _ = _shapes(op)
    batch, queries, keys = (
        dim if isinstance(dim, int) else call.dim(dim) for dim in (q[0], q[2], k[2])
    )
    heads, groups, depth, width = _fixed(op)
    return AttentionSpec(
        batch, heads, groups, queries, keys, depth, width, op.float("scale"),
        in_rows=op.operands[0].type.rank == 3,
        causal=bool(op.int("is_causal")),
        rounded=op.attrs["rounds"] == OPERANDS,
        guarded=bool(op.int("guarded")),
        mask=_mask_shape(call),
    )  # fmt: skip


def _mask_shape(call: LowerCall) -> tuple[Any, ...] | None:
    given = call.op.operand("mask")
    if given is None:
        return None
    shape = [dim if isinstance(dim, int) else call.dim(dim) for dim in given.type.shape]
    return (*[1] * (4 - len(shape)), *shape)


def _as_rank_four(call: LowerCall, mask: Any) -> Any:
    shape = _mask_shape(call)
    assert shape is not None
    return emit.view(mask, shape) if len(mask.shape) < 4 else mask


def _reason(op: Op) -> str:
    if op.result.type.dtype is not DType.F32:
        return f"attention of {op.result.type.dtype} has no kernel of its own on this target"
    if op.float("softcap"):
        return "attention with softcap has no kernel of its own on this target"
    known = all(isinstance(extent, int) and extent for extent in _fixed(op))
    return "" if known else "attention with a head or width that is not known has no kernel"


def _shapes(op: Op) -> tuple[tuple[Any, ...], ...]:
    shapes = [value.type.shape for value in op.operands[:3]]
    return head_shapes(shapes, op.int("q_num_heads"), op.int("kv_num_heads"))


def _fixed(op: Op) -> tuple[Any, ...]:
    """What must be known: the heads of queries and of keys, the widths of keys and of values."""
    q, k, v = _shapes(op)
    return q[1], k[1], q[3], v[3]


RULES: dict[str, Rule] = {}
KERNELS: dict[str, KernelRule] = {"attention": _lowered}
REASONS: dict[str, Reason] = {"attention": _reason}
