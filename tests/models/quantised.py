"""Real models quantised by onnxruntime's own tools, on a few inputs of their own."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from tests.models.inputs import Array, Feeds
from tests.models.zoo import MODELS, Model

OLDEST = 13
"""Models of older opsets are brought up to this one: it has scales by channel."""


@dataclass(frozen=True)
class Variant:
    """One model, quantised in one way."""

    model: Model
    form: str

    @property
    def name(self) -> str:
        """What it is called in tests."""
        return f"{self.model.name}-{self.form}"

    def write(self, path: Path) -> None:
        """Quantise the model into a file."""
        with tempfile.TemporaryDirectory() as folder:
            source = Path(folder) / "model.onnx"
            source.write_bytes(_prepared(_read(self.model.path())).SerializeToString())
            FORMS[self.form](self.model, source, path)


def _read(path: Path) -> onnx.ModelProto:
    return onnx.ModelProto.FromString(path.read_bytes())


def _prepared(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model with its constants where the tools look for them."""
    opset = next(item.version for item in model.opset_import if item.domain in ("", "ai.onnx"))
    if opset < OLDEST:
        model = onnx.version_converter.convert_version(model, OLDEST)
    nodes: list[onnx.NodeProto] = []
    for node in model.graph.node:
        value = next((item.t for item in node.attribute if item.name == "value"), None)
        if node.op_type == "Constant" and value is not None:
            value.name = node.output[0]
            model.graph.initializer.append(value)
        else:
            nodes.append(node)
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    return model


class _Reader:
    """The inputs that the ranges of activations are measured on."""

    def __init__(self, model: Model) -> None:
        self._feeds: Iterator[Feeds] = iter([model.feeds(case) for case in range(len(model.cases))])

    def get_next(self) -> Feeds | None:
        """The next inputs, None behind the last."""
        return next(self._feeds, None)


def _quantiser() -> Any:
    module: Any = import_module("onnxruntime.quantization")  # it has no types
    return module


def _static(layout: str, activations: str, weights: str, **more: Any) -> Callable[..., None]:
    def quantise(model: Model, source: Path, path: Path) -> None:
        tools = _quantiser()

        class Reader(_Reader, tools.CalibrationDataReader):
            """As the tools want it."""

        with _silent():
            tools.quantize_static(
                source, path, Reader(model), quant_format=tools.QuantFormat[layout],
                activation_type=tools.QuantType[activations],
                weight_type=tools.QuantType[weights], **more,
            )  # fmt: skip

    return quantise


def _dynamic(weights: str, **more: Any) -> Callable[..., None]:
    def quantise(model: Model, source: Path, path: Path) -> None:
        tools = _quantiser()
        with _silent():
            tools.quantize_dynamic(source, path, weight_type=tools.QuantType[weights], **more)

    return quantise


class _silent:  # noqa: N801 - used as a statement
    """No advice of the tools."""

    def __enter__(self) -> None:
        logging.disable(logging.WARNING)

    def __exit__(self, *_: object) -> None:
        logging.disable(logging.NOTSET)


def _few_bits(bits: int, size: int) -> Callable[..., None]:
    """Products with constant weights take those in blocks of `size`, of `bits` each."""

    def quantise(model: Model, source: Path, path: Path) -> None:
        proto = _read(source)
        weights = {tensor.name: tensor for tensor in proto.graph.initializer}
        for node in proto.graph.node:
            if node.op_type == "MatMul" and node.input[1] in weights:
                weight = numpy_helper.to_array(weights[node.input[1]])
                if weight.ndim == 2:
                    _pack(proto.graph, node, weight, bits, size)
        read = {name for node in proto.graph.node for name in node.input}
        kept = [tensor for tensor in proto.graph.initializer if tensor.name in read]
        del proto.graph.initializer[:]
        proto.graph.initializer.extend(kept)
        proto.opset_import.append(helper.make_opsetid("com.microsoft", 1))
        path.write_bytes(proto.SerializeToString())

    return quantise


def _pack(
    graph: onnx.GraphProto, node: onnx.NodeProto, weight: Array, bits: int, size: int
) -> None:
    depth, columns = weight.shape
    blocks = -(-depth // size)
    padded = np.zeros((blocks * size, columns), np.float32)
    padded[:depth] = weight
    values = padded.reshape(blocks, size, columns).transpose(2, 0, 1)
    low, high = np.minimum(values.min(2), 0), np.maximum(values.max(2), 0)
    scales = np.maximum((high - low) / (2**bits - 1), 1e-9).astype(np.float32)
    points = np.rint(-low / scales)
    codes = np.clip(np.rint(values / scales[..., None]) + points[..., None], 0, 2**bits - 1)
    arrays = (_packed(codes, bits), scales.reshape(-1), _packed(points, bits))
    names = [f"{node.input[1]}.{part}" for part in ("codes", "scales", "points")]
    if names[0] not in {tensor.name for tensor in graph.initializer}:
        made = (numpy_helper.from_array(a, name) for a, name in zip(arrays, names, strict=True))
        graph.initializer.extend(made)
    x, output = node.input[0], node.output[0]
    node.CopyFrom(helper.make_node(
        "MatMulNBits", [x, *names], [output], name=node.name, domain="com.microsoft",
        K=depth, N=columns, bits=bits, block_size=size,
    ))  # fmt: skip


def _packed(codes: Array, bits: int) -> Array:
    """Codes along the last axis as bytes, the first in the lowest bits."""
    count = 8 // bits
    codes = codes.astype(np.uint8)
    short = -codes.shape[-1] % count
    padded = np.pad(codes, [(0, 0)] * (codes.ndim - 1) + [(0, short)])
    parts = [padded[..., n::count] << (bits * n) for n in range(count)]
    return np.ascontiguousarray(np.bitwise_or.reduce(parts))


# Weights of 7 bits: the peer's products of unsigned with signed bytes saturate on processors
# without an instruction for them.
_SEVEN = {"per_channel": True, "reduce_range": True}
FORMS: Mapping[str, Callable[..., None]] = MappingProxyType({
    "qdq": _static("QDQ", "QUInt8", "QInt8", **_SEVEN),
    "qdq-signed": _static("QDQ", "QInt8", "QInt8"),
    "operators": _static("QOperator", "QUInt8", "QInt8", **_SEVEN),
    "dynamic": _dynamic("QUInt8"),
    "dynamic-signed": _dynamic("QInt8", **_SEVEN),
    "4-bits": _few_bits(4, 32),
})  # fmt: skip
"""The ways to quantise."""


def variants(model: str, forms: Sequence[str]) -> list[Variant]:
    """A model in several forms."""
    return [Variant(MODELS[model], form) for form in forms]


VARIANTS = (
    *variants("magika", ("qdq-signed", "operators", "dynamic")),
    *variants("silero_vad_openvino_16k", ("qdq", "dynamic-signed")),
    *variants("llama_tiny", ("dynamic-signed", "4-bits")),
)
