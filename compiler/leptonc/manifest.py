"""The manifest of an artefact: what it computes, on what machine, and what its parts are."""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from types import MappingProxyType
from typing import Any, NoReturn, TypeVar, cast

from leptonc.ir.diagnostics import LeptonError, shown
from leptonc.ir.dims import Dim
from leptonc.ir.dims_parse import parse_dim
from leptonc.ir.types import DTYPE_OF_NAME, DType

FORMAT = 3
"""The newest version of the file format, with digests of pieces; a reader refuses a newer one."""
FUNCTIONS_FORMAT = 2
"""The version of artefacts that carry libraries, with digests of whole members."""
PLAIN_FORMAT = 1
"""The version of artefacts that carry no libraries of other packages."""
MANIFEST_LIMIT = 8 << 20
FOR_EACH = "bytes for each "
"""Before a product of extents, the name of the memory that grows with it."""
PRECISION = "precision"
"""What tells of computing in less than fp32 where an artefact comes from."""
_SYMBOL = re.compile(r"\b[^\W\d]\w*\b(?!\()")
_DIM_LIMIT = 512
_RANK_LIMIT = 64
_SIZE_LIMIT = 1 << 62

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """One input or output: extents are integers or expressions such as ``2*seq+1``.

    Text (``str``) lies in memory as places among the manifest's words, of i64.
    """

    name: str
    dtype: str
    shape: tuple[int | str, ...]

    def __str__(self) -> str:
        return f"{self.dtype}[{','.join(map(str, self.shape))}]"


@dataclass(frozen=True, slots=True)
class WeightSpec:
    """One tensor of the parameter tuple, in the order of the tuple."""

    name: str
    dtype: str
    shape: tuple[int, ...]

    @property
    def size(self) -> int:
        """The number of bytes of the tensor."""
        return math.prod(self.shape) * DTYPE_OF_NAME[self.dtype].numpy.itemsize


@dataclass(frozen=True, slots=True)
class TargetSpec:
    """The machine the library was compiled for: one like this, unless it is said.

    Features are flags as Linux spells them.
    """

    kind: str = "cpu"
    arch: str = field(default_factory=lambda: os.uname().machine)
    features: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Part:
    """A member of the artefact: its size and what its bytes must be."""

    name: str
    size: int
    crc: int
    sha256: str


@dataclass(frozen=True, slots=True)
class FunctionSpec:
    """A C function of another package that the library calls."""

    slot: str
    """The place in the library where its address belongs."""
    symbol: str
    member: str
    """The shared library in the artefact that it is in."""
    operator: str


@dataclass(frozen=True, slots=True)
class TextTable:
    """An input that the runtime fills in: for each word, the places of what a function makes of it.

    ``upper`` and ``lower`` give one word, of which the table is a row. ``split`` gives parts, one
    row of them for each word, and how many they are in the input `counts`.
    """

    input: str
    function: str
    counts: str = ""
    delimiter: str = ""
    """What is between parts; white space if empty."""
    maxsplit: int = -1
    """How often a word is split at most, if that is 0 or more."""


