# pyright: standard
"""Tensors of bf16 between kernels: read as bits, written rounded.

Inside of a kernel they are bits, for TVM makes floats of what it knows as bf16.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

from tvm.tirx.script import builder as T  # noqa: N812

from leptonc.backends.cpu import emit
from leptonc.backends.cpu.emit import Extent, Register
from leptonc.backends.cpu.instructions import as_bf16, with_bf16
from leptonc.backends.cpu.target import CpuTarget
from leptonc.backends.tvm.binding import Buffer, PrimExpr, tirx

BF16 = "bfloat16"
BITS = "uint16"


def around(cpu: CpuTarget, *dtypes: str) -> Any:
    """What stands around a kernel that reads or writes these types."""
    return with_bf16(cpu) if BF16 in dtypes else nullcontext()


def as_bits(buffer: Buffer) -> Buffer:
    """A tensor whose bf16 are bits."""
    return emit.view(buffer, buffer.shape, BITS) if buffer.dtype == BF16 else buffer


@dataclass(frozen=True)
class Stored:
    """The output of a kernel, which may hold bf16."""

    data: Buffer
    cpu: CpuTarget
    rounds: bool

    @staticmethod
    def of(out: Buffer, cpu: CpuTarget) -> Stored:
        """That with this buffer."""
        return Stored(as_bits(out), cpu, out.dtype == BF16)

    def put(
        self, index: Sequence[PrimExpr], lanes: int, value: Callable[[PrimExpr], PrimExpr]
    ) -> None:
        """Stores neighbours along the last axis, from its beginning on: `value` of each lane."""
        if not self.rounds:
            with emit.vectorized(lanes) as lane:
                T.buffer_store(self.data, value(lane), [*index, lane])
            return
        register = Register(lanes)
        with emit.vectorized(lanes) as lane:
            T.buffer_store(register.buffer, value(lane), [lane])
        emit.store(self.data, as_bf16(self.cpu, register.get()), [*index, 0], lanes)

    def clear(self, index: Sequence[Extent], lanes: int) -> None:
        """Stores so many zeros, from an element on."""
        zeros = emit.broadcast(tirx.const(0, self.data.dtype), lanes)
        emit.store(self.data, zeros, index, lanes)
