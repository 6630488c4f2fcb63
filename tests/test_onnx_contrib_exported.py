"""Operators of com.microsoft, optimised and exported, compute what they did before."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from leptonc.driver import run_passes
from leptonc.ir.interpret import interpret
from leptonc.onnx_export import export_model
from leptonc.onnx_import import import_model
from leptonc.pipelines import OPTIMIZE
from tests.contrib import Operands, compare, feeds_of, lone
from tests.peer import onnxruntime_gives
from tests.test_onnx_contrib_attention import ATTENTION, GROUPED, MULTI_HEAD
from tests.test_onnx_contrib_blocks import few_bits, lstm_operands
from tests.test_onnx_contrib_various import CASES, EMBED, QUANTISED

HEADS: dict[str, Any] = {"num_heads": 4}
GROUPS: dict[str, Any] = {"num_heads": 4, "kv_num_heads": 2, "do_rotary": 1}
FEW = few_bits(4, 72, 32, zero="packed", bias=True)

MODELS: dict[str, tuple[str, Operands, dict[str, Any], tuple[str, ...]]] = {
    "Attention": ("Attention", ATTENTION["causal past"][0], HEADS, ("y", "present")),
    "MultiHeadAttention": ("MultiHeadAttention", MULTI_HEAD["past"][0], HEADS, ("y", "k2", "v2")),
    "GroupQueryAttention": (
        "GroupQueryAttention", GROUPED["next of two lengths"][0], GROUPS, ("y", "k2", "v2")),
    "MatMulNBits": ("MatMulNBits", *FEW, ("y",)),
    "DynamicQuantizeLSTM": (
        "DynamicQuantizeLSTM", lstm_operands(np.uint8, 2, by_gate=True),
        {"hidden_size": 6, "direction": "bidirectional"}, ("y", "h_n", "c_n")),
    "EmbedLayerNormalization": (
        "EmbedLayerNormalization", EMBED["mask"], {}, ("y", "index", "sum")),
    **{name: (*CASES[name], ("y",)) for name in ("crop", "runs of 3", "distances")},
    **{name: (*QUANTISED[name], ("y",))
       for name in ("gemm", "choice", "convolution, channels last", "concatenation",
                    "dynamic product and bias", "softmax of matrices", "sum with a row")},
}  # fmt: skip


@pytest.mark.parametrize("name", MODELS)
def test_the_exported_model_computes_the_same(name: str) -> None:
    op, operands, attributes, outputs = MODELS[name]
    source = lone(op, operands, outputs, **attributes)
    feeds = feeds_of(source, operands)
    graph = import_model(source)
    before = list(interpret(graph, feeds).values())
    run_passes(graph, OPTIMIZE[2])
    exported = export_model(graph)
    compare(list(interpret(import_model(exported), feeds).values()), before, 1e-4)
    compare(onnxruntime_gives(exported, feeds), before, 1e-3)
