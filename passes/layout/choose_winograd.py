"""choose-winograd: convolutions that take fewer cycles so are computed by Winograd's tiles."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from leptonc.ir.graph import Graph, Op
from leptonc.ir.types import DType
from leptonc.passes.base import Pass, option
from leptonc.passes.context import PassContext
from leptonc.passes.contract import REASSOCIATES, Contract
from leptonc.passes.layout.winograd_cost import chosen_outputs, extents_of


@dataclass(frozen=True)
class ChooseWinograd(Pass):
    """Gives blocked convolutions of 3 x 3 the tiles that need the fewest cycles.

    Tiles of 2 x 2 outputs round as a direct convolution does, those of 4 x 4 twice as much. An
    infinite element makes NaN of all outputs of its tile, where a direct convolution would make
    them infinite. The weights take 1.8 and 4 times the memory, with stride 2 they take 2.8 and 9
    times. With `lanes` of 0 nothing changes.
    """

    name: ClassVar[str] = "choose-winograd"
    numbers: ClassVar[Contract] = REASSOCIATES
    lanes: int = option(0, "the f32 numbers in a vector of the target")
    largest: int = option(4, "outputs of the largest tile in one direction: 2 or 4")
    threads: int = option(1, "the threads that share a convolution")

    def run(self, graph: Graph, context: PassContext) -> None:
        """Choose for every convolution, in every region."""
        for op in graph.walk() if self.lanes else ():
            if op.name != "conv_blocked" or op.attrs["tile"]:
                continue
            tile = self._tile(op)
            if isinstance(tile, str):
                context.miss("choose-winograd", op.location, tile)
            elif context.grant("choose-winograd", op.location):
                op.set_attr("tile", tile)

    def _tile(self, op: Op) -> int | str:
        """The width of the tiles, or why a direct convolution stays."""
        weight = op.operands[1]
        if weight.blob is None or weight.type.dtype is not DType.F32:
            return "the weight is not known, or not f32"
        extents = extents_of(op)
        if extents is None:
            return "not 3 x 3 of all channels with stride 1 or 2"
        outputs = chosen_outputs(extents, self.lanes, self.largest, max(self.threads, 1))
        return outputs or "direct takes fewer cycles"
