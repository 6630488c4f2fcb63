"""Lowering of the nn family."""

from __future__ import annotations

from leptonc.backends.tvm.lowering import Reason, Rule

RULES: dict[str, Rule] = {}
REASONS: dict[str, Reason] = {}
