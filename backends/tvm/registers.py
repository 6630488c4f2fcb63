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
Bindings = list[tuple[Any, PrimExpr]]


@tvm.tirx.transform.prim_func_pass(opt_level=0)
class FlattenBindings:
    """Every stored value has its bindings in front, each with a variable of its own.

    Inlining puts the same binding into one value several times, with the same variable for other
    elements even; TVM's vectoriser refuses that.
    """

    def transform_function(self, function: Any, module: Any, context: Any) -> Any:
        """`function` with flat bindings."""
        return function.with_body(_Flattening().mutate(function.body))


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


class _Flattening:
    def __init__(self) -> None:
        self.bindings: Bindings = []
        self.visible: Bindings = []
        """What is bound around the branch whose bindings are collected."""
        self.bound: Bindings = []
        """All bindings of the stored value, those of other branches as well."""
        self.renamed: Bindings = []

    def mutate(self, body: Any) -> Any:
        """The statement `body` with its stored values changed, and nothing else."""
        if not _contains(body, tirx.Let):  # most kernels; looking at each store takes long
            return body
        return tvm_ffi.structural_mutate(body, [(tirx.BufferStore, self._store)])

    def stored(self, store: Any, bindings: Bindings, value: PrimExpr) -> Any:
        """The statement that stores `value` behind `bindings`."""
        return tirx.BufferStore(store.buffer, nested(bindings, value), store.indices)

    def _store(self, store: Any, mutator: Any) -> Any:
        if not _contains(store.value, tirx.Let):
            return store
        self.bindings, self.visible, self.bound = [], [], []
        callbacks = [
            (tirx.Let, self._let),
            (tirx.Select, self._select),
            (Call, self._call),
            (tirx.Var, self._variable),
        ]
        value = tvm_ffi.structural_mutate(store.value, callbacks)
        return self.stored(store, self.bindings, value)

    def _let(self, let: Any, mutator: Any) -> Any:
        value = mutator.mutate(let.value)
        variable = let.var
        same = _find([*self.visible, *self.bindings], variable)
        if same is None or not tvm_ffi.structural_equal(same, value):
            if _find(self.bound, variable) is not None:
                variable = tirx.Var(variable.name, str(variable.ty))
            self.bindings.append((variable, value))
            self.bound.append((variable, value))
        self.renamed.append((let.var, variable))
        body = mutator.mutate(let.body)
        self.renamed.pop()
        return body

    def _variable(self, variable: Any, mutator: Any) -> Any:
        other = _find(self.renamed[::-1], variable)
        return variable if other is None else other

    def _select(self, select: Any, mutator: Any) -> Any:
        branches = (select.true_value, select.false_value)
        if not any(_contains(branch, TensorLoad) for branch in branches):
            return mutator.default_mutate(select)
        condition = mutator.mutate(select.condition)
        return tirx.Select(condition, *(self._guarded(branch, mutator) for branch in branches))

    def _call(self, call: Any, mutator: Any) -> Any:
        is_branch = getattr(call.op, "name", "") in ("prim.if_then_else", "tirx.if_then_else")
        if not is_branch or not any(_contains(arg, tirx.Let) for arg in call.args):
            return mutator.default_mutate(call)
        return tirx.if_then_else(*(self._guarded(arg, mutator) for arg in call.args))

    def _guarded(self, branch: PrimExpr, mutator: Any) -> PrimExpr:
        """A branch that may only be computed under its condition keeps its bindings inside."""
        visible, outer = self.visible, self.bindings
        self.visible, self.bindings = [*visible, *outer], []
        value = mutator.mutate(branch)
        found, self.bindings, self.visible = self.bindings, outer, visible
        return nested(found, value)


class _Registers(_Flattening):
    def stored(self, store: Any, bindings: Bindings, value: PrimExpr) -> Any:
        """Statements that store each bound value, and then `value`."""
        if len(bindings) <= FEW:
            return super().stored(store, bindings, value)
        known: Bindings = []
        kept: Bindings = []
        statements: list[Any] = []
        for variable, bound in bindings:
            dtype, _, lanes = str(variable.ty).partition("x")
            bound = _replaced(bound, known)
            if dtype not in TYPES:
                kept.append((variable, bound))
                continue
            buffer, at = _register(variable.name, dtype, int(lanes or 1))
            statements.append(tirx.AllocBuffer(buffer))
            statements.append(tirx.BufferStore(buffer, nested(kept, bound), at))
            known.append((variable, tirx.BufferLoad(buffer, at)))
        last = super().stored(store, kept, _replaced(value, known))
        return tirx.SeqStmt([*statements, last])


def _register(name: str, dtype: str, lanes: int) -> tuple[Any, list[Any]]:
    """Memory of one vector, and the index of all of it."""
    zero, one = tirx.const(0, "int32"), tirx.const(1, "int32")
    buffer = tirx.decl_buffer((lanes,), dtype, name, data_alignment=64)
    return buffer, [tirx.Ramp(zero, one, lanes) if lanes > 1 else zero]


def nested(bindings: Bindings, value: PrimExpr) -> PrimExpr:
    """`value` behind `bindings`, the first outermost."""
    for variable, bound in reversed(bindings):
        value = tirx.Let(variable, bound, value)
    return value


def _find(bindings: Bindings, variable: Any) -> PrimExpr | None:
    return next((value for known, value in bindings if known.same_as(variable)), None)


def _replaced(expression: PrimExpr, values: Bindings) -> PrimExpr:
    def read(variable: Any) -> PrimExpr:
        value = _find(values, variable)
        return variable if value is None else value

    return tvm_ffi.structural_map(expression, (tirx.Var, read))


def _contains(expression: Any, kind: Any) -> bool:
    found: list[Any] = []
    tvm_ffi.structural_walk(expression, (kind, lambda node: found.append(node)))
    return bool(found)
