# pyright: standard
"""The runtimes that leptonc is measured against."""

from __future__ import annotations

import importlib
import importlib.metadata
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from leptonc.ir.diagnostics import LeptonError, shown

Outputs = Mapping[str, NDArray[Any]]
Run = Callable[[Outputs], Outputs]


@dataclass(frozen=True)
class Peer:
    """Another runtime: which package it is, and how it loads a model for so many threads."""

    package: str
    loader: Callable[[Path, int, str], Run]

    def version(self) -> str:
        """The installed version; says how to install the peer where it is missing."""
        try:
            return importlib.metadata.version(self.package)
        except importlib.metadata.PackageNotFoundError:
            raise LeptonError(
                f"{self.package} is not installed, so there is nothing to measure against",
                notes=[f"install it with pip install {self.package}"],
                code="E809",
            ) from None

    def load(self, model: Path, threads: int = 1, precision: str = "fp32") -> Run:
        """Load the model, ready to run, in this precision where the peer has it."""
        return self.loader(model, threads, precision)


def peer_of(name: str) -> Peer:
    """The peer called so; an error that lists them where there is none."""
    if name not in PEERS:
        raise LeptonError(
            f"there is no peer {shown(name)}", notes=[f"peers: {', '.join(PEERS)}"], code="E805"
        )
    return PEERS[name]


def reference(model: Path, feeds: Outputs) -> Outputs:
    """The outputs by onnxruntime with its graph optimisation off."""
    PEERS["ort"].version()
    return _onnxruntime(model, 1, "fp32", optimise=False)(feeds)


def _onnxruntime(model: Path, threads: int, precision: str, *, optimise: bool = True) -> Run:
    runtime = importlib.import_module("onnxruntime")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 4
    if not optimise:
        options.graph_optimization_level = runtime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = runtime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return lambda feeds: dict(zip(names, session.run(names, dict(feeds)), strict=True))


def _openvino(model: Path, threads: int, precision: str) -> Run:
    openvino = importlib.import_module("openvino")
    hint = "bf16" if precision == "bf16" else "f32"
    settings = {
        "INFERENCE_NUM_THREADS": threads, "INFERENCE_PRECISION_HINT": hint,
        # pinned, the thread that also runs the others would stay on one processor
        "PERFORMANCE_HINT": "LATENCY", "ENABLE_CPU_PINNING": False,
        # with VNNI it would round the inputs of layers to 8 bits where only the weights had them
        "DYNAMIC_QUANTIZATION_GROUP_SIZE": 0,
    }  # fmt: skip
    request = openvino.Core().compile_model(str(model), "CPU", settings).create_infer_request()
    names = [output.any_name for output in request.model_outputs]

    def run(feeds: Outputs) -> Outputs:
        results = request.infer(dict(feeds), share_inputs=True, share_outputs=True)
        return dict(zip(names, (results[index] for index in range(len(names))), strict=True))

    return run


PEERS = {
    "ort": Peer("onnxruntime", _onnxruntime),
    "openvino": Peer("openvino", _openvino),
}
