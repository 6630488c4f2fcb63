"""Data to compare models on: random, of several sizes, and the user's."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from leptonc.ir.blob import Array
from leptonc.ir.diagnostics import LeptonError, shown
from leptonc.ir.dims import substitute, symbols
from leptonc.ir.graph import Graph, Value
from leptonc.ir.interpret import interpret
from leptonc.ir.types import DType
from leptonc.passes.check_numbers import random_feeds

Feeds = Mapping[str, Array]

WANTED = 3
"""On how many random inputs models are compared."""
SIZES = (2, 5, 1, 8, 16, 32, 3, 64, 224, 320, 640)
"""What open extents are set to, until the original has run often enough."""

COMMON = (8, 32, 64, 224)
"""What all open extents are set to, where small different ones do not go together."""


def trials(like: Graph, given: Mapping[str, Array]) -> Iterator[tuple[Feeds, Mapping[str, int]]]:
    """Data for every input, with other sizes each time; the user's data fixes its own extents."""
    unknown = [name for name in given if all(value.name != name for value in like.inputs)]
    if unknown:
        raise LeptonError(
            f"there is no input {', '.join(map(shown, unknown))}",
            notes=[f"inputs: {', '.join(shown(value.name) for value in like.inputs)}"],
            code="E806",
        )
    names = sorted({name for value in like.inputs for name in _symbols(value)})
    fixed = _sizes_of(like, given)
    if not set(names) - set(fixed):
        for seed in range(WANTED):
            yield _feeds(like, given, fixed, seed), fixed
        return
    for seed, size in enumerate(SIZES):
        # each extent another size at first; models whose extents depend on each other take one
        for step in (1, 0) if 0 < seed < 3 and len(names) > 1 else (0,):
            sizes = {name: size + step * index for index, name in enumerate(names)} | fixed
            yield _feeds(like, given, sizes, seed), sizes


def sizes_that_run(graph: Graph) -> dict[str, int]:
    """Extents for the inputs that go together, for checks that need some; none where any do.

    Raises the graph's own complaint where none of those that are tried go together.
    """
    names = sorted({name for value in graph.inputs for name in _symbols(value)})
    tried = [dict[str, int](), *(dict.fromkeys(names, size) for size in COMMON)]
    complaint: LeptonError | None = None
    for sizes in tried if names else tried[:1]:
        try:
            interpret(graph, random_feeds(graph, sizes=sizes))
        except LeptonError as error:
            complaint = complaint or error
            continue
        return sizes
    assert complaint is not None
    complaint.notes = [*complaint.notes, f"--dim NAME=SIZE sets one of {', '.join(names)}"]
    raise complaint


def _symbols(value: Value) -> set[str]:
    return {name for dim in value.type.shape for name in symbols(dim)}


def _sizes_of(like: Graph, given: Mapping[str, Array]) -> dict[str, int]:
    """The extents that given data fixes, where they stand alone."""
    sizes: dict[str, int] = {}
    for value in like.inputs:
        if value.name in given:
            for dim, size in zip(value.type.shape, given[value.name].shape, strict=False):
                if symbols(dim) == frozenset([str(dim)]):
                    sizes[str(dim)] = size
    return sizes


def _feeds(
    like: Graph, given: Mapping[str, Array], sizes: Mapping[str, int], seed: int
) -> dict[str, Array]:
    generator = np.random.default_rng(seed)
    feeds: dict[str, Array] = {}
    for value in like.inputs:
        if value.name in given:
            feeds[value.name] = given[value.name]
            continue
        dims = [substitute(dim, sizes) for dim in value.type.shape]
        shape = [dim if isinstance(dim, int) and dim > 0 else 0 for dim in dims]
        feeds[value.name] = _random(value.type.dtype, shape, generator)
    return feeds


def _random(dtype: DType, shape: Sequence[int], generator: np.random.Generator) -> Array:
    if dtype is DType.STR:
        return generator.choice(np.array(["", "a", "bc"], object), shape)
    if dtype.is_float or dtype.numpy.kind == "c":
        return np.asarray(generator.standard_normal(shape)).astype(dtype.numpy)
    return np.asarray(generator.integers(0, 2, shape)).astype(dtype.numpy)
