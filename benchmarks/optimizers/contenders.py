"""Optimises one ONNX model with one tool, each used as its manual says.

``python -m benchmarks.optimizers.contenders TOOL IN OUT`` is a process of its own, since some tools
end theirs.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import onnx


def _leptonc(source: Path, target: Path) -> None:
    import leptonc

    leptonc.optimize(source, target)


def _leptonc_with_contrib(source: Path, target: Path) -> None:
    import leptonc

    leptonc.optimize(source, target, allow=("com.microsoft",))


def _read(source: Path) -> onnx.ModelProto:
    return onnx.ModelProto.FromString(source.read_bytes())


def _onnxsim(source: Path, target: Path) -> None:
    onnxsim: Any = importlib.import_module("onnxsim")
    model, proven = onnxsim.simplify(str(source))
    if not proven:
        raise RuntimeError("its own check failed")
    target.write_bytes(model.SerializeToString())


def _onnxslim(source: Path, target: Path) -> None:
    onnxslim: Any = importlib.import_module("onnxslim")
    model = onnxslim.slim(str(source))
    if model is None:
        raise RuntimeError("it gave no model")
    target.write_bytes(model.SerializeToString())


def _onnxoptimizer(source: Path, target: Path) -> None:
    onnxoptimizer: Any = importlib.import_module("onnxoptimizer")
    target.write_bytes(onnxoptimizer.optimize(_read(source)).SerializeToString())


def _onnxscript(source: Path, target: Path) -> None:
    onnxscript: Any = importlib.import_module("onnxscript.optimizer")
    target.write_bytes(onnxscript.optimize(_read(source)).SerializeToString())


def _onnxruntime(level: str) -> Callable[[Path, Path], None]:
    def optimize(source: Path, target: Path) -> None:
        onnxruntime: Any = importlib.import_module("onnxruntime")
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4
        options.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, level)
        options.optimized_model_filepath = str(target)
        onnxruntime.InferenceSession(str(source), options, providers=["CPUExecutionProvider"])

    return optimize


CONTENDERS: Mapping[str, Callable[[Path, Path], None]] = MappingProxyType({
    "leptonc": _leptonc,
    "leptonc+contrib": _leptonc_with_contrib,
    "onnxsim": _onnxsim,
    "onnxslim": _onnxslim,
    "onnxoptimizer": _onnxoptimizer,
    "onnxscript": _onnxscript,
    "onnxruntime": _onnxruntime("ORT_ENABLE_BASIC"),
    "onnxruntime+contrib": _onnxruntime("ORT_ENABLE_EXTENDED"),
})  # fmt: skip
"""The tools by name; those with ``+contrib`` may use operators of com.microsoft."""


def versions() -> dict[str, str]:
    """The version of each tool."""
    names = {name.partition("+")[0] for name in CONTENDERS}
    return {name: importlib.metadata.version(name) for name in sorted(names)}


if __name__ == "__main__":
    CONTENDERS[sys.argv[1]](Path(sys.argv[2]), Path(sys.argv[3]))
