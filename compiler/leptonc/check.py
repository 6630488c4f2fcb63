"""What of a model cannot be compiled: everything at once, by name, with what would help."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from leptonc.extensions import Operator, known_operators
from leptonc.ir.diagnostics import LeptonError
from leptonc.ir.graph import Graph, Op
from leptonc.onnx_faults import as_error
from leptonc.onnx_file import OnnxFile, Source, read_model
from leptonc.onnx_import import survey
from leptonc.onnx_limits import LIMITS, Limits, limits_table
from leptonc.shape_report import ShapeReport, shape_report
from leptonc.text_codes import NO_TEXT, encode_text, has_text, not_on_text

Reasons: TypeAlias = Callable[[Op], str]
"""Why a target cannot compile an operation; empty where it can."""

LEGALISE = (
    "fold-constants,scan-to-loop,count-turns,resolve-extents,fold-constants,eliminate-dead-code"
)
"""What every level runs: operations that it computes, drops or spells out need no kernel."""


@dataclass(frozen=True)
class Finding:
    """Nodes that cannot be compiled for one and the same reason."""

    op: str
    domain: str
    opset: int
    reason: str
    help: str
    nodes: tuple[str, ...]

    @property
    def count(self) -> int:
        """How many nodes there are."""
        return len(self.nodes)


@dataclass(frozen=True)
class CheckReport:
    """Whether a model compiles, and everything that is in the way."""

    findings: tuple[Finding, ...] = ()
    problems: tuple[LeptonError, ...] = ()
    """What is wrong with the model itself, not with its operators."""
    notices: tuple[str, ...] = ()
    """What is wrong and was done without."""
    opsets: Mapping[str, int] = field(default_factory=dict[str, int])
    nodes: int = 0
    """How many nodes were looked at, those of functions and subgraphs included."""
    faults: tuple[LeptonError, ...] = ()
    """Everything that keeps the model from being imported, one by one in its own order."""
    shapes: ShapeReport | None = None
    """What is known of the shapes, where that was asked for and anything could be imported."""

    @property
    def is_supported(self) -> bool:
        """True where nothing is in the way."""
        return not self.findings and not self.problems

    def as_json(self) -> dict[str, Any]:
        """The report as plain data."""
        shapes = {} if self.shapes is None else {"shapes": self.shapes.as_json()}
        return {
            "supported": self.is_supported,
            "opsets": {domain or "ai.onnx": version for domain, version in self.opsets.items()},
            "nodes": self.nodes,
            "unsupported": [
                {
                    "op": item.op, "domain": item.domain or "ai.onnx", "opset": item.opset,
                    "count": item.count, "nodes": list(item.nodes),
                    "reason": item.reason, "help": item.help,
                }
                for item in self.findings
            ],
            "problems": [error_json(error) for error in self.problems],
            "faults": [error_json(error) for error in self.faults],
            "notices": list(self.notices),
            **shapes,
        }  # fmt: skip


def error_json(error: LeptonError) -> dict[str, Any]:
    """An error as plain data."""
    return {
        "code": error.code, "message": error.message,
        "nodes": list(error.location.nodes), "notes": list(error.notes),
    }  # fmt: skip


def check_model(
    source: Source,
    target_reasons: Reasons,
    dims: Mapping[str, int | str] | None = None,
    *,
    trust_inferred: bool = False,
    untrusted: bool = False,
    limits: Limits = LIMITS,
    shapes: bool = False,
    operators: Sequence[Operator] = (),
) -> CheckReport:
    """Hold a model against the importer and a target; nothing is compiled.

    Where part of a model cannot be imported, the target is asked about the rest all the same.
    With `shapes` the report has the type of every value. `operators` are known beside leptonc's
    own and those of installed packages.
    """
    opsets: Mapping[str, int] = {}
    try:
        file = read_model(source, untrusted=untrusted)
        opsets = file.opsets
        rows = known_operators(operators).by_onnx_name
        survey_of = survey(
            file, dims or {}, trust_inferred=trust_inferred, limits=limits, operators=rows
        )
    except LeptonError as error:
        return CheckReport(problems=(error,), opsets=opsets, faults=(error,))
    graph, found = survey_of.graph, survey_of.findings
    told = shape_report(graph) if shapes else None
    groups: dict[tuple[str, str, int, str, str], list[str]] = {}
    for item in found.unsupported:
        key = (item.op_type, item.domain, item.opset, item.reason, item.help)
        groups.setdefault(key, []).append(item.node)
    text, refused = not_on_text(graph), list[LeptonError]()
    for op in text:
        groups.setdefault(_key(op, NO_TEXT, file), []).append(", ".join(op.location.nodes))
    if survey_of.is_complete:
        try:
            if not text:
                encode_text(graph)
            _legalise(graph)
        except LeptonError as error:
            refused.append(error)
    for op in _computing(graph):
        reason = target_reasons(op)
        if reason and not has_text(op):  # what text is not for has been told
            groups.setdefault(_key(op, reason, file), []).append(", ".join(op.location.nodes))
    return CheckReport(
        tuple(Finding(op, domain, opset, reason, help, tuple(names))
              for (op, domain, opset, reason, help), names in groups.items()),
        (*found.problems, *refused),
        tuple(found.notices),
        opsets,
        found.nodes,
        (*(as_error(fault) for fault in found.faults), *refused),
        told,
    )  # fmt: skip


def _key(op: Op, reason: str, file: OnnxFile) -> tuple[str, str, int, str, str]:
    form = op.definition.onnx
    name, domain = (form.name, form.domain) if form is not None else (op.name, "")
    help = "compile for another target, or export the model without it"
    return name, domain, file.opsets.get(domain, 1), reason, help


def _computing(graph: Graph) -> list[Op]:
    return [op for op in graph.walk() if op.name not in ("const", "dims", "return", "group")]


def _legalise(graph: Graph) -> None:
    from leptonc.driver import run_passes

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        run_passes(graph, LEGALISE)


def limit_table(limits: Limits = LIMITS) -> list[tuple[str, str]]:
    """Each limit that models are held to, with its meaning, and its value as text."""
    return [(f"{name} ({meaning})", str(value)) for name, value, meaning in limits_table(limits)]
