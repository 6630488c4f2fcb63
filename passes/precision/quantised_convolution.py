"""What rules need of a convolution of bytes whose scales and zero points are known."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from leptonc.ir.blob import Array
from leptonc.ir.build import Builder
from leptonc.ir.graph import Value
from leptonc.ir.types import DType
from leptonc.passes.pattern import Match
from leptonc.passes.precision.integral import BYTES
from leptonc.passes.precision.scaling import limited


@dataclass(frozen=True)
class QuantisedConv:
    """The operand and its zero point, the weight less its own, and how sums are quantised."""

    source: Value
    zero: int
    integers: Array
    bias: Array | None
    factor: Array
    point: Array
    dtype: DType

    @property
    def most(self) -> int:
        """No number of the bias is further from zero."""
        return 0 if self.bias is None else int(np.abs(self.bias.astype(np.int64)).max(initial=0))


def quantised_conv(m: Match) -> QuantisedConv:
    """The root, a quantised convolution; the match goes on only where all but bytes is known."""
    op, (source, *others) = m.root, m.root.operands
    names, dtype = op.operand_names[1:], op.result.type.dtype
    blobs = [value.blob for value in others]
    m.require(all(blob is not None for blob in blobs), "weights or scales are not known")
    data = {name: blob.array for name, blob in zip(names, blobs, strict=True) if blob is not None}
    m.fits(source.blob is None and dtype in BYTES)
    scales = data["x_scale"].reshape(()), data["w_scale"].reshape(-1), data["y_scale"].reshape(())
    with np.errstate(all="ignore"):
        factor = np.asarray(scales[0] * scales[1] / scales[2], np.float32)
    m.require(bool(np.isfinite(factor).all()), "the scales together are no finite number")
    points = data["w_zero_point"].astype(np.int32).reshape(-1, *(1,) * (data["w"].ndim - 1))
    return QuantisedConv(
        source, int(data["x_zero_point"].reshape(())), data["w"].astype(np.int32) - points,
        data.get("bias"), factor, data["y_zero_point"].reshape(()), dtype,
    )  # fmt: skip


def requantised(
    build: Builder, sums: Value, conv: QuantisedConv, by_filter: tuple[int, ...]
) -> Value:
    """Bytes of sums; a number for each filter broadcasts to them in the shape `by_filter`."""
    if conv.bias is not None:
        sums = build.add(sums, build.const(conv.bias.reshape(by_filter)))
    real = build.op("cast", [sums], {"to": DType.F32}).result
    factor = conv.factor.reshape(by_filter if conv.factor.size > 1 else ())
    rounded = build.round(build.mul(real, build.const(factor)))
    shifted = build.add(rounded, build.const(conv.point.astype(np.float32)))
    return build.op("cast", [limited(build, shifted, conv.dtype).value], {"to": conv.dtype}).result
