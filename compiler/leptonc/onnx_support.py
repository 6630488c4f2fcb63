"""What can be imported at all, and what is said of the rest."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from functools import cache
from types import MappingProxyType

import onnx

from leptonc.ir.diagnostics import shown
from leptonc.ir.table import OpDef, all_ops
from leptonc.onnx_composed import COMPOSED
from leptonc.onnx_control import CONTROL
from leptonc.onnx_functions import Key, has_body, schema_of
from leptonc.onnx_limits import OLDEST_OPSET
from leptonc.onnx_refused import REFUSED
from leptonc.onnx_sequence import SEQUENCE
from leptonc.onnx_upgrade import RENAMED


@cache
def rows_by_onnx_name() -> Mapping[tuple[str, str], OpDef]:
    """The rows by ONNX domain and name."""
    rows: dict[tuple[str, str], OpDef] = {}
    for row in all_ops().values():
        if row.onnx is not None:
            rows.setdefault((row.onnx.domain, row.onnx.name), row)
    return MappingProxyType(rows)


def why_not(key: Key, opset: int, more: Collection[tuple[str, str]] = ()) -> tuple[str, str] | None:
    """Why there is no way to import an operator, and what would help; None where there is one.

    `more` are operators that other packages bring, by domain and name.
    """
    domain, op_type, _ = key
    if not domain and opset < OLDEST_OPSET and _changed(op_type, opset):
        return (
            f"its form of opset {opset} is too old, those since opset {OLDEST_OPSET} are imported",
            "onnx.version_converter.convert_version(model, 13) may bring the model up to date",
        )
    name, rows = (domain, op_type), rows_by_onnx_name()
    known = (more, rows, COMPOSED, CONTROL, SEQUENCE)
    if any(name in table for table in known):
        return None
    if not domain and (op_type == "Constant" or ("", RENAMED.get(op_type, "")) in rows):
        return None
    if name in REFUSED:
        return REFUSED[name]
    newest = opset if domain else onnx.defs.onnx_opset_version()
    schema = schema_of(op_type, domain, newest)
    if schema is not None and not schema.deprecated:
        if has_body(schema):
            return None
        return (
            "leptonc does not have this operator",
            "export the model without it, or as a local function of operators that it has",
        )
    if schema_of(op_type, domain, opset) is not None:
        return "later opsets dropped this operator", "export the model for a newer opset"
    if domain in ("", "ai.onnx.ml"):
        return (
            "ONNX has no operator of this name",
            "if it is your own, export it as a local function of the model",
        )
    return (
        f"operators of the domain {shown(domain)} are not known",
        "install the package that brings them, or give the model a local function of this name",
    )


def _changed(op_type: str, opset: int) -> bool:
    """True for an operator of ONNX's own that is another one in the oldest opset upgraded."""
    old, new = schema_of(op_type, "", opset), schema_of(op_type, "", OLDEST_OPSET)
    return old is not None and (new is None or old.since_version != new.since_version)
