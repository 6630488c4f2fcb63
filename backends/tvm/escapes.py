# pyright: standard
"""Which memory of a lowered function is its own, so that a loop can use it again in each turn."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tvm import relax
from tvm.ir import Call, GlobalVar, Op, Tuple

Binding = Any
"""A Relax binding: a variable `var` and a `value`."""


def bindings_of(function: Any) -> Iterator[Binding]:
    """The bindings of a lowered function in order."""
    for block in function.body.blocks:
        yield from block.bindings


def operator(value: Any) -> str:
    """The name of what is called; empty for what is no call."""
    if not isinstance(value, Call):
        return ""
    function: Any = value.op
    if isinstance(value.op, Op):
        return str(function.name)
    return str(function.name_hint if isinstance(value.op, GlobalVar) else function.global_symbol)


def lasting(function: Any, read: int) -> set[Any]:
    """The variables of memory of a fixed size, and of tensors in it, that stay in the function.

    The first `read` results are looked at, but nobody keeps them.
    """
    memory: dict[Any, Any] = {}
    """The allocation behind each variable."""
    result = function.body.body
    fixed: set[Any] = set()
    escaped: set[Any] = set()
    for binding in bindings_of(function):
        var, value = binding.var, binding.value
        name = operator(value)
        if name == "relax.vm.alloc_storage":
            memory[var] = var
            if isinstance(value.args[0], relax.ShapeExpr):
                fixed.add(var)
        elif name in ("relax.vm.alloc_tensor", "vm.builtin.reshape"):
            memory[var] = memory.get(value.args[0])
            if isinstance(value.args[1 if name == "vm.builtin.reshape" else 2], relax.ShapeExpr):
                fixed.add(var)
        elif isinstance(value, relax.Var):
            memory[var] = memory.get(value)
        elif isinstance(value, Tuple):
            skipped = read if result.same_as(var) else 0
            escaped |= {memory.get(field) for field in list(value.fields)[skipped:]}
        elif isinstance(value, Call) and isinstance(value.op, GlobalVar):
            escaped |= {memory.get(argument) for argument in value.args}
    fields = list(result.fields)[read:] if isinstance(result, Tuple) else [result]
    escaped |= {memory.get(field) for field in fields}
    return {
        var for var, origin in memory.items()
        if var in fixed and origin in fixed and origin not in escaped
    }  # fmt: skip
