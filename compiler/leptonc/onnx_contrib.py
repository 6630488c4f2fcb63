"""Operators of com.microsoft that mean something in terms of ONNX's own: all of them by name."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from leptonc.onnx_contrib_attention import ATTENTION
from leptonc.onnx_contrib_blocks import BLOCKS
from leptonc.onnx_contrib_fused import FUSED
from leptonc.onnx_contrib_grouped import GROUPED
from leptonc.onnx_contrib_norm import NORMALIZATIONS
from leptonc.onnx_contrib_parts import MICROSOFT, Rule
from leptonc.onnx_contrib_quantized import QUANTIZED
from leptonc.onnx_contrib_recurrent import RECURRENT
from leptonc.onnx_contrib_various import VARIOUS

_FAMILIES = (
    ATTENTION, BLOCKS, FUSED, GROUPED, NORMALIZATIONS, QUANTIZED, RECURRENT, VARIOUS,
)  # fmt: skip

CONTRIB: Mapping[tuple[str, str], Rule] = MappingProxyType({
    ("", "SimplifiedLayerNormalization"): NORMALIZATIONS["SimplifiedLayerNormalization"],
    **{(MICROSOFT, name): rule for family in _FAMILIES for name, rule in family.items()},
})  # fmt: skip
"""Operators by domain and name, and what takes them apart."""
