"""halve-convolutions: pointwise convolutions of many channels take seven products of halves."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from leptonc.ir.dims import product
from leptonc.ir.graph import Graph, Op
from leptonc.ir.types import DType
from leptonc.passes.base import Pass, option
from leptonc.passes.context import PassContext
from leptonc.passes.contract import REASSOCIATES, Contract

ENOUGH = 0.96
"""The sums round more: they must take at most this part of the time."""

SEVEN_PRODUCTS, SUMS_OF_RESULTS, SUMS_OF_PIXELS = 0.89, 5.0, 5.0
"""The part of the time of a direct convolution of C channels to F filters is about

    0.89 + 5 / C + 5 / F

The first term is 7 / 8 and what smaller products lose, the others are sums of quarters of the
result and of the pixels. As measured on Zen 4, with 8 lanes and with 16, for 64 to 1024 channels.
"""

FEWEST_PIXELS = 144
"""Halves of fewer make small tiles: 512 channels at 8 x 8 take 0.95 with 16 lanes, 1.04 with 8."""

VECTORS = 2
"""The vectors of a panel, into which half of the filters are divided."""


@dataclass(frozen=True)
class HalveConvolutions(Pass):
    """Marks pointwise convolutions that one step of Strassen's algorithm makes faster.

    They round 1.4 times as much, and the weights take 1.75 times the memory. Pixels are added to
    others of the same rows, so each rounds as the larger one of its pair does, and an infinite
    element makes NaN of both. With `lanes` of 0 nothing changes.
    """

    name: ClassVar[str] = "halve-convolutions"
    numbers: ClassVar[Contract] = REASSOCIATES
    lanes: int = option(0, "the f32 numbers in a vector of the target")

    def run(self, graph: Graph, context: PassContext) -> None:
        """Choose for every convolution, in every region."""
        for op in graph.walk() if self.lanes else ():
            if op.name != "conv_blocked" or op.attrs["halved"]:
                continue
            reason = self._reason(op)
            if reason:
                context.miss("halve-convolutions", op.location, reason)
            elif context.grant("halve-convolutions", op.location):
                op.set_attr("halved", True)

    def _reason(self, op: Op) -> str:
        """Why a convolution stays as it is; empty if it does not."""
        weight = op.operands[1]
        if weight.blob is None or weight.type.dtype is not DType.F32 or op.attrs["rounds"]:
            return "the weight is not known, or not f32"
        filters, channels, *kernel = weight.type.extents
        steps = {*(op.ints("dilations") or ()), op.int("group")}
        if kernel != [1, 1] or steps - {1} or any(op.ints("pads") or ()) or op.attrs["plain"]:
            return "not of single pixels without pads, and all channels"
        columns, pixels = op.result.type.shape[3], product(op.result.type.shape[2:4])
        if not isinstance(columns, int) or not isinstance(pixels, int) or columns % 2:
            return "rows have no halves that are known"
        if pixels < FEWEST_PIXELS:
            return f"fewer than {FEWEST_PIXELS} pixels"
        if channels % (2 * self.lanes) or filters % (2 * VECTORS * self.lanes):
            return "channels or filters have no halves of whole blocks"
        if SEVEN_PRODUCTS + SUMS_OF_RESULTS / channels + SUMS_OF_PIXELS / filters > ENOUGH:
            return "eight products take less time"
        return ""
