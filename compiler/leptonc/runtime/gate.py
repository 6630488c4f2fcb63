# pyright: standard
"""The input gate: what a call is given fits the signature or is refused with every reason."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from leptonc.ir.diagnostics import LeptonError, shown
from leptonc.ir.dims import LARGEST_EXTENT, Dim, substitute, symbols
from leptonc.ir.dims_parse import parse_dim
from leptonc.ir.types import DType
from leptonc.manifest import TensorSpec
from leptonc.runtime.values import ElementType, array_from_dlpack, held_as

Array = np.ndarray[Any, np.dtype[Any]]
Shape = tuple[int, ...]


class Gate:
    """Compares what a call is given with the signature."""

    def __init__(self, inputs: Sequence[TensorSpec], limits: Mapping[str, int]) -> None:
        self.inputs = tuple(inputs)
        self.kinds = tuple(ElementType(held_as(spec.dtype)) for spec in inputs)
        self._dims = tuple(tuple(map(_dim, spec.shape)) for spec in inputs)
        self._limits = limits

    def admit(self, given: object, *, cast: bool) -> list[Array]:
        """The arrays in the order of the signature, or an error with all that is wrong."""
        if not isinstance(given, Mapping):
            names = ", ".join(shown(spec.name) for spec in self.inputs)
            raise refusal([f"inputs should be a dict of {names or 'nothing'}, got {_what(given)}"])
        problems = self._names(given)
        arrays: list[Array] = []
        for spec, kind in zip(self.inputs, self.kinds, strict=True):
            if spec.name not in given:
                continue
            try:
                arrays.append(_array(spec, kind, given[spec.name], cast=cast))
            except ValueError as error:
                problems.append(f"{shown_plain(spec.name)}: {error}")
        if not problems:
            problems = self.misfits([array.shape for array in arrays])
        if problems:
            raise refusal(problems)
        return arrays

    def _names(self, given: Mapping[object, object]) -> list[str]:
        import difflib  # only calls that fail need it

        expected = [spec.name for spec in self.inputs]
        missing = [spec for spec in self.inputs if spec.name not in given]
        problems: list[str] = []
        for name in given:
            if name in expected:
                continue
            near = difflib.get_close_matches(str(name)[:200], [spec.name for spec in missing], 1)
            hint = f"; did you mean {shown(near[0])}" if near else ""
            known = "" if near else f"; there are {', '.join(map(shown, expected)) or 'none'}"
            problems.append(f"there is no input {shown(name)}{hint}{known}")
        return problems + [f"input {shown(spec.name)} is missing: {spec}" for spec in missing]

    def misfits(self, shapes: Sequence[Shape]) -> list[str]:
        """What is wrong with these shapes, one line each."""
        problems: list[str] = []
        sizes: dict[str, tuple[int, str]] = {}
        for spec, dims, shape in zip(self.inputs, self._dims, shapes, strict=True):
            got = f"{shown_plain(spec.name)}: expected {spec}, got {_type(spec.dtype, shape)}"
            if len(dims) != len(shape):
                problems.append(f"{got}; it has {len(shape)} axes, should have {len(dims)}")
                continue
            for axis, (dim, size) in enumerate(zip(dims, shape, strict=True)):
                if isinstance(dim, int):
                    if dim != size:
                        problems.append(f"{got}; axis {axis} is {size}, should be {dim}")
                elif str(dim) in symbols(dim):
                    problems += self._bind(str(dim), size, spec, axis, sizes)
        return problems or self._evaluate(shapes, sizes)

    def _bind(
        self, symbol: str, size: int, spec: TensorSpec, axis: int, sizes: dict[str, tuple[int, str]]
    ) -> list[str]:
        place = f"axis {axis} of {shown_plain(spec.name)}"
        first, where = sizes.setdefault(symbol, (size, place))
        if first != size:
            return [f"{symbol} has two sizes: {first} in {where}, {size} in {place}"]
        if size > LARGEST_EXTENT:
            return [f"{symbol} is {size} in {place}, at most {LARGEST_EXTENT} is possible"]
        limit = self._limits.get(symbol)
        if limit is not None and size > limit and where == place:
            return [f"{symbol} is {size} in {place}, at most {limit} was compiled for"]
        return []

    def _evaluate(self, shapes: Sequence[Shape], sizes: dict[str, tuple[int, str]]) -> list[str]:
        """Check the extents that are expressions, now that the symbols have their sizes."""
        values: dict[str, Dim] = {name: size for name, (size, _) in sizes.items()}
        problems: list[str] = []
        for spec, dims, shape in zip(self.inputs, self._dims, shapes, strict=True):
            for axis, (dim, size) in enumerate(zip(dims, shape, strict=True)):
                if isinstance(dim, int) or not symbols(dim) <= values.keys():
                    continue
                value = substitute(dim, values)
                if value != size:
                    got = _type(spec.dtype, shape)
                    problems.append(
                        f"{shown_plain(spec.name)}: expected {spec}, got {got}; axis {axis} is "
                        f"{size}, should be {dim} = {value}"
                    )
        return problems


def refusal(problems: Sequence[str]) -> LeptonError:
    """The error for these problems; a single one is the message."""
    if len(problems) == 1:
        return LeptonError(problems[0], code="E701")
    message = f"{len(problems)} things are wrong with the inputs"
    return LeptonError(message, notes=problems, code="E701")


def shown_plain(name: str) -> str:
    """A name without quotes where it is a plain word, else as `shown` has it."""
    return name if name.isascii() and name.replace(".", "_").isidentifier() else shown(name)


def _dim(extent: int | str) -> Dim:
    return extent if isinstance(extent, int) else parse_dim(extent)


def _type(dtype: str, shape: Shape) -> str:
    return f"{dtype}[{','.join(map(str, shape))}]"


def _what(value: object) -> str:
    return "None" if value is None else type(value).__name__


def _array(spec: TensorSpec, kind: ElementType, value: object, *, cast: bool) -> Array:
    """`value` as an array of the input's type; a ValueError says why it cannot be one."""
    if isinstance(value, np.ma.MaskedArray):
        raise ValueError("masked arrays would lose their mask; pass x.filled(value)")
    try:
        array, typed = _as_array(value)
    except (ValueError, TypeError, RuntimeError, BufferError) as error:
        raise ValueError(f"expected {spec}, got what numpy cannot read: {error}") from None
    if array is None:
        raise ValueError(f"expected {spec}, got {_what(value)}")
    if array.dtype.kind in "OUSMm" or array.dtype.fields:
        raise ValueError(f"expected {spec}, got an array of {array.dtype} elements")
    if array.dtype == kind.dtype or array.dtype.newbyteorder("=") == kind.dtype:
        return array
    if not typed and _converts(array.dtype, kind.element):
        return _cast(array, kind)
    if cast:
        return _cast(array, kind)
    got = _type(_name_of(array.dtype), array.shape)
    numpy_name = f'"{kind.dtype}"' if kind.direct else f"ml_dtypes.{kind.dtype}"
    name = shown_plain(spec.name)
    raise ValueError(
        f"expected {spec}, got {got}; pass {name}.astype({numpy_name}) or run(..., cast=True)"
    )


