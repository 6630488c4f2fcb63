"""Reading a manifest: each entry is told by name where it is not what it should be."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import NoReturn, TypeVar, cast

from leptonc.ir.diagnostics import LeptonError, shown
from leptonc.ir.dims import Dim
from leptonc.ir.dims_parse import parse_dim
from leptonc.ir.types import DTYPE_OF_NAME, DType
from leptonc.manifest import (
    FORMAT,
    FUNCTIONS_FORMAT,
    FunctionSpec,
    Manifest,
    Part,
    TargetSpec,
    TensorSpec,
    TextTable,
    WeightSpec,
)

_DIM_LIMIT = 512
_RANK_LIMIT = 64
"""Of numpy, which holds what goes in and comes out."""
_SIZE_LIMIT = 1 << 62

T = TypeVar("T")


def parse_manifest(text: bytes) -> Manifest:
    """The manifest in `text`; an error of the user's where it is newer or not valid."""
    try:
        document: object = json.loads(text, parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        raise _invalid(f"it is not JSON: {error}") from None
    if not isinstance(document, dict):
        raise _invalid(f"it is {type(document).__name__}, should be an object")
    read = _Fields(cast("dict[str, object]", document), "manifest")
    version = read.take("format", _integer(1, 1 << 31))
    if version > FORMAT:
        raise LeptonError(
            f"the artefact has format {version}, this leptonc reads up to format {FORMAT}",
            notes=[
                f"it was written by leptonc {shown(read.entries.get('leptonc', 'unknown'))}; "
                "install that version or newer, or compile the model again"
            ],
            code="E606",
        )
    manifest = Manifest(
        leptonc=read.take("leptonc", _text),
        inputs=read.each("inputs", _tensor),
        outputs=read.each("outputs", _tensor),
        weights=read.each("weights", _weight),
        target=read.within("target", _target),
        threads=read.take("threads", _integer(0, 1 << 16)),
        plan=read.take("plan", _mapping_of(_integer(0, _SIZE_LIMIT))),
        dims=read.take("dims", _mapping_of(_integer(0, _SIZE_LIMIT))),
        provenance=read.take("provenance", _mapping_of(lambda value: value)),
        functions=read.each("functions", _function) if "functions" in read.entries else (),
        libc=read.take("libc", _version),
        words=read.take("words", _list_of(_text)) if "words" in read.entries else (),
        tables=read.each("tables", _table) if "tables" in read.entries else (),
        parts=read.each("parts", _part),
        in_pieces=version > FUNCTIONS_FORMAT,
    )
    _check(manifest)
    return manifest


def _check(manifest: Manifest) -> None:
    for what, tensors in (("inputs", manifest.inputs), ("outputs", manifest.outputs)):
        names = [tensor.name for tensor in tensors]
        repeated = [name for name in names if names.count(name) > 1]
        if repeated:
            raise _invalid(f"two {what} are called {shown(repeated[0])}")
    given = {spec.name: spec for spec in manifest.inputs}
    for table in manifest.tables:
        for name in filter(None, (table.input, table.counts)):
            if name not in given or given[name].dtype != DType.I64.value:
                raise _invalid(f"{shown(name)} is no input that can hold a table of words")


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no JSON number")


def _invalid(message: str) -> LeptonError:
    return LeptonError(
        f"the manifest of the artefact is not valid: {message}",
        notes=["compile the model again"],
        code="E610",
    )


class _Fields:
    """The entries of one JSON object, read by name and type."""

    def __init__(self, entries: dict[str, object], place: str) -> None:
        self.entries, self.place = entries, place

    def take(self, name: str, read: Callable[[object], T]) -> T:
        if name not in self.entries:
            raise _invalid(f"{self.place} has no {name}")
        try:
            return read(self.entries[name])
        except (ValueError, TypeError, KeyError, RecursionError, ZeroDivisionError) as error:
            raise _invalid(f"{self.place}.{name}: {error}") from None

    def within(self, name: str, read: Callable[[_Fields], T]) -> T:
        entries = self.take(name, _object)
        return read(_Fields(entries, f"{self.place}.{name}"))

    def each(self, name: str, read: Callable[[_Fields], T]) -> tuple[T, ...]:
        entries = self.take(name, _list_of(_object))
        place = f"{self.place}.{name}"
        return tuple(read(_Fields(entry, f"{place}[{at}]")) for at, entry in enumerate(entries))


def _tensor(read: _Fields) -> TensorSpec:
    shape = read.take("shape", _shape_of(_extent))
    return TensorSpec(read.take("name", _text), read.take("dtype", _dtype_or_text), shape)


def _weight(read: _Fields) -> WeightSpec:
    shape = read.take("shape", _shape_of(_integer(0, _SIZE_LIMIT)))
    return WeightSpec(read.take("name", _text), read.take("dtype", _dtype), shape)


def _target(read: _Fields) -> TargetSpec:
    features = read.take("features", _list_of(_text))
    return TargetSpec(read.take("kind", _text), read.take("arch", _text), features)


def _function(read: _Fields) -> FunctionSpec:
    return FunctionSpec(
        read.take("slot", _slot),
        read.take("symbol", _text),
        read.take("member", _part_name),
        read.take("operator", _text),
    )


def _table(read: _Fields) -> TextTable:
    return TextTable(
        read.take("input", _text),
        read.take("function", _matching("upper|lower|split", "function of words")),
        read.take("counts", _text),
        read.take("delimiter", _text),
        read.take("maxsplit", _integer(-1, _SIZE_LIMIT)),
    )


def _part(read: _Fields) -> Part:
    return Part(
        read.take("name", _part_name),
        read.take("size", _integer(0, _SIZE_LIMIT)),
        read.take("crc32", _integer(0, (1 << 32) - 1)),
        read.take("sha256", _digest),
    )


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"is {type(value).__name__}, should be text")
    return value


