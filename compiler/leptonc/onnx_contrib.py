"""Fused operators that onnxruntime's tools write, taken apart into ONNX's own.

Where the table has a row for one of them, the row is used instead.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import TypeAlias

import numpy as np

from leptonc.ir.diagnostics import LeptonError, shown
from leptonc.ir.graph import Attribute, Value
from leptonc.ir.table import op_named
from leptonc.onnx_attributes import fit
from leptonc.onnx_contrib_quantized import QUANTIZED
from leptonc.onnx_scope import Call

Results: TypeAlias = "Sequence[Value | None]"
Rule: TypeAlias = Callable[[Call], Results]

MICROSOFT = "com.microsoft"


def _as_row(name: str) -> Rule:
    """The operator of another domain that means what a row means."""

    def rule(call: Call) -> Results:
        row = op_named(name)
        assert row is not None
        present = [
            (value, operand.name)
            for value, operand in zip(call.operands, row.operands, strict=False)
            if value is not None
        ]
        values, names = [value for value, _ in present], [label for _, label in present]
        return call.build.op(row, values, fit(row, call.attributes), names=names).results

    return rule


def _skip_normalization(call: Call) -> Results:
    """Normalises a sum and gives the sum as fourth result."""
    simplified = call.op_type == "SkipSimplifiedLayerNormalization"
    build = call.build
    total = build.add(call.required(0), call.required(1))
    bias = call.operand(3 if simplified else 4)
    if bias is not None:
        total = build.add(total, bias)
    epsilon = call.take("epsilon", "float", 1e-12)
    if simplified:
        values = [total, call.required(2)]
        return [
            build.op("rms_normalization", values, {"epsilon": epsilon}).results[0],
            None,
            None,
            total,
        ]
    shift = call.operand(3)
    values = [total, call.required(2), *([] if shift is None else [shift])]
    normal = build.op("layer_normalization", values, {"epsilon": epsilon}).results
    return [*normal, *[None] * (3 - len(normal)), total]


def _embed_layer_normalization(call: Call) -> Results:
    build = call.build
    ids, segments = call.required(0), call.operand(1)
    words, places, kinds = call.required(2), call.required(3), call.operand(4)
    if call.wants(1) and call.operand(7) is not None:
        raise LeptonError("EmbedLayerNormalization with a mask index is not supported", code="E013")
    place_ids = call.operand(8)
    if place_ids is None:
        length = build.gather(build.shape(ids), build.const(np.array([1])), axis=0)
        zero = build.const(np.array([0]))
        place = build.slice(places, zero, length, axes=zero)
    else:
        place = build.gather(places, place_ids)
    total = build.add(build.gather(words, ids), place)
    if segments is not None and kinds is not None:
        total = build.add(total, build.gather(kinds, segments))
    attrs = {"epsilon": call.take("epsilon", "float", 1e-12)}
    values = [total, call.required(5), call.required(6)]
    normal = build.op("layer_normalization", values, attrs).results[0]
    return [normal, None, total]


def _activated(call: Call, value: Value) -> Value:
    """`value` after the activation that a fused operator names in its attributes."""
    name = call.take("activation", "str", "")
    numbers = [*call.take("activation_params", "floats", ())]
    given = [call.take(f"activation_{part}", "float") for part in ("alpha", "beta", "gamma")]
    numbers += [number for number in given if number is not None]
    build = call.build
    if name in ("", "Relu", "Sigmoid", "Tanh", "Softplus", "Softsign"):
        row = {"": "identity"}.get(name, name.lower())
        return value if not name else build.op(row, [value]).result
    if name in ("LeakyRelu", "Elu"):
        row = "leaky_relu" if name == "LeakyRelu" else "elu"
        return build.op(row, [value], {"alpha": numbers[0]} if numbers else {}).result
    if name == "HardSigmoid":
        attrs: dict[str, Attribute] = dict(zip(("alpha", "beta"), numbers, strict=False))
        return build.op("hard_sigmoid", [value], attrs).result
    if name == "Clip" and len(numbers) == 2:
        low, high = (build.const(np.array(n, value.type.dtype.numpy)) for n in numbers)
        return build.clip(value, low, high)
    raise LeptonError(f"the activation {shown(name)} is not supported", code="E013")


def _fused_conv(call: Call) -> Results:
    addend = call.operand(3)
    del call.operands[3:]
    result = _without_activation(call, "conv")
    return [_activated(call, result if addend is None else call.build.add(result, addend))]


def _fused_gemm(call: Call) -> Results:
    return [_activated(call, _without_activation(call, "gemm"))]


def _without_activation(call: Call, row: str) -> Value:
    """The result of `row`; of the attributes only those of the activation are left."""
    rest = {k: v for k, v in call.attributes.items() if k.startswith("activation")}
    for name in rest:
        del call.attributes[name]
    (result,) = _as_row(row)(call)
    assert result is not None
    call.attributes = rest
    return result


CONTRIB: Mapping[tuple[str, str], Rule] = MappingProxyType({
    (MICROSOFT, "LayerNormalization"): _as_row("layer_normalization"),
    ("", "SimplifiedLayerNormalization"): _as_row("rms_normalization"),
    (MICROSOFT, "SimplifiedLayerNormalization"): _as_row("rms_normalization"),
    (MICROSOFT, "SkipLayerNormalization"): _skip_normalization,
    (MICROSOFT, "SkipSimplifiedLayerNormalization"): _skip_normalization,
    (MICROSOFT, "EmbedLayerNormalization"): _embed_layer_normalization,
    (MICROSOFT, "FusedConv"): _fused_conv,
    (MICROSOFT, "FusedGemm"): _fused_gemm,
    (MICROSOFT, "QuantizeLinear"): _as_row("quantize_linear"),
    (MICROSOFT, "DequantizeLinear"): _as_row("dequantize_linear"),
    (MICROSOFT, "Trilu"): _as_row("trilu"),
    **{(MICROSOFT, name): rule for name, rule in QUANTIZED.items()},
})  # fmt: skip
"""Operators by domain and name, and what takes them apart."""
