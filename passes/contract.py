"""Numeric contracts: how far a pass may change what a graph computes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from leptonc.ir.blob import Array


@dataclass(frozen=True, slots=True)
class Contract:
    """The deviation from its input that a pass may cause.

    `exact` allows none, the sign of zero included. Otherwise a result may differ by
    `rtol * |expected| + atol * (largest finite expected)`, both at least what reassociating sums
    costs in the element type. The sign of a zero counts as rounding, and so the sign of infinities
    that are quotients by zero. Where a NaN or an infinity comes from data, it stands in the
    same places after, unless the contract `assumes_finite` data.
    """

    name: str
    exact: bool = False
    rtol: float | None = None
    atol: float | None = None
    assumes_finite: bool = False

    def __str__(self) -> str:
        return self.name

    def worst(
        self, got: Array, want: Array, truth: Array | None = None, noise: float = 0.0
    ) -> float:
        """The largest deviation as a multiple of what is allowed: fine up to 1.

        `truth` is `want` computed in float64. What `want` itself is off from it by counts as noise:
        a result that is about as near to the truth, or is right where `want` is not, is fine.
        `noise` is what else is known of how far roundings go.
        """
        if got.shape != want.shape or got.dtype != want.dtype:
            return float("inf")
        if want.size == 0:
            return 0.0
        if self.exact or not _is_float(want):
            return 0.0 if _same_bits(got, want) else float("inf")
        wide, expected = _widened(got), _widened(want)
        if truth is not None:
            with np.errstate(all="ignore"):
                rounded = _widened(truth.astype(want.dtype))
            allowed = self._allowed(rounded, _epsilon(want)) + 2 * noise
            return _worst_of_noisy(wide, expected, rounded, allowed)
        finite = np.isfinite(expected)
        alike = np.array_equal(np.isnan(wide), np.isnan(expected))
        if not (alike and np.array_equal(finite, np.isfinite(wide))):
            return float("inf")
        allowed = self._allowed(expected, _epsilon(want))
        deviation = np.abs(wide[finite] - expected[finite]) / allowed[finite]
        return float(np.max(deviation, initial=0.0))

    def _allowed(self, expected: Array, epsilon: float) -> Array:
        finite = np.abs(expected[np.isfinite(expected)])
        scale = max(float(np.max(finite, initial=0.0)), 1e-30)
        cost = epsilon**0.6
        rtol, atol = max(cost, self.rtol or 0.0), max(cost, self.atol or 0.0)
        return rtol * np.where(np.isfinite(expected), np.abs(expected), 0.0) + atol * scale


def _worst_of_noisy(got: Array, want: Array, truth: Array, allowed: Array) -> float:
    with np.errstate(all="ignore"):
        off = np.abs(want - truth)
        noise = np.max(off[np.isfinite(off)], initial=0.0)
        deviation = np.abs(got - truth) / (allowed + 4 * noise)
    same = (got == want) | (got == truth) | (np.isnan(got) & np.isnan(want))
    same |= np.isinf(got) & np.isinf(want)
    return float(np.max(np.where(same, 0.0, np.nan_to_num(deviation, nan=np.inf))))


EXACT = Contract("EXACT", exact=True)
"""Not a bit changes, except NaN payloads."""

REASSOCIATES = Contract("REASSOCIATES")
"""Sums and products may be taken in another order, so roundings differ."""


def lossy(rtol: float, atol: float = 0.0) -> Contract:
    """A contract that trades precision for speed; `atol` is relative to the largest value."""
    return Contract(f"lossy(rtol={rtol:g}, atol={atol:g})", rtol=rtol, atol=atol)


def for_finite(contract: Contract) -> Contract:
    """`contract`, kept only where neither data nor results are NaN or infinite."""
    return replace(contract, name=f"{contract.name} of finite data", assumes_finite=True)


def _is_float(array: Array) -> bool:
    return array.dtype.kind in "fc" or array.dtype.name.startswith(("bfloat", "float"))


def _widened(array: Array) -> Array:
    return array if array.dtype.kind == "c" else array.astype(np.float64)


def _epsilon(array: Array) -> float:
    if array.dtype.kind in "fc":
        return float(np.finfo(array.dtype).eps)
    import ml_dtypes  # only narrow floats come here

    finfo: Any = ml_dtypes.finfo
    return float(finfo(array.dtype).eps)


def _same_bits(got: Array, want: Array) -> bool:
    if not _is_float(want):
        return bool(np.array_equal(got, want))
    if want.dtype.kind == "c":
        return _same_bits(np.real(got), np.real(want)) and _same_bits(np.imag(got), np.imag(want))
    left, right = got.astype(np.float64), want.astype(np.float64)
    same = (left == right) & (np.signbit(left) == np.signbit(right))
    return bool(np.all(np.where(np.isnan(right), np.isnan(left), same)))
