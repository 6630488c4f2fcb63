"""How operations take their constants in the order in which kernels read them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from leptonc.backends.cpu.decision import Decision
from leptonc.backends.cpu.target import CpuTarget
from leptonc.backends.cpu.tiles import MOST_VECTORS
from leptonc.ir.blob import Array, Blob
from leptonc.ir.graph import Attribute, Op
from leptonc.ir.types import DType, TensorType


@dataclass(frozen=True)
class Packing:
    """How an operation takes its constants: the row that replaces it, packed data by operand."""

    row: str
    attrs: Mapping[str, Attribute]
    blobs: Mapping[str, Blob]


Chooser = Callable[[Op, Mapping[str, Blob], CpuTarget, Decision], "Packing | None"]


def decided_panel(decision: Decision, cpu: CpuTarget) -> int:
    """The width of a panel that was decided; 0 where formulas choose it."""
    vectors = decision.vectors or 0
    return vectors * cpu.lanes if vectors <= MOST_VECTORS else 0


def floats(shape: tuple[int, ...], pack: Callable[[], Array]) -> Blob:
    """Numbers of fp32 that are packed when they are read."""
    return Blob(TensorType(DType.F32, shape), pack)
