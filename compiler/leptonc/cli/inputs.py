"""Inputs of a run, from files or from a seed."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from leptonc.ir.diagnostics import LeptonError, shown
from leptonc.ir.dims import substitute, symbols
from leptonc.ir.dims_parse import parse_dim
from leptonc.ir.types import DTYPE_OF_NAME, DType
from leptonc.manifest import TensorSpec

DEFAULT_SIZE = 8
"""What a symbolic extent of a random input is, where nobody says."""
RANDOM_LIMIT = 1 << 32


def read_inputs(
    specs: Sequence[TensorSpec], pairs: Sequence[str], seed: int | None, dims: Mapping[str, int]
) -> dict[str, Any]:
    """The data of each input: of ``NAME=FILE.npy`` where given, else random by the seed."""
    import numpy as np

    feeds = read_arrays(pairs)
    for spec in specs:
        if spec.name in feeds:
            feeds[spec.name] = _as_stored(feeds[spec.name], DTYPE_OF_NAME[spec.dtype])
    unknown = [name for name in feeds if all(spec.name != name for spec in specs)]
    if unknown:
        raise LeptonError(
            f"there is no input {', '.join(map(shown, unknown))}",
            notes=[f"inputs: {', '.join(shown(spec.name) for spec in specs)}"],
            code="E806",
        )
    missing = [spec for spec in specs if spec.name not in feeds]
    if missing and seed is None:
        names = ", ".join(shown(spec.name) for spec in missing)
        raise LeptonError(
            f"no data for input {names}",
            notes=["give --input NAME=FILE.npy, or --random SEED"],
            code="E806",
        )
    generator = np.random.default_rng(seed)
    for spec in missing:
        feeds[spec.name] = random_input(spec, generator, dims)
    return feeds


def read_arrays(pairs: Sequence[str]) -> dict[str, Any]:
    """The data of each ``NAME=FILE.npy``; raises E805 or E806 for what cannot be read."""
    import numpy as np

    arrays: dict[str, Any] = {}
    for pair in pairs:
        name, equals, file = pair.partition("=")
        if not equals:
            raise LeptonError(
                f"cannot read --input {shown(pair)}", notes=["write NAME=FILE.npy"], code="E805"
            )
        try:
            arrays[name] = np.load(file, allow_pickle=False)
        except (OSError, ValueError) as problem:
            raise LeptonError(
                f"{shown(file)} cannot be read as .npy: {problem}", code="E806"
            ) from None
    return arrays


def storable(array: Any) -> Any:
    """The array as .npy can hold it: bytes without a meaning, where numpy has no such type."""
    return array if array.dtype.isbuiltin != 2 else array.view(f"V{array.dtype.itemsize}")


def _as_stored(array: Any, dtype: DType) -> Any:
    """An array that was `storable`, with its type."""
    plain = array.dtype.kind == "V" and array.dtype.names is None
    fits = plain and dtype.numpy.isbuiltin == 2 and dtype.numpy.itemsize == array.dtype.itemsize
    return array.view(dtype.numpy) if fits else array


def random_input(spec: TensorSpec, generator: Any, dims: Mapping[str, int]) -> Any:
    """Standard normal numbers, or small non-negative integers, in the shape of `spec`."""
    shape = [_extent(dim, dims) for dim in spec.shape]
    if math.prod(shape) > RANDOM_LIMIT:
        raise LeptonError(
            f"input {shown(spec.name)} would have {math.prod(shape)} elements", code="E806"
        )
    dtype = DTYPE_OF_NAME[spec.dtype]
    if dtype.is_float:
        return generator.standard_normal(shape).astype(dtype.numpy)
    return generator.integers(0, 2, shape).astype(dtype.numpy)


def _extent(dim: int | str, dims: Mapping[str, int]) -> int:
    expression = parse_dim(str(dim))
    sizes = {name: dims.get(name, DEFAULT_SIZE) for name in symbols(expression)}
    extent = substitute(expression, sizes)
    assert isinstance(extent, int)
    return max(extent, 0)
