"""Fused operators that onnxruntime's tools write, taken apart into ONNX's own.

Where the table has a row for one of them, the row is used instead.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import TypeAlias

from leptonc.ir.graph import Value
from leptonc.onnx_scope import Call

Rule: TypeAlias = Callable[[Call], "Sequence[Value]"]

CONTRIB: Mapping[tuple[str, str], Rule] = MappingProxyType({})
