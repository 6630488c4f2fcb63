"""The manifest of an artefact: what it computes, on what machine, and what its parts are."""

from __future__ import annotations

import json
import math
import platform
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from types import MappingProxyType
from typing import Any

from leptonc.ir.types import DTYPE_OF_NAME

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
    arch: str = field(default_factory=platform.machine)
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