def _nothing() -> Mapping[str, Any]:
    return MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Manifest:
    """Everything about an artefact except its code and its weights."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    weights: tuple[WeightSpec, ...] = ()
    target: TargetSpec = field(default_factory=TargetSpec)
    threads: int = 1
    """How many threads a run takes; 0 is as many as the process may use."""
    plan: Mapping[str, int] = field(default_factory=_nothing)
    """Bytes of memory that a run takes: ``peak`` whatever its extents are, and beside it so many
    for each unit of a product of extents, such as ``bytes for each batch*sequence``."""
    dims: Mapping[str, int] = field(default_factory=_nothing)
    """The largest extents that the memory plan allows, by symbol."""
    provenance: Mapping[str, Any] = field(default_factory=_nothing)
    """Where the artefact comes from: model, passes, versions. No dates and no paths: the same
    model gives the same bytes."""
    words: tuple[str, ...] = ()
    """The words that text is made of, by place."""
    tables: tuple[TextTable, ...] = ()
    functions: tuple[FunctionSpec, ...] = ()
    leptonc: str = ""
    """The version that wrote it; filled in by the writer, as are the next two."""
    libc: str = ""
    parts: tuple[Part, ...] = ()
    in_pieces: bool = False
    """Whether the digest of a member is that of the digests of its pieces."""

    @property
    def asked(self) -> tuple[TensorSpec, ...]:
        """The inputs that a caller gives: all but the tables of words."""
        filled = {name for table in self.tables for name in (table.input, table.counts)}
        return tuple(spec for spec in self.inputs if spec.name not in filled)

    @property
    def carried(self) -> tuple[str, ...]:
        """The members that are libraries of other packages."""
        return tuple(dict.fromkeys(function.member for function in self.functions))

    @property
    def is_told(self) -> bool:
        """Whether the plan says what open extents take, by symbols of the inputs alone."""
        grows = [key.removeprefix(FOR_EACH) for key in self.plan if key.startswith(FOR_EACH)]
        given = [str(dim) for spec in self.inputs for dim in spec.shape]
        return bool(grows) and _symbols(grows) <= _symbols(given)

    def offsets(self, alignment: int) -> tuple[int, ...]:
        """Where each weight starts in the weights, and at the end the size of them all."""
        offsets: list[int] = []
        position = 0
        for weight in self.weights:
            offsets.append(position)
            position += weight.size + -weight.size % alignment
        return (*offsets, position)

    @property
    def _format(self) -> int:
        if self.in_pieces:
            return FORMAT
        return FUNCTIONS_FORMAT if self.functions else PLAIN_FORMAT

    def to_json(self, alignment: int) -> bytes:
        """The manifest as it stands in the file; equal manifests give equal bytes."""
        weights = [
            {"name": w.name, "dtype": w.dtype, "shape": w.shape, "offset": offset, "bytes": w.size}
            for w, offset in zip(self.weights, self.offsets(alignment), strict=False)
        ]
        document: dict[str, Any] = {
            "format": self._format,
            "leptonc": self.leptonc,
            "inputs": [_tensor_json(tensor) for tensor in self.inputs],
            "outputs": [_tensor_json(tensor) for tensor in self.outputs],
            "weights": weights,
            "target": {
                "kind": self.target.kind,
                "arch": self.target.arch,
                "features": sorted(self.target.features),
            },
            "threads": self.threads,
            "plan": dict(self.plan),
            "dims": dict(self.dims),
            "provenance": dict(self.provenance),
            "libc": self.libc,
            **({"words": self.words} if self.words else {}),
            **({"tables": [asdict(table) for table in self.tables]} if self.tables else {}),
            "parts": [
                {"name": p.name, "size": p.size, "crc32": p.crc, "sha256": p.sha256}
                for p in self.parts
            ],
        }
        if self.functions:
            document["functions"] = [asdict(function) for function in self.functions]
        text = json.dumps(document, sort_keys=True, separators=(",", ":"), allow_nan=False)
        return text.encode("ascii")


def _symbols(extents: Iterable[str]) -> set[str]:
    return {name for extent in extents for name in _SYMBOL.findall(extent)}


def _tensor_json(tensor: TensorSpec) -> dict[str, Any]:
    return {"name": tensor.name, "dtype": tensor.dtype, "shape": tensor.shape}


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
    shape = read.take("shape", _list_of(_extent))
    return TensorSpec(read.take("name", _text), read.take("dtype", _dtype_or_text), shape)


def _weight(read: _Fields) -> WeightSpec:
    shape = read.take("shape", _list_of(_integer(0, _SIZE_LIMIT)))
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


def _object(value: object) -> dict[str, object]:
    if not isinstance(value, dict):
        raise TypeError(f"is {type(value).__name__}, should be an object")
    return cast("dict[str, object]", value)


def _mapping_of(read: Callable[[object], T]) -> Callable[[object], Mapping[str, T]]:
    return lambda value: {name: read(entry) for name, entry in _object(value).items()}
