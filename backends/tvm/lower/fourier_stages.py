# pyright: standard
"""The steps of a fast Fourier transform over arrays of real and imaginary parts."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from leptonc.backends.cpu import emit
from leptonc.backends.tvm.binding import Buffer, PrimExpr, tirx


@dataclass(frozen=True)
class Complex:
    """A complex number, or a vector of them."""

    re: PrimExpr
    im: PrimExpr

    def __add__(self, other: Complex) -> Complex:
        return Complex(self.re + other.re, self.im + other.im)

    def __sub__(self, other: Complex) -> Complex:
        return Complex(self.re - other.re, self.im - other.im)

    def times(self, other: Complex) -> Complex:
        """The product."""
        return Complex(
            emit.fma(self.re, other.re, -(self.im * other.im)),
            emit.fma(self.re, other.im, self.im * other.re),
        )

    def kept(self) -> Complex:
        """The same, computed here."""
        return Complex(emit.let(self.re), emit.let(self.im))

    def spread(self, lanes: int) -> Complex:
        """The same in every lane."""
        return Complex(emit.broadcast(self.re, lanes), emit.broadcast(self.im, lanes))


@dataclass(frozen=True)
class Numbers:
    """Complex numbers in two arrays of one dimension."""

    re: Buffer
    im: Buffer

    def load(self, at: PrimExpr, lanes: int = 1) -> Complex:
        """The numbers from `at` on."""
        return Complex(emit.load(self.re, [at], lanes), emit.load(self.im, [at], lanes))

    def store(self, value: Complex, at: PrimExpr, lanes: int = 1) -> None:
        """Replace the numbers from `at` on."""
        emit.store(self.re, value.re, [at], lanes)
        emit.store(self.im, value.im, [at], lanes)


def numbers(count: Any, dtype: str) -> Numbers:
    """Memory for complex numbers."""
    return Numbers(emit.workspace((count,), dtype), emit.workspace((count,), dtype))


Root = Callable[[PrimExpr], Complex]
"""The power of the first root of unity with this exponent."""


def transform(
    data: tuple[Numbers, Numbers], radices: Sequence[int], batch: int, root: Root, lanes: int
) -> tuple[Numbers, Numbers]:
    """Transform `batch` interleaved signals, of as many numbers as the product of `radices`.

    They lie in the first of `data`; afterwards in the first of what is given back. This is
    Stockham's order: every step reads one array and writes the other, in long runs both times.
    """
    size, done = math.prod(radices), 1
    source, target = data
    for radix in radices:
        rest = size // done // radix
        _step(source, target, _Step(radix, rest, done, batch), root, lanes)
        source, target, done = target, source, done * radix
    return source, target


@dataclass(frozen=True)
class _Step:
    """Transforms of `radix` numbers `rest` runs apart, a run being all that is done already."""

    radix: int
    rest: int
    done: int
    batch: int


def _step(source: Numbers, target: Numbers, step: _Step, root: Root, lanes: int) -> None:
    run = step.done * step.batch
    width = math.gcd(run, lanes)
    with emit.serial(step.rest) as at:
        turns = [
            root(at * (power * step.done)).kept() if step.rest > 1 else None
            for power in range(1, step.radix)
        ]
        with emit.serial(run // width) as part:
            first = part * width
            read = [
                source.load((at + step.rest * i) * run + first, width).kept()
                for i in range(step.radix)
            ]
            for power, value in enumerate(_small_transform(read)):
                turn = turns[power - 1] if power else None
                turned = value if turn is None else value.kept().times(turn.spread(width))
                target.store(turned, (at * step.radix + power) * run + first, width)


def _small_transform(x: list[Complex]) -> list[Complex]:
    """The transform of as many numbers as there are."""
    if len(x) == 2:
        return [x[0] + x[1], x[0] - x[1]]
    if len(x) == 4:
        return _of_four(x)
    return _of_odd(x)


def _of_four(x: list[Complex]) -> list[Complex]:
    even, odd = (x[0] + x[2]).kept(), (x[1] + x[3]).kept()
    low, high = (x[0] - x[2]).kept(), (x[1] - x[3]).kept()
    turned = Complex(high.im, -high.re)
    return [even + odd, low + turned, even - odd, low - turned]


def _of_odd(x: list[Complex]) -> list[Complex]:
    """Sums with cosines and differences with sines, each for two results."""
    count = len(x)
    dtype = str(x[0].re.ty)
    sums = [(a + b).kept() for a, b in _mirrored(x)]
    differences = [(a - b).kept() for a, b in _mirrored(x)]
    total = x[0]
    for value in sums:
        total = total + value
    results: list[Complex] = [total, *[x[0]] * (count - 1)]
    for power in range(1, count // 2 + 1):
        even, odd = x[0], Complex(tirx.const(0, dtype), tirx.const(0, dtype))
        for i, (plus, minus) in enumerate(zip(sums, differences, strict=True), 1):
            angle = 2 * math.pi * (i * power % count) / count
            cosine, sine = (tirx.const(f(angle), dtype) for f in (math.cos, math.sin))
            even = Complex(
                emit.fma(plus.re, cosine, even.re), emit.fma(plus.im, cosine, even.im)
            ).kept()
            odd = Complex(emit.fma(minus.re, sine, odd.re), emit.fma(minus.im, sine, odd.im)).kept()
        turned = Complex(odd.im, -odd.re)
        results[power], results[count - power] = even + turned, even - turned
    return results


def _mirrored(x: list[Complex]) -> list[tuple[Complex, Complex]]:
    return [(x[i], x[-i]) for i in range(1, len(x) // 2 + 1)]
