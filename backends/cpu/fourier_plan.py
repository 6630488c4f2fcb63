"""How Fourier transforms of a known length are computed, and the numbers their kernels look up."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from leptonc.ir.blob import Array

LARGEST_RADIX = 13
"""Lengths with a larger prime factor are transformed as a convolution, of another length."""
_RADICES = (4, 2, 3, 5, 7, 11, 13)


@dataclass(frozen=True)
class Plan:
    """The transform of `length` numbers by one of `size`, radix by radix.

    `is_convolution` where the sizes differ: Bluestein's way, by a product of spectra.
    """

    length: int
    size: int
    radices: tuple[int, ...]

    @property
    def is_convolution(self) -> bool:
        """Whether numbers are multiplied by a chirp before and after."""
        return self.size != self.length

    @property
    def entries(self) -> int:
        """How many complex numbers the table has."""
        return self.size + (self.length + self.size if self.is_convolution else 0)


def plan_of(length: int) -> Plan:
    """The plan for a length of at least 1."""
    radices = _radices(length)
    if radices is not None:
        return Plan(length, length, radices)
    size = 2 * length - 1
    while (radices := _radices(size, 5)) is None or size % 4:
        size += 1
    return Plan(length, size, radices)


def _radices(length: int, largest: int = LARGEST_RADIX) -> tuple[int, ...] | None:
    """The radices whose product is `length`, None where a factor is too large."""
    found: list[int] = []
    for radix in _RADICES:
        while length % radix == 0 and radix <= largest:
            found.append(radix)
            length //= radix
    return tuple(found) if length == 1 else None


def roots(length: int) -> Array:
    """The powers of the first root of unity, in double precision: exp(-2 pi i k / length)."""
    angle = -2 * math.pi * np.arange(length) / max(length, 1)
    return np.cos(angle) + 1j * np.sin(angle)


def table_of(plan: Plan, dtype: np.dtype[np.floating]) -> Array:
    """What a kernel looks up, as [entries, 2]: roots, then the chirp and its spectrum."""
    parts = [roots(plan.size)]
    if plan.is_convolution:
        squares = np.arange(plan.length, dtype=object) ** 2 % (2 * plan.length)
        angle = -math.pi * squares.astype(np.float64) / plan.length
        chirp = np.cos(angle) + 1j * np.sin(angle)
        filter = np.zeros(plan.size, np.complex128)
        filter[: plan.length] = chirp.conj()
        filter[plan.size - plan.length + 1 :] = chirp[:0:-1].conj()
        parts += [chirp, np.fft.fft(filter) / plan.size]
    joined = np.concatenate(parts)
    return np.stack([np.real(joined), np.imag(joined)], -1).astype(dtype)
