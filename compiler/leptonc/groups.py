"""Sequences and optionals at a model's boundary: lists outside, a tensor an element inside."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, cast

from leptonc.ir.diagnostics import LeptonError, shown

INPUTS, OUTPUTS = "groups.inputs", "groups.outputs"
"""Where a graph's metadata says how its tensors are grouped."""

Lengths = Mapping[str, int | None]
"""By name: how many tensors a sequence is, None for an optional that is absent."""


def _none() -> Lengths:
    return MappingProxyType({})


def element(name: str, index: int) -> str:
    """What the tensor at a place of a sequence is called."""
    return f"{name}[{index}]"


@dataclass(frozen=True)
class Groups:
    """Which inputs and outputs are no plain tensors."""

    inputs: Lengths = field(default_factory=_none)
    outputs: Lengths = field(default_factory=_none)
    names: tuple[str, ...] = ()
    """All outputs in order, where some are no tensors."""

    def __bool__(self) -> bool:
        return bool(self.inputs or self.outputs)

    @staticmethod
    def of(metadata: Mapping[str, Any]) -> Groups:
        """As `describe` wrote them."""
        try:
            inputs = dict(json.loads(metadata.get(INPUTS, "{}")))
            listed = cast("list[tuple[str, Any]]", json.loads(metadata.get(OUTPUTS, "[]")))
            outputs = {name: length for name, length in listed if length != "tensor"}
            groups = Groups(inputs, outputs, tuple(name for name, _ in listed))
            lengths = (*inputs.values(), *outputs.values())
            if not all(length is None or type(length) is int for length in lengths):
                raise ValueError("a length is no integer")
        except (TypeError, ValueError) as error:
            raise LeptonError(
                f"the artefact does not say how its inputs and outputs are grouped: {error}",
                notes=["compile the model again"],
                code="E610",
            ) from None
        return groups

    def describe(self) -> dict[str, str]:
        """The metadata that says the same."""
        if not self:
            return {}
        listed = [(name, self.outputs.get(name, "tensor")) for name in self.names]
        return {INPUTS: json.dumps(dict(self.inputs)), OUTPUTS: json.dumps(listed)}

    def spread(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """Inputs with a name for each tensor; raises E701 where a list has another length."""
        spread: dict[str, Any] = {}
        for name, value in inputs.items():
            if name not in self.inputs:
                spread[name] = value
            elif value is not None or self.inputs[name] is not None:
                items = self._items(name, value)
                spread.update((element(name, at), item) for at, item in enumerate(items))
        return spread

    def _items(self, name: str, value: Any) -> Sequence[Any]:
        length = self.inputs[name]
        wanted = "nothing" if length is None else f"a list of {length} tensors"
        got = type(value).__name__
        if length is not None and isinstance(value, list | tuple):
            items = cast("Sequence[Any]", value)
            if len(items) == length:
                return items
            got = f"{len(items)}"
        raise LeptonError(
            f"{shown(name)}: expected {wanted}, got {got}",
            notes=[f"the length is set when the model is compiled: --dim {name}={length or 0}"],
            code="E701",
        )

    def gather(self, outputs: Mapping[str, Any]) -> dict[str, Any]:
        """Outputs with a list for each sequence, and None for what is absent."""
        if not self.outputs:
            return dict(outputs)
        gathered: dict[str, Any] = {}
        for name in self.names:
            if name not in self.outputs:
                gathered[name] = outputs[name]
                continue
            length = self.outputs[name]
            items = None if length is None else [outputs[element(name, i)] for i in range(length)]
            gathered[name] = items
        return gathered


def flattened(outputs: Mapping[str, Any]) -> dict[str, Any]:
    """Outputs with a name for each tensor, and none for what is absent."""
    flat: dict[str, Any] = {}
    for name, value in outputs.items():
        if isinstance(value, list):
            items = cast("list[Any]", value)
            flat.update((element(name, at), item) for at, item in enumerate(items))
        elif value is not None:
            flat[name] = value
    return flat
