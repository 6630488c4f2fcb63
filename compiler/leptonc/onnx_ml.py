"""ONNX's operators of classical machine learning (`ai.onnx.ml`), taken apart into rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TypeAlias

from leptonc.onnx_ml_scores import Results
from leptonc.onnx_ml_trees import TREES
from leptonc.onnx_scope import Call

Rule: TypeAlias = Callable[[Call], Results]

DOMAIN = "ai.onnx.ml"

ML: Mapping[tuple[str, str], Rule] = MappingProxyType(
    {(DOMAIN, name): rule for family in (TREES,) for name, rule in family.items()}
)
"""Operators by domain and name, and what takes them apart."""
