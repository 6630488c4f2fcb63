"""lower-precision: layers and attention multiply bf16 and add fp32."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from leptonc.ir.blob import Blob
from leptonc.ir.dims import Dim
from leptonc.ir.graph import Graph, Op
from leptonc.ir.ops.attention import head_shapes
from leptonc.ir.ops.bf16 import OPERANDS, WEIGHT
from leptonc.ir.types import DType
from leptonc.passes.base import Pass, option
from leptonc.passes.context import PassContext
from leptonc.passes.contract import Contract, for_finite, lossy
from leptonc.passes.layout.winograd_cost import extents_of, outputs_of_bf16

SMALL = 4096
"""Weights with fewer numbers than this stay in the first cache: nothing is saved."""
FEWEST = 16
"""Products of a sum that pay for rounding the inputs of a convolution."""
LARGEST = 3.3895e38
"""What is larger than this is infinite in bf16."""

BOTH = frozenset({"matmul", "gemm", "fused_matmul"})
CONVOLUTIONS = frozenset({"conv", "conv_transpose", "deform_conv"})
RECURRENT = frozenset({"lstm", "gru", "rnn"})
PRODUCTS = BOTH | CONVOLUTIONS | RECURRENT | {"linear", "conv_blocked", "attention"}
"""What has products of floats; all else stays as it is without a word."""


@dataclass(frozen=True)
class LowerPrecision(Pass):
    """Rounds what products with known weights, and attention, multiply to bf16; sums stay fp32.

    bf16 has the exponents of fp32 and 8 bits of a number: each operand is off by at most 1/512 of
    itself. With `pairs`, for CPUs with an instruction that multiplies pairs of bf16, both operands
    of layers are rounded, where a product then takes half the time, and of attention queries, keys,
    values and the powers of the scores; with `convolutions` the operands of convolutions in blocks,
    too. Without, only the weights of layers are, which are half as large in memory and are widened
    where they are multiplied.

    fp32 stay normalisations, softmax, reductions, sums and all else that is no product; products of
    two computed operands outside of attention; recurrent layers, whose errors add up over steps;
    weights of layers with fewer than 4096 numbers, or any with one beyond bf16; convolutions of
    fewer than 16 products for each output, to one filter, and depthwise ones; and those that
    Winograd's tiles of fp32 take through in fewer cycles.

    Convolutions of 3 x 3 with stride 1 take Winograd's tiles of 2 x 2 outputs where these take
    fewer cycles: what the tiles' points take of the operands is rounded in their place, and results
    are off by 1.1 to 1.8 times what they are without.

    A sum of many products is off by some thousandths of the usual size of such a sum; where large
    ones cancel, or a root or logarithm of what is left follows, more of a result is lost. The
    contract is what networks keep; `compile` measures each model and tells its error.
    """

    name: ClassVar[str] = "lower-precision"
    numbers: ClassVar[Contract] = for_finite(lossy(rtol=2**-4, atol=2**-3))
    to: str = option("bf16", "what is multiplied: bf16")
    pairs: bool = option(False, "whether the target multiplies pairs of bf16")
    convolutions: bool = option(False, "whether it does so in convolutions, too")

    def run(self, graph: Graph, context: PassContext) -> None:
        """Look at every product, in every region."""
        for op in graph.walk() if self.to == "bf16" else ():
            if op.name not in PRODUCTS or op.results[0].type.dtype is not DType.F32:
                continue
            if op.attrs.get("rounds"):
                continue
            reason = self._reason(op)
            if reason:
                context.miss(self.name, op.location, reason)
            elif context.grant(self.name, op.location):
                op.set_attr("rounds", OPERANDS if self.pairs else WEIGHT)
                if op.name == "conv_blocked":
                    op.set_attr("tile", _tile(op) or 0)
                    op.set_attr("halved", False)

    def _reason(self, op: Op) -> str:
        """Why this product stays fp32; empty where it does not."""
        if op.name in BOTH and any(value.blob is not None for value in op.operands):
            return "the constant operand is no weight of a layer"
        if op.name in BOTH:
            return "both operands are computed: no weight becomes smaller"
        if op.name in RECURRENT:
            return "errors of a recurrent layer add up over the steps"
        if op.name in CONVOLUTIONS:
            return "the convolution has no kernel in blocks of channels"
        if op.name == "attention":
            return self._of_attention(op)
        weight = op.operands[1].blob
        if weight is None:
            return "both operands are computed: no weight becomes smaller"
        if op.name == "conv_blocked":
            own = self._of_pixels(op)
            if own:
                return own
        elif weight.size < SMALL:
            return f"the weight has fewer than {SMALL} numbers"
        return "the weight has numbers beyond bf16" if _is_beyond(weight) else ""

    def _of_attention(self, op: Op) -> str:
        if not self.pairs:
            return "attention reads no weight, and this target multiplies no pairs of bf16"
        shapes = [value.type.shape for value in op.operands[:3]]
        q, k, v = head_shapes(shapes, op.int("q_num_heads"), op.int("kv_num_heads"))
        if not all(isinstance(extent, int) for extent in (q[1], k[1], q[3], v[3])):
            return "attention with a head or width that is not known is computed in parts"
        return "an odd width of keys makes no pairs" if _is_odd(q[3]) else ""

    def _of_pixels(self, op: Op) -> str:
        if not self.convolutions:
            return "arithmetic bounds convolutions, and this target has none of bf16"
        filters, channels, height, width = op.operands[1].type.extents
        if channels == 1 and op.int("group") == filters:
            return "each channel has a filter of its own: there are no sums of many products"
        if channels * height * width < FEWEST:
            return f"sums of fewer than {FEWEST} products cost less than rounding what they add"
        if filters == 1 and not op.attrs["plain"]:
            return "vectors of channels, for one filter, are fewer products than pairs of channels"
        if op.attrs["plain"] and (op.ints("dilations") or (1, 1))[1] != 1:
            return "columns of the first layer that are apart make no pairs"
        if channels % 2 and not op.attrs["plain"]:
            return "an odd number of channels makes no pairs"
        return "Winograd's tiles take fewer cycles in fp32" if _tile(op) is None else ""


def _tile(op: Op) -> int | None:
    """The tile of a convolution of bf16, 0 for none; None where that in fp32 is faster."""
    extents = extents_of(op)
    return 0 if extents is None else outputs_of_bf16(extents, op.int("lanes"), op.int("tile"))


def _is_odd(extent: Dim) -> bool:
    return isinstance(extent, int) and extent % 2 == 1


def _is_beyond(weight: Blob) -> bool:
    """True where rounding would make a number infinite."""
    array = weight.array
    return bool(array.max() > LARGEST or array.min() < -LARGEST)
