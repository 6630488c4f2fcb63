"""What onnxruntime computes, as reference."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import onnx

from leptonc.ir.blob import Array


def onnxruntime_gives(source: onnx.ModelProto | Path, feeds: Mapping[str, Array]) -> list[Array]:
    """The outputs of a model, in order, computed node by node as it is written."""
    onnxruntime: Any = importlib.import_module("onnxruntime")  # it has no types
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    given = str(source) if isinstance(source, Path) else source.SerializeToString()
    session = onnxruntime.InferenceSession(given, options, providers=["CPUExecutionProvider"])
    return session.run(None, dict(feeds))
