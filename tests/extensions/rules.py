# pyright: standard
"""Code for operators, right and wrong."""

from __future__ import annotations

from typing import Any

from tvm import te


def double(op: Any, operands: list[Any]) -> Any:
    """Twice the element."""
    return operands[0] + operands[0]


def raising(op: Any, operands: list[Any]) -> Any:
    """Nothing."""
    raise KeyError("no such thing")


def copied(call: Any) -> Any:
    """The operand once more."""
    return te.compute(call.shape(), lambda *index: call[0](*index), name="copied")


def two(call: Any) -> Any:
    """One tensor too many."""
    return [copied(call), copied(call)]


def integers(call: Any) -> Any:
    """Another element type."""
    return te.compute(call.shape(), lambda *index: call[0](*index).astype("int32"), name="ints")


def no_tensor(call: Any) -> Any:
    """A number."""
    return [1]
