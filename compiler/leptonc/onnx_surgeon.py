"""Graphs of onnx-graphsurgeon in and out, for models that are edited before or after.

Its classes are imported only where one of its graphs is at hand or asked for.
"""

from __future__ import annotations

import importlib
from typing import Any

import onnx

from leptonc.ir.graph import Graph
from leptonc.onnx_export import export_model


def is_surgeon_graph(source: object) -> bool:
    """True for a graph of onnx-graphsurgeon."""
    kind = type(source)
    return kind.__name__ == "Graph" and kind.__module__.startswith("onnx_graphsurgeon.")


def message_of(source: Any) -> onnx.ModelProto:
    """The ONNX model that a graph of onnx-graphsurgeon stands for."""
    surgeon: Any = importlib.import_module("onnx_graphsurgeon")
    return surgeon.export_onnx(source)


def surgeon_graph(graph: Graph, opset: int | None = None) -> Any:
    """A graph as one of onnx-graphsurgeon, to be edited there."""
    surgeon: Any = importlib.import_module("onnx_graphsurgeon")
    return surgeon.import_onnx(export_model(graph, opset))
