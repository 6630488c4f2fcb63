"""A model that is written section by section, each broken or not."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import FunctionProto, NodeProto, TensorProto
from onnx import helper as h

from tests.robustness.models import F32, const, untyped

OPSET = 20
UNDECODED = "not utf"
"""Seven letters that are seven bytes of no text in the file."""


@dataclass
class Draft:
    """A model being written."""

    folder: Path
    name: str = ""
    """The section that is written; its node is called so."""
    nodes: list[NodeProto] = field(default_factory=list[NodeProto])
    inputs: list[onnx.ValueInfoProto] = field(default_factory=list[onnx.ValueInfoProto])
    outputs: list[onnx.ValueInfoProto] = field(default_factory=list[onnx.ValueInfoProto])
    weights: list[TensorProto] = field(default_factory=list[TensorProto])
    sparse: list[onnx.SparseTensorProto] = field(default_factory=list[onnx.SparseTensorProto])
    functions: list[FunctionProto] = field(default_factory=list[FunctionProto])
    domains: dict[str, int] = field(default_factory=dict[str, int])
    ir_version: int = 10

    @property
    def y(self) -> str:
        """The name of the section's result."""
        return f"y of {self.name}"

    def add(
        self,
        op: str,
        inputs: Sequence[str] = ("x",),
        outputs: Sequence[str] = (),
        *,
        name: str = "",
        domain: str = "",
        **attributes: Any,
    ) -> NodeProto:
        """A node whose result, unless others are named, is an output of the model."""
        if not outputs:
            self.outputs.append(untyped(self.y))
        made = h.make_node(
            op, inputs, outputs or [self.y], name=name or self.name, domain=domain, **attributes
        )
        self.nodes.append(made)
        return made

    def weight(self, array: Any, dtype: Any = np.float32) -> str:
        """A constant of the section."""
        name = f"w of {self.name}"
        self.weights.append(const(name, array, dtype))
        return name

    def external(self, location: str, **entries: str) -> None:
        """The sum of x and a constant that keeps its data in a file."""
        made = TensorProto(
            name=f"w of {self.name}", data_type=F32, dims=(3,),
            data_location=TensorProto.EXTERNAL,
        )  # fmt: skip
        for key, text in {"location": location, **entries}.items():
            made.external_data.add(key=key, value=text)
        self.weights.append(made)
        self.add("Add", ("x", made.name))

    def tensor(self, made: TensorProto) -> None:
        """The sum of x and a constant exactly as told."""
        made.name = f"w of {self.name}"
        self.weights.append(made)
        self.add("Add", ("x", made.name))


Section = Callable[[Draft, bool], object]
"""Writes its part of a model whose x is f32[2,3]; broken or not."""
