# pyright: standard
"""The expressions and rules that other packages bring for their operations."""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable, Sequence
from typing import Any

from tvm import te

from leptonc.backends.tvm.lowering import TVM_DTYPE, LowerCall
from leptonc.ir.diagnostics import LeptonError
from leptonc.ir.dims import symbols
from leptonc.ir.extension import ABI_DTYPE, Extension
from leptonc.ir.graph import Op
from leptonc.ir.table import Trait


def resolve(reference: str, op: str) -> Callable[..., Any]:
    """The function that ``module:function`` names; raises E812 where there is none."""
    module, _, name = reference.partition(":")
    try:
        found = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise LeptonError(
            f"the code of operator {op} is not at {reference}: {error}",
            notes=["name a function at the top of a module that can be imported"],
            code="E812",
        ) from None
    return found


def extension_reason(op: Op, extension: Extension) -> str:
    """Why an operation of another package cannot be compiled; empty if it can."""
    reference = extension.scalar or extension.rule
    unbound = _unbound(op)
    if unbound:
        names = ", ".join(sorted(unbound))
        return f"the sizes {names} of its results do not follow from those of its operands"
    if extension.function is not None:
        return _function_reason(op)
    if not reference:
        return f"{op.name} has neither an expression nor a rule nor a C function"
    try:
        resolve(reference, op.name)
    except LeptonError as error:
        return error.message
    return ""


def _unbound(op: Op) -> set[str]:
    """The symbols of the results that this operation made up."""
    free = {name for value in op.results for dim in value.type.shape for name in symbols(dim)}
    for value in op.operands:
        content = [] if value.content is None else value.content.reshape(-1)
        free -= {name for dim in (*value.type.shape, *content) for name in symbols(dim)}
    return {name for name in free if re.fullmatch(r"u\d+_", name)}


def _function_reason(op: Op) -> str:
    for value in (*op.operands, *op.results):
        if value.type.dtype not in ABI_DTYPE:
            return f"C functions take no tensors of element type {value.type.dtype}"
    return ""


def lower_extension(call: LowerCall, extension: Extension) -> list[Any]:
    """The results of an operation by the rule of its package; raises E812 where it goes wrong."""
    op = call.op
    rule = resolve(extension.rule, op.name)
    try:
        made = rule(call)
    except LeptonError:
        raise
    except Exception as problem:
        raise _wrong(op, f"raised {type(problem).__name__}: {problem}") from problem
    results: Sequence[Any] = [made] if isinstance(made, te.Tensor) else list(made)
    if len(results) != len(op.results):
        raise _wrong(op, f"gave {len(results)} tensors, should give {len(op.results)}")
    for tensor, value in zip(results, op.results, strict=True):
        if not isinstance(tensor, te.Tensor):
            raise _wrong(op, f"gave {type(tensor).__name__}, should give tensors")
        if str(tensor.dtype) != TVM_DTYPE[value.type.dtype] or tensor.ndim != value.type.rank:
            got = f"{tensor.dtype} of {tensor.ndim} dimensions"
            raise _wrong(op, f"gave {got}, should give {value.type}")
    return list(results)


def _wrong(op: Op, what: str) -> LeptonError:
    extension = op.definition.extension
    reference = "" if extension is None else extension.rule or extension.scalar
    return LeptonError(
        f"the code of operator {op.name} at {reference} {what}", op.location, code="E812"
    )


def is_elementwise(op: Op) -> bool:
    """True where an expression says each element of the operation's result."""
    extension = op.definition.extension
    return extension is not None and bool(extension.scalar) and op.definition.has(Trait.ELEMENTWISE)


def extension_scalar(op: Op, operands: Sequence[Any]) -> Any:
    """One element of the result by the expression of its package."""
    extension = op.definition.extension
    assert extension is not None
    function = resolve(extension.scalar, op.name)
    try:
        return function(op, list(operands))
    except LeptonError:
        raise
    except Exception as problem:
        raise _wrong(op, f"raised {type(problem).__name__}: {problem}") from problem
