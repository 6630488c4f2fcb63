"""What the names of an ONNX graph stand for while it is imported."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeAlias

import onnx

from leptonc.ir.build import Builder
from leptonc.ir.diagnostics import LeptonBug, LeptonError, shown
from leptonc.ir.graph import Graph, Value
from leptonc.ir.location import Location
from leptonc.onnx_attributes import Bindings, Decoded
from leptonc.onnx_faults import Findings
from leptonc.onnx_file import OnnxFile
from leptonc.onnx_forks import Forks
from leptonc.onnx_limits import Limits
from leptonc.onnx_order import nearest


class Failed:
    """Stands for the result of a node that could not be imported; what reads it is passed over."""


FAILED = Failed()

Meaning: TypeAlias = "Value | tuple[Value, ...] | Failed | None"
"""A tensor, a sequence taken apart, nothing known, or an optional input that is absent."""


@dataclass
class Scope:
    """The names of one graph or function body; those of the graphs around it are seen through."""

    build: Builder
    opsets: Mapping[str, int]
    parent: Scope | None = None
    bindings: Bindings = field(default_factory=dict[str, onnx.AttributeProto])
    prefix: str = ""
    """What the locations of nodes start with: the calls they stand inside."""
    depth: int = 0
    names: dict[str, Meaning] = field(default_factory=dict[str, "Meaning"])
    declared: dict[str, onnx.TypeProto] = field(default_factory=dict[str, onnx.TypeProto])
    """What the model says of the types of its inner values."""

    def inner(self, build: Builder) -> Scope:
        """The scope of a subgraph."""
        return Scope(build, self.opsets, self, self.bindings, self.prefix, self.depth + 1)

    def look_up(self, name: str) -> Meaning:
        """What `name` stands for; raises E014 where nothing defines it."""
        scope: Scope | None = self
        while scope is not None:
            if name in scope.names:
                return scope.names[name]
            scope = scope.parent
        meant = nearest(name, self.names)
        raise LeptonError(
            f"nothing defines {shown(name)}",
            notes=[f"did you mean {shown(meant)}"] if meant else [],
            code="E014",
        )


@dataclass
class Call:
    """One node about to be imported: what it reads, its attributes, and where its results go."""

    op_type: str
    domain: str
    opset: int
    """The version of `domain` that the node was written for."""
    operands: list[Value | None]
    attributes: dict[str, tuple[str, Decoded]]
    outputs: Sequence[str]
    build: Builder
    scope: Scope | None = None
    """Where the node stands, which matters to nodes that name tensors in attributes."""

    @property
    def location(self) -> Location:
        """Where the node stands in the model."""
        return self.build.location

    def operand(self, index: int) -> Value | None:
        """The operand at `index`, None where it is absent."""
        return self.operands[index] if index < len(self.operands) else None

    def required(self, index: int) -> Value:
        """The operand at `index`; raises E014 where it is absent."""
        value = self.operand(index)
        if value is None:
            raise LeptonError(f"{self.op_type} lacks its input {index}", self.location, code="E014")
        return value

    def set_operand(self, index: int, value: Value | None) -> None:
        """Put `value` at `index`, with absent operands before it where there are too few."""
        self.operands.extend([None] * (index + 1 - len(self.operands)))
        self.operands[index] = value

    def meaning(self, name: str) -> Meaning:
        """What a name in an attribute stands for; raises E014 where nothing defines it."""
        if self.scope is None:
            raise LeptonBug(f"{self.op_type} is imported without a scope", self.location)
        return self.scope.look_up(name)

    def take(self, name: str, kind: str, default: Decoded = None) -> Decoded:
        """Remove the attribute `name` and give its value; raises E015 where it is no `kind`."""
        found, value = self.attributes.pop(name, (kind, default))
        if found != kind:
            raise LeptonError(
                f"attribute {shown(name)} of {self.op_type} should be of kind {kind}, is {found}",
                self.location,
                code="E015",
            )
        return value

    def wants(self, index: int) -> bool:
        """True where the node names its output `index`."""
        return index < len(self.outputs) and bool(self.outputs[index])


class Importer(Protocol):
    """What imports the nodes of a model: all that control flow needs to know of it."""

    file: OnnxFile
    graph: Graph
    limits: Limits
    findings: Findings
    forks: Forks

    def body(self, scope: Scope, graph: onnx.GraphProto) -> list[Meaning]:
        """Import a graph whose inputs `scope` knows, and give what its outputs stand for."""
        ...
