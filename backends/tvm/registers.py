# pyright: standard
"""Bindings inside expressions become local variables, so that generating code takes linear time."""

from __future__ import annotations

from typing import Any

import tvm
import tvm_ffi
from tvm.ir import Call, TensorLoad

from leptonc.backends.tvm.binding import PrimExpr, tirx

FEW = 3
"""So many bindings in one stored value stay as they are."""
TYPES = ("float32", "float64", "int32", "int64")


@tvm.tirx.transform.prim_func_pass(opt_level=0)
class BindingsToRegisters:
    """Every binding inside a stored value is stored first, in memory that LLVM makes a register.

    TVM's code generator analyses the value of each binding with the values of those before it put
    in for their variables, which takes exponential time in the length of a chain: a minute for 16
    bindings. It does not look through memory. Runs on vectorised, lowered functions.
    """

    def transform_function(self, function: Any, module: Any, context: Any) -> Any:
        """`function` without chains of bindings."""
        return function.with_body(_Registers().mutate(function.body))


class _Registers:
    def __init__(self) -> None:
        self.bindings: list[tuple[Any, PrimExpr]] = []

    def mutate(self, body: Any) -> Any:
        """The statement `body` with its stored values changed."""
        callbacks = [
            (tirx.BufferStore, self._store),
            (tirx.Let, self._let),
            (tirx.Select, self._select),
            (Call, self._call),
        ]
        return tvm_ffi.structural_mutate(body, callbacks)

    def _store(self, store: Any, mutator: Any) -> Any:
        outer, self.bindings = self.bindings, []
        value = mutator.mutate(store.value)
        found, self.bindings = self.bindings, outer
        if not found:
            return store
        if len(found) <= FEW:
            return tirx.BufferStore(store.buffer, _nested(found, value), store.indices)
        return _in_registers(found, store, value)

    def _let(self, let: Any, mutator: Any) -> Any:
        value = mutator.mutate(let.value)
        if not any(variable.same_as(let.var) for variable, _ in self.bindings):
            self.bindings.append((let.var, value))
        return mutator.mutate(let.body)

    def _select(self, select: Any, mutator: Any) -> Any:
        branches = (select.true_value, select.false_value)
        if not any(_loads(branch) for branch in branches):
            return mutator.default_mutate(select)
        condition = mutator.mutate(select.condition)
        return tirx.Select(condition, *(self._guarded(branch, mutator) for branch in branches))

    def _call(self, call: Any, mutator: Any) -> Any:
        if getattr(call.op, "name", "") not in ("prim.if_then_else", "tirx.if_then_else"):
            return mutator.default_mutate(call)
        if not any(_binds(arg) for arg in call.args):
            return call
        return tirx.if_then_else(*(self._guarded(arg, mutator) for arg in call.args))

    def _guarded(self, branch: PrimExpr, mutator: Any) -> PrimExpr:
        """A branch that may only be computed under its condition keeps its bindings inside."""
        outer, self.bindings = self.bindings, []
        value = mutator.mutate(branch)
        found, self.bindings = self.bindings, outer
        return _nested(found, value)


def _nested(bindings: list[tuple[Any, PrimExpr]], value: PrimExpr) -> PrimExpr:
    for variable, bound in reversed(bindings):
        value = tirx.Let(variable, bound, value)
    return value


def _binds(value: PrimExpr) -> bool:
    found: list[Any] = []
    tvm_ffi.structural_walk(value, (tirx.Let, lambda let: found.append(let)))
    return bool(found)


def _loads(value: PrimExpr) -> bool:
    found: list[Any] = []
    tvm_ffi.structural_walk(value, (TensorLoad, lambda load: found.append(load)))
    return bool(found)


def _in_registers(bindings: list[tuple[Any, PrimExpr]], store: Any, value: PrimExpr) -> Any:
    """Statements that store each bound value, and then `value`."""
    known: list[tuple[Any, PrimExpr]] = []
    kept: list[tuple[Any, PrimExpr]] = []

    def read(variable: Any) -> PrimExpr:
        return next((load for var, load in known if var.same_as(variable)), variable)

    def replaced(expression: PrimExpr) -> PrimExpr:
        return tvm_ffi.structural_map(expression, (tirx.Var, read))

    statements: list[Any] = []
    for variable, bound in bindings:
        dtype, _, lanes = str(variable.ty).partition("x")
        if dtype not in TYPES:
            kept.append((variable, replaced(bound)))
            continue
        count = int(lanes or 1)
        buffer = tirx.decl_buffer((count,), dtype, variable.name, data_alignment=64)
        index = tirx.const(0, "int32")
        at = [tirx.Ramp(index, tirx.const(1, "int32"), count) if count > 1 else index]
        statements.append(tirx.AllocBuffer(buffer))
        statements.append(tirx.BufferStore(buffer, _nested(kept, replaced(bound)), at))
        known.append((variable, tirx.BufferLoad(buffer, at)))
    last = tirx.BufferStore(store.buffer, _nested(kept, replaced(value)), store.indices)
    return tirx.SeqStmt([*statements, last])
