"""Operators that are neither a row of the table nor a function of ONNX's: what takes them apart.

What is made are rows of the table, so that nothing else has to know of these operators.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import TypeAlias

from leptonc.ir.graph import Value
from leptonc.onnx_attention import ATTENTION
from leptonc.onnx_contrib import CONTRIB
from leptonc.onnx_gradient import DIFFERENTIATION
from leptonc.onnx_ml import ML
from leptonc.onnx_ngrams import NGRAMS
from leptonc.onnx_random import RANDOM
from leptonc.onnx_scope import Call
from leptonc.onnx_text import TEXT
from leptonc.onnx_training import TRAINING

Composition: TypeAlias = Callable[[Call], Sequence[Value | None] | None]

COMPOSED: Mapping[tuple[str, str], Composition] = MappingProxyType(
    {**ATTENTION, **CONTRIB, **DIFFERENTIATION, **ML, **NGRAMS, **RANDOM, **TEXT, **TRAINING}
)
"""By domain and name; None is given where the body that ONNX gives says it."""