def _as_array(value: object) -> tuple[Array | None, bool]:
    """`value` as an array, None where it is no such thing, and whether it had a type already."""
    if isinstance(value, np.ndarray):
        return value, True
    if isinstance(value, list | tuple | int | float):
        return np.asarray(value), False
    if hasattr(value, "__dlpack__"):
        return array_from_dlpack(value), True
    if hasattr(value, "__array__"):
        return np.asarray(value), True
    return None, False


def _name_of(dtype: np.dtype[Any]) -> str:
    try:
        return DType.of(dtype.newbyteorder("=")).value
    except KeyError:
        return str(dtype)


def _converts(source: np.dtype[Any], target: DType) -> bool:
    """Whether numbers written in Python, whose type is numpy's guess, may become the target."""
    if target.is_float:
        return source.kind in "biuf"
    return source.kind in "iu" if target.is_integer else source.kind == target.numpy.kind


def _cast(array: Array, kind: ElementType) -> Array:
    """The elements converted; integers must come out as they went in."""
    with np.errstate(all="ignore"):
        if array.dtype.kind == "c":
            raise ValueError(f"complex numbers cannot be cast to {kind.name}")
        result = array.astype(kind.dtype)
        if kind.element.is_integer and not np.array_equal(result.astype(array.dtype), array):
            raise ValueError(f"not every {_name_of(array.dtype)} of it fits into {kind.name}")
    return result
