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


def lasting(function: Any) -> set[Any]:
    """The variables of memory of a fixed size, and of tensors in it, that stay in the function."""
    memory: dict[Any, Any] = {}
    """The allocation behind each variable."""
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
            if name == "vm.builtin.reshape" or isinstance(value.args[2], relax.ShapeExpr):
                fixed.add(var)
        elif isinstance(value, relax.Var):
            memory[var] = memory.get(value)
        elif isinstance(value, Tuple):
            escaped |= {memory.get(field) for field in value.fields}
        elif isinstance(value, Call) and isinstance(value.op, GlobalVar):
            escaped |= {memory.get(argument) for argument in value.args}
    result = function.body.body
    escaped |= {memory.get(v) for v in (result.fields if isinstance(result, Tuple) else [result])}
    return {
        var for var, origin in memory.items()
        if var in fixed and origin in fixed and origin not in escaped
    }  # fmt: skip
