"""Rows from other packages as plain data, for the process that builds kernels."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from leptonc.ir.diagnostics import LeptonBug
from leptonc.ir.extension import CFunction, Extension
from leptonc.ir.graph import Attribute, Graph
from leptonc.ir.table import Attr, Inference, OpDef, Operand, Trait
from leptonc.ir.types import TensorType


def extension_rows(graph: Graph) -> dict[str, OpDef]:
    """The rows of other packages that a graph uses, by name."""
    return {op.name: op.definition for op in graph.walk() if op.definition.extension is not None}


def identities(graph: Graph) -> dict[str, str]:
    """What tells the code of those rows from other code, by name."""
    rows = sorted(extension_rows(graph).items())
    return {name: row.extension.identity for name, row in rows if row.extension is not None}


def calls_python(graph: Graph) -> bool:
    """True where expressions or rules of other packages make kernels of the graph."""
    extensions = [row.extension for row in extension_rows(graph).values()]
    return any(item is not None and bool(item.scalar or item.rule) for item in extensions)


def described(row: OpDef) -> dict[str, Any]:
    """All of a row that is needed to make kernels."""
    extension = row.extension
    assert extension is not None
    function = extension.function
    return {
        "name": row.name,
        "operands": [
            [item.name, item.optional, item.variadic, item.shape_like] for item in row.operands
        ],
        "attrs": {
            name: [attr.kind, attr.default, attr.required] for name, attr in row.attrs.items()
        },
        "traits": sorted(trait.name for trait in row.traits),
        "scalar": extension.scalar, "rule": extension.rule, "digest": extension.digest,
        "function": None if function is None else [function.library, function.symbol],
    }  # fmt: skip


def restored(description: Mapping[str, Any]) -> OpDef:
    """The row that `described` described; its types and its meaning are not at hand."""
    function = description["function"]
    return OpDef(
        name=description["name"],
        operands=tuple(
            Operand(name, optional=optional, variadic=variadic, shape_like=shape_like)
            for name, optional, variadic, shape_like in description["operands"]
        ),
        infer=_unknown,
        evaluate=None,
        attrs={
            name: Attr(kind, _default(default), required)
            for name, (kind, default, required) in description["attrs"].items()
        },
        traits=frozenset(Trait[name] for name in description["traits"]),
        extension=Extension(
            description["scalar"], description["rule"],
            None if function is None else CFunction(*function), description["digest"],
        ),
    )  # fmt: skip


def _default(value: Any) -> Attribute:
    items: Any = value
    return tuple(items) if isinstance(value, list) else items


def _unknown(call: Inference) -> TensorType:
    raise LeptonBug(f"{call.definition.name} is typed where its package is not at hand")
