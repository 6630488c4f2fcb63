"""ONNX's operators of classical machine learning (`ai.onnx.ml`), taken apart into rows."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from leptonc.onnx_ml_encode import ENCODE
from leptonc.onnx_ml_ensembles import ENSEMBLES
from leptonc.onnx_ml_linear import LINEAR
from leptonc.onnx_ml_scores import Rule
from leptonc.onnx_ml_svm import SVM
from leptonc.onnx_ml_trees import TREES

DOMAIN = "ai.onnx.ml"

ML: Mapping[tuple[str, str], Rule] = MappingProxyType({
    (DOMAIN, name): rule
    for family in (ENCODE, ENSEMBLES, LINEAR, SVM, TREES)
    for name, rule in family.items()
})  # fmt: skip
"""Operators by domain and name, and what takes them apart."""
