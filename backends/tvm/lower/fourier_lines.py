# pyright: standard
"""The lines of numbers that a Fourier transform reads and writes, one by one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from leptonc.backends.cpu import emit
from leptonc.backends.tvm.binding import PrimExpr, tirx
from leptonc.backends.tvm.lower.fourier_stages import Complex
from leptonc.backends.tvm.lower.opaque import Kernel
from leptonc.backends.tvm.lower.parts import cast
from leptonc.ir.dims import Dim


@dataclass(frozen=True)
class Lines:
    """Where the numbers of each line stand in the operand and in the result of a transform."""

    job: Kernel
    axis: int
    length: Dim
    is_inverse: bool
    is_onesided: bool
    dtype: str
    """What is computed in."""

    @property
    def others(self) -> list[Dim]:
        """The extents that lines are counted by."""
        shape = self.job.shape(0)
        return [*shape[: self.axis], *shape[self.axis + 1 : -1]]

    def head(self, line: PrimExpr) -> list[Any]:
        """The index of a line among the other extents."""
        dims = self.others
        return emit.unflatten(line, tuple(map(self.job.call.dim, dims))) if dims else []

    def load(self, head: Sequence[Any], at: PrimExpr) -> Complex:
        """Number `at` of a line; zeros behind its end. Inverse transforms swap the parts."""
        call, shape = self.job.call, self.job.shape(0)
        given, length = call.dim(shape[self.axis]), call.dim(self.length)
        zero = tirx.const(0, self.dtype)
        mirrored = self.is_inverse and self.is_onesided
        behind = at > tirx.floordiv(length, 2) if mirrored else None
        place = at if behind is None else tirx.Select(behind, length - at, at)

        def part(number: int) -> PrimExpr:
            index = [*head[: self.axis], place, *head[self.axis :], call.index(number)]
            value = cast(self.job.read(0, index), self.dtype)
            return tirx.if_then_else(place < given, value, zero)

        re = part(0)
        im = part(1) if shape[-1] == 2 else zero
        if behind is not None:
            im = tirx.Select(behind, -im, im)
        return Complex(im, re) if self.is_inverse else Complex(re, im)

    def store(self, head: Sequence[Any], at: PrimExpr, value: Complex) -> None:
        """Keep a number of the result."""
        call = self.job.call
        re, im = (value.im, value.re) if self.is_inverse else (value.re, value.im)
        if self.job.shape(0)[-1] == 1:
            # what real numbers have at half the rate is real: rounding must not say otherwise
            im = tirx.Select(at * 2 == call.dim(self.length), tirx.const(0, self.dtype), im)
        if self.is_inverse:
            scale = tirx.const(1, self.dtype) / cast(call.dim(self.length), self.dtype)
            re, im = re * scale, im * scale
        parts = [re, im] if self.job.call.op.result.type.shape[-1] == 2 else [re]
        for number, part in enumerate(parts):
            index = [*head[: self.axis], at, *head[self.axis :], call.index(number)]
            emit.store(self.job.outputs[0], cast(part, call.dtype()), index)