def _matching(pattern: str, what: str) -> Callable[[object], str]:
    compiled = re.compile(pattern, re.ASCII)

    def read(value: object) -> str:
        if not compiled.fullmatch(_text(value)):
            raise ValueError(f"{shown(value)} is no {what}")
        return _text(value)

    return read


_part_name = _matching(r"[a-z][a-z0-9_]*\.[a-z]{1,8}", "name of a member")
_slot = _matching(r"[0-9a-f]{24}", "slot")
_digest = _matching(r"[0-9a-f]{64}", "digest")
_version = _matching(r"(\d{1,4}\.\d{1,4})?", "version")


def _dtype(value: object) -> str:
    name = _text(value)
    if name not in DTYPE_OF_NAME or DTYPE_OF_NAME[name] is DType.STR:
        raise ValueError(f"{shown(name)} is no element type of an artefact")
    return name


def _dtype_or_text(value: object) -> str:
    return DType.STR.value if value == DType.STR.value else _dtype(value)


def _integer(low: int, high: int) -> Callable[[object], int]:
    def read(value: object) -> int:
        if not isinstance(value, int) or isinstance(value, bool):
            raise TypeError(f"is {type(value).__name__}, should be an integer")
        if not low <= value <= high:
            raise ValueError(f"is {value}, should be from {low} to {high}")
        return value

    return read


def _extent(value: object) -> int | str:
    if not isinstance(value, str):
        return _integer(0, _SIZE_LIMIT)(value)
    if len(value) > _DIM_LIMIT:
        raise ValueError(f"an extent of {len(value)} characters, at most {_DIM_LIMIT} can be")
    parsed: Dim = parse_dim(value)
    return parsed if isinstance(parsed, int) else value


def _list_of(read: Callable[[object], T]) -> Callable[[object], tuple[T, ...]]:
    def read_list(value: object) -> tuple[T, ...]:
        if not isinstance(value, list):
            raise TypeError(f"is {type(value).__name__}, should be a list")
        return tuple(read(entry) for entry in cast("list[object]", value))

    return read_list


def _shape_of(read: Callable[[object], T]) -> Callable[[object], tuple[T, ...]]:
    def read_shape(value: object) -> tuple[T, ...]:
        shape = _list_of(read)(value)
        if len(shape) > _RANK_LIMIT:
            raise ValueError(f"{len(shape)} axes, at most {_RANK_LIMIT} can be")
        return shape

    return read_shape


def _object(value: object) -> dict[str, object]:
    if not isinstance(value, dict):
        raise TypeError(f"is {type(value).__name__}, should be an object")
    return cast("dict[str, object]", value)


def _mapping_of(read: Callable[[object], T]) -> Callable[[object], Mapping[str, T]]:
    return lambda value: {name: read(entry) for name, entry in _object(value).items()}
