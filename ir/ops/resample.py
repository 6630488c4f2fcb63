"""Where a resized tensor reads its operand: exact coordinates, elements around them, weights."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np

from leptonc.ir.blob import Array
from leptonc.ir.dims import Dim, maximum, minimum

COORDINATES = (
    "half_pixel", "half_pixel_symmetric", "pytorch_half_pixel", "align_corners", "asymmetric",
    "tf_crop_and_resize",
)  # fmt: skip
NEAREST = ("round_prefer_floor", "round_prefer_ceil", "floor", "ceil")

SIMPLE_DENOMINATOR = 4096
"""A scale stands for the fraction up to this denominator that it was rounded from, if any."""


@dataclass(frozen=True, slots=True)
class ResizedAxis:
    """One axis: its extents before and after, and the scale as a fraction of extents."""

    axis: int
    source: Dim
    target: Dim
    numerator: Dim
    denominator: Dim

    @property
    def is_identity(self) -> bool:
        """True where nothing changes, whatever the coordinates."""
        return self.source == self.target and self.numerator == self.denominator

    @property
    def scale(self) -> Fraction | None:
        """The scale, where it is known."""
        if (
            isinstance(self.numerator, int)
            and isinstance(self.denominator, int)
            and self.denominator
        ):
            return Fraction(self.numerator, self.denominator)
        return None


def fraction_of(scale: float) -> Fraction:
    """The fraction that a scale in single precision stands for."""
    simple = Fraction(scale).limit_denominator(SIMPLE_DENOMINATOR)
    return simple if np.float32(float(simple)) == np.float32(scale) else Fraction(scale)


def coordinate(
    axis: ResizedAxis, mode: str, x: Any, number: Callable[[Dim], Any]
) -> tuple[Any, Any]:
    """The place in the operand of place `x` of the result: a numerator and a positive denominator.

    `number` gives extents the type that `x` has, which may be an array or an expression.
    """
    p, q, source, target = axis.numerator, axis.denominator, axis.source, axis.target
    if mode == "asymmetric":
        return x * number(q), number(maximum(p, 1))
    if mode == "align_corners":  # where the denominator is below 1, x is 0
        return x * number((source - 1) * q), number(maximum(source * p - q, 1))
    if mode == "half_pixel_symmetric":
        over = number((source - 1) * p) + (x * 2 + 1 - number(target)) * number(q)
        return over, number(maximum(p * 2, 1))
    over = (x * 2 + 1) * number(q) - number(p)
    if mode == "pytorch_half_pixel":
        over = over * number(minimum(target - 1, 1))
    return over, number(maximum(p * 2, 1))


def nearest(over: Any, under: Any, mode: str, floordiv: Callable[[Any, Any], Any]) -> Any:
    """The element nearest to a coordinate; it may lie outside."""
    if mode == "floor":
        return floordiv(over, under)
    if mode == "ceil":
        return floordiv(over + under - 1, under)
    if mode == "round_prefer_ceil":
        return floordiv(over * 2 + under, under * 2)
    return floordiv(over * 2 - under + under * 2 - 1, under * 2)


def nearest_place(place: Any, mode: str, floor: Callable[[Any], Any]) -> Any:
    """The element nearest to a coordinate that is no fraction; it may lie outside."""
    if mode == "floor":
        return floor(place)
    if mode == "ceil":
        return -floor(-place)
    return floor(place + 0.5) if mode == "round_prefer_ceil" else -floor(0.5 - place)


def reach(axis: ResizedAxis, support: int, *, antialias: bool) -> tuple[Dim, Dim]:
    """How far before the element below a coordinate the weights begin, and how many there are."""
    p, q = axis.numerator, axis.denominator
    if not antialias or (axis.scale is not None and axis.scale >= 1):
        return support - 1, 2 * support
    steps = -((q * (-support)) // maximum(p, 1))
    before = maximum(steps - 1, support - 1)
    return before, (before + 1) * 2


def weight(distance: Any, a: float, cubic: bool, where: Callable[[Any, Any, Any], Any]) -> Any:
    """The weight of an element at a distance (0 or more) in units of the filter."""
    if not cubic:
        return where(distance < 1, 1 - distance, distance * 0)
    near = ((a + 2) * distance - (a + 3)) * distance * distance + 1
    far = ((a * distance - 5 * a) * distance + 8 * a) * distance - 4 * a
    return where(distance <= 1, near, where(distance < 2, far, distance * 0))


@dataclass(frozen=True, slots=True)
class Filter:
    """How elements around a coordinate are weighed."""

    mode: str
    nearest_mode: str
    cubic_a: float
    antialias: bool
    exclude_outside: bool

    @property
    def support(self) -> int:
        """How many elements on either side have a weight."""
        return 2 if self.mode == "cubic" else 1


def along_axis(x: Array, axis: ResizedAxis, position: tuple[Array, Array], kind: Filter) -> Array:
    """`x` in double precision resized along one axis, at positions (numerator, denominator)."""
    over, under = position
    last = x.shape[axis.axis] - 1
    if kind.mode == "nearest":
        if over.dtype.kind == "f":
            index = nearest_place(over, kind.nearest_mode, np.floor)
        else:
            index = nearest(over, under, kind.nearest_mode, np.floor_divide)
        return np.take(x, np.clip(index, 0, last).astype(np.int64), axis.axis)
    assert axis.scale is not None
    before, count = (int(str(n)) for n in reach(axis, kind.support, antialias=kind.antialias))
    low = np.floor_divide(over, under)
    taps = low.astype(np.int64)[:, None] + np.arange(-before, count - before)
    shrink = min(float(axis.scale), 1.0) if kind.antialias else 1.0
    distance = np.abs(taps - low[:, None] - ((over - low * under) / under)[:, None]) * shrink
    weights = np.asarray(weight(distance, kind.cubic_a, kind.mode == "cubic", np.where))
    if kind.exclude_outside:
        weights = np.where((taps < 0) | (taps > last), 0.0, weights)
    total = weights.sum(1, keepdims=True)
    if kind.antialias or kind.exclude_outside:
        weights = weights / np.where(total == 0, 1.0, total)
    parts = np.take(x, np.clip(taps, 0, last), axis.axis)
    shape = [1] * axis.axis + list(weights.shape) + [1] * (x.ndim - axis.axis - 1)
    return np.sum(parts * weights.reshape(shape), axis.axis + 1)
