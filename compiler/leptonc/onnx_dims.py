"""The extents of a model's inputs: names made identifiers, sizes put in, unknown ones named."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

import onnx

from leptonc.groups import element
from leptonc.ir.diagnostics import LeptonError, shown
from leptonc.ir.dims import Dim, substitute, symbol, symbols
from leptonc.ir.dims_parse import parse_dim
from leptonc.ir.types import TensorType
from leptonc.onnx_order import nearest
from leptonc.onnx_tensor import dtype_of

_NO_NAME = frozenset({"", "?", "-1", "none", "unknown", "unk", "dynamic"})
"""Spellings of "some size": two extents spelled like this need not be equal."""

_LONGEST_EXPRESSION = 200
"""Names of extents up to this length are read as expressions where they are some."""

_RESERVED = re.compile(r"u\d+_|floordiv|min|max|mod|broadcast")
"""Names that textual IR uses for something else."""


def present(type: onnx.TypeProto) -> onnx.TypeProto:
    """The type of what an optional holds; other types as they are."""
    return type.optional_type.elem_type if type.HasField("optional_type") else type


class InputDims:
    """Turns the declared extents of one model into `Dim`s."""

    def __init__(
        self, inputs: Iterable[onnx.ValueInfoProto], values: Mapping[str, int | str]
    ) -> None:
        self._spelled: dict[str, str] = {}
        self._plain = {
            dim.dim_param
            for item in inputs
            for dim in present(item.type).tensor_type.shape.dim
            if re.fullmatch(r"[A-Za-z_]\w*", dim.dim_param)
        }
        self._values = dict(values)
        self._used: set[str] = set()
        for name, value in values.items():
            if isinstance(value, int) and value < 0:
                raise LeptonError(
                    f"the extent {shown(name)} cannot be {value}, it is a size", code="E021"
                )

    def type_of(self, item: onnx.ValueInfoProto, max_rank: int) -> TensorType:
        """The type of an input; raises E016 where it is no tensor, or has no known rank."""
        what = f"input {shown(item.name)}"
        type = present(item.type)
        kind = type.WhichOneof("value")
        if kind != "tensor_type":
            name = (kind or "nothing").removesuffix("_type")
            raise LeptonError(f"{what} is of type {name}, a model takes tensors only", code="E013")
        declared = type.tensor_type
        if not declared.HasField("shape"):
            raise LeptonError(
                f"{what} does not say how many dimensions it has",
                notes=["give it a shape, f.e. with onnx.tools.update_model_dims"],
                code="E016",
            )
        dims = declared.shape.dim
        if len(dims) > max_rank:
            raise LeptonError(
                f"{what} has {len(dims)} dimensions, more than {max_rank}", code="E018"
            )
        shape = tuple(self._dim(item.name, axis, dim, what) for axis, dim in enumerate(dims))
        return TensorType(dtype_of(declared.elem_type, what), shape)

    def length_of(self, item: onnx.ValueInfoProto) -> int | None:
        """The tensors of a sequence or optional, as the caller says; None where it does not."""
        length = self._values.get(item.name)
        if not isinstance(length, int):
            return None
        self._used.add(item.name)
        return length

    def element_of(
        self, item: onnx.ValueInfoProto, index: int, max_rank: int
    ) -> tuple[str, TensorType]:
        """Name and type of one tensor of a sequence; no extent of it need be that of another."""
        one = onnx.ValueInfoProto(name=element(item.name, index))
        one.type.CopyFrom(present(item.type).sequence_type.elem_type)
        for axis, dim in enumerate(one.type.tensor_type.shape.dim):
            if not dim.HasField("dim_value"):
                dim.dim_param = f"{item.name}_{index}_{axis}"
        return one.name, self.type_of(one, max_rank)

    def _dim(self, name: str, axis: int, dim: onnx.TensorShapeProto.Dimension, what: str) -> Dim:
        if dim.HasField("dim_value"):
            if dim.dim_value >= 0:
                return dim.dim_value
            if dim.dim_value != -1:
                raise LeptonError(f"{what} has the negative extent {dim.dim_value}", code="E016")
        text = dim.dim_param.strip()
        if text.lower() in _NO_NAME:
            return self._named(f"{name}_{axis}")
        if len(text) > _LONGEST_EXPRESSION:
            return self._named(text)
        try:
            parsed = parse_dim(text)
        except (ValueError, ZeroDivisionError, RecursionError):
            return self._named(text)
        if isinstance(parsed, int):
            return parsed if parsed >= 0 else self._named(text)
        names = symbols(parsed)
        if parsed == symbol(text) or not names <= self._plain:
            return self._named(text)
        return substitute(parsed, {part: self._named(part) for part in names})

    def _named(self, text: str) -> Dim:
        """The extent that the model calls `text`, or what the caller wants in its place."""
        name = self._identifier(text)
        for key in (text, name):
            if key in self._values:
                self._used.add(key)
                value = self._values[key]
                return value if isinstance(value, int) else symbol(self._identifier(value))
        return symbol(name)

    def _identifier(self, text: str) -> str:
        if text not in self._spelled:
            name = re.sub(r"\W+", "_", text[:64], flags=re.ASCII).strip("_") or "d"
            name = f"d{name}" if name[0].isdigit() else name
            name = f"{name}d" if _RESERVED.fullmatch(name) else name
            taken, base, count = set(self._spelled.values()), name, 2
            while name in taken:
                name, count = f"{base}_{count}", count + 1
            self._spelled[text] = name
        return self._spelled[text]

    def check_all_used(self) -> None:
        """Raise E021 for an extent that the caller wanted to fix and no input has."""
        unused = [name for name in self._values if name not in self._used]
        if unused:
            known = ", ".join(map(shown, dict.fromkeys(self._spelled.values()))) or "none"
            meant = nearest(unused[0], self._spelled.values())
            notes = [f"did you mean {shown(meant)}"] if meant else []
            raise LeptonError(
                f"no input has an extent called {', '.join(map(shown, unused))}",
                notes=[*notes, f"the extents of the inputs are: {known}"],
                code="E021",
            )
