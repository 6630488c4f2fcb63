"""The conformance suites that come with the onnx package, as plain data."""

from __future__ import annotations

import os
import pickle
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias, cast

import numpy as np
import onnx
from onnx import numpy_helper
from onnx.backend.test.case.test_case import TestCase
from onnx.backend.test.loader import load_model_tests

SUITES = ("node", "simple", "pytorch-converted", "pytorch-operator")

Datum: TypeAlias = Any
"""An array, or a list of them for a sequence, or None for an empty optional."""


@dataclass(frozen=True)
class Case:
    """One test: a model, and for each data set what goes in and what must come out."""

    suite: str
    name: str
    model: bytes
    data_sets: tuple[tuple[list[Datum], list[Datum]], ...]
    relative: float
    absolute: float


def load_suite(suite: str, cache: Path) -> list[Case]:
    """The tests of one suite; `node`, which takes 10 s to generate, is kept below `cache`."""
    if suite != "node":
        return [_read(case) for case in load_model_tests(kind=suite)]
    kept = cache / f"onnx-{onnx.__version__}-numpy-{np.__version__}.pickle"
    if kept.exists():
        return pickle.loads(kept.read_bytes())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        cases = [_convert(case) for case in load_model_tests(kind="node")]
    cache.mkdir(parents=True, exist_ok=True)
    partial = kept.with_suffix(f".{os.getpid()}.partial")
    partial.write_bytes(pickle.dumps(cases))
    partial.replace(kept)
    return cases


def feeds_of(model: onnx.ModelProto, inputs: Sequence[Datum]) -> dict[str, Datum]:
    """Name the inputs; where too few come, initialisers listed as inputs keep their value."""
    names = [value.name for value in model.graph.input]
    if len(inputs) < len(names):
        constant = {tensor.name for tensor in model.graph.initializer}
        names = [name for name in names if name not in constant]
    return dict(zip(names, inputs, strict=False))


def check_outputs(case: Case, expected: Sequence[Datum], outputs: Mapping[str, Datum]) -> None:
    """Raise AssertionError where the outputs are not what onnx's own runner accepts."""
    got = list(outputs.values())
    assert len(got) == len(expected), f"{len(got)} outputs, should be {len(expected)}"
    for name, ours, theirs in zip(outputs, got, expected, strict=True):
        _check(case, name, theirs, ours)


def _check(case: Case, name: str, expected: Datum, got: Datum) -> None:
    if isinstance(expected, list | tuple):
        assert isinstance(got, list | tuple), f"{name} is {type(got).__name__}, should be a list"
        expected, got = cast("list[Datum]", expected), cast("list[Datum]", got)
        assert len(got) == len(expected), f"{name} has {len(got)} items, should be {len(expected)}"
        for index, (theirs, ours) in enumerate(zip(expected, got, strict=True)):
            _check(case, f"{name}[{index}]", theirs, ours)
        return
    if expected is None:
        assert got is None, f"{name} should be absent"
        return
    got = np.asarray(got)
    assert got.shape == expected.shape, f"{name} has shape {got.shape}, should be {expected.shape}"
    if expected.dtype.kind in "OUS":
        np.testing.assert_array_equal(got, expected, err_msg=name)
        return
    assert got.dtype == expected.dtype, f"{name} is {got.dtype}, should be {expected.dtype}"
    relative = case.relative
    if got.dtype.name == "bfloat16":
        got, expected = got.astype(np.float32), expected.astype(np.float32)
        relative = max(relative, 2**-6)
    np.testing.assert_allclose(got, expected, relative, case.absolute, err_msg=name)


def _convert(case: TestCase) -> Case:
    assert case.model is not None
    assert case.data_sets is not None
    data_sets = tuple(
        ([_plain(item) for item in inputs], [_plain(item) for item in outputs])
        for inputs, outputs in case.data_sets
    )
    return Case(
        case.kind, case.name, case.model.SerializeToString(), data_sets, case.rtol, case.atol
    )


def _plain(item: Datum) -> Datum:
    if isinstance(item, onnx.TensorProto):
        return numpy_helper.to_array(item)
    return cast("Datum", np.asarray(item)) if np.isscalar(item) else item


def _read(case: TestCase) -> Case:
    folder = Path(str(case.model_dir))
    model = onnx.ModelProto.FromString((folder / "model.onnx").read_bytes())
    data_sets = tuple(
        (
            list(_read_all(data, "input", [value.type for value in model.graph.input])),
            list(_read_all(data, "output", [value.type for value in model.graph.output])),
        )
        for data in sorted(folder.glob("test_data_set_*"))
    )
    return Case(case.kind, case.name, model.SerializeToString(), data_sets, case.rtol, case.atol)


def _read_all(folder: Path, stem: str, types: list[onnx.TypeProto]) -> Iterator[Datum]:
    for index, kind in enumerate(types):
        file = folder / f"{stem}_{index}.pb"
        if not file.exists():
            return
        data = file.read_bytes()
        if kind.HasField("sequence_type"):
            yield numpy_helper.to_list(onnx.SequenceProto.FromString(data))
        elif kind.HasField("optional_type"):
            yield numpy_helper.to_optional(onnx.OptionalProto.FromString(data))
        else:
            yield numpy_helper.to_array(onnx.TensorProto.FromString(data))
