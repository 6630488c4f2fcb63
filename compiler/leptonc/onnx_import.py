"""ONNX models in: one function that gives a graph, or an error that lists all that is wrong.

The way of a model: the gate (`onnx_file`: is it whole, which versions), its functions counted
before they are expanded (`onnx_functions`), its inputs typed (`onnx_dims`), its nodes put in order
(`onnx_order`) and imported one by one (`onnx_nodes`): older forms are upgraded (`onnx_upgrade`,
`onnx_contrib`), subgraphs become regions (`onnx_control`), all else is one row of the table.

Files are read as onnx's messages and not as onnx-graphsurgeon's graphs, because those load typed
tensor fields at once, merge nodes by output name (so that a name defined twice goes unseen), and
spell two of the float8 types as others. A graph made there is taken all the same (`onnx_surgeon`).
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TypeAlias

from leptonc.ir.build import Builder
from leptonc.ir.diagnostics import LeptonError
from leptonc.ir.graph import Graph
from leptonc.ir.table import OpDef
from leptonc.onnx_boundary import add_inputs, check_outputs, groups_of
from leptonc.onnx_faults import FILE, Findings, error_of
from leptonc.onnx_file import OnnxFile, Source, read_model
from leptonc.onnx_forks import Forks, read_with_choices
from leptonc.onnx_functions import functions_of
from leptonc.onnx_limits import LIMITS, Limits
from leptonc.onnx_nodes import NodeImporter
from leptonc.onnx_scope import Scope
from leptonc.onnx_surgeon import is_surgeon_graph, message_of

Operators: TypeAlias = Mapping[tuple[str, str], OpDef]
"""Rows by ONNX domain and name."""

NO_OPERATORS: Operators = MappingProxyType({})


class ImportNotice(UserWarning):
    """Something in a model that is wrong, and that importing could do without."""


def import_model(
    source: Source,
    dims: Mapping[str, int | str] | None = None,
    *,
    trust_inferred: bool = False,
    untrusted: bool = False,
    folder: Path | None = None,
    limits: Limits = LIMITS,
    operators: Operators = NO_OPERATORS,
) -> Graph:
    """The graph of a model: a path, a file's content, a message, or a graph of onnx-graphsurgeon.

    `dims` gives sizes (or other names) to symbolic extents of the inputs. A declared output shape
    that contradicts the computed one is an error unless `trust_inferred`. `untrusted` reads data
    that would otherwise be mapped, and refuses hard links. `folder` is where the external data of
    a model lies that is no file. `operators` are rows beside those of the table, by ONNX domain
    and name. Constants are views of the file, read when first asked for.

    Raises one LeptonError that lists everything that is wrong.
    """
    if is_surgeon_graph(source):
        source = message_of(source)
    file = read_model(source, folder=folder, untrusted=untrusted)
    found = survey(
        file, dims or {}, trust_inferred=trust_inferred, limits=limits, operators=operators
    )
    if not found.is_complete:
        raise error_of(found.findings.faults)
    for notice in _summary(found.findings.notices):
        warnings.warn(notice, ImportNotice, stacklevel=2)
    return found.graph


@dataclass(frozen=True)
class Survey:
    """As much of a model as could be imported, and what is wrong with it."""

    graph: Graph
    findings: Findings

    @property
    def is_complete(self) -> bool:
        """True where the graph is the whole model."""
        return not self.findings.faults


def survey(
    file: OnnxFile,
    dims: Mapping[str, int | str],
    *,
    trust_inferred: bool,
    limits: Limits,
    operators: Operators = NO_OPERATORS,
) -> Survey:
    """Import as much of a model as can be. `operators` are rows beside those of the table."""

    def read(forks: Forks) -> Survey:
        return _read(file, dims, limits, operators, forks, trust_inferred=trust_inferred)

    return read_with_choices(read, lambda found: found.is_complete)


def _read(
    file: OnnxFile,
    dims: Mapping[str, int | str],
    limits: Limits,
    operators: Operators,
    forks: Forks,
    *,
    trust_inferred: bool,
) -> Survey:
    """Import as much of a model as can be, for some choices of branches."""
    model, findings = file.model, Findings()
    for index, fault in enumerate(file.faults):
        findings.add(fault, FILE, index)
    fixed = {item.name for item in model.graph.initializer}
    fixed |= {item.values.name for item in model.graph.sparse_initializer}
    inputs = [item for item in model.graph.input if item.name not in fixed]
    graph = Graph(model.graph.name, (), [item.name for item in model.graph.output])
    graph.metadata.update(_metadata(file))
    scope = Scope(Builder(graph), file.opsets)
    try:
        functions = functions_of(model, limits, findings)
        importer = NodeImporter(file, graph, functions, limits, findings, operators, forks)
        add_inputs(graph, scope, inputs, dims, limits, findings)
        outputs = importer.body(scope, model.graph)
        groups = groups_of(scope, inputs, model, outputs)
    except LeptonError as error:
        findings.add(error, FILE)
        return Survey(graph, findings)
    values = check_outputs(model, outputs, findings, trust_inferred=trust_inferred)
    if not findings.faults:
        graph.metadata.update(groups.describe())
        graph.output_names = tuple(name for name, _ in values)
        scope.build.return_(*(value for _, value in values))
    return Survey(graph, findings)


def _metadata(file: OnnxFile) -> dict[str, str]:
    model = file.model
    named = {
        "producer_name": model.producer_name,
        "producer_version": model.producer_version,
        "domain": model.domain,
        "model_version": str(model.model_version or ""),
        "doc_string": model.doc_string,
        "opset": str(file.opsets.get("", "")),
    }
    custom = {f"custom.{item.key}": item.value for item in model.metadata_props}
    return {key: value for key, value in (named | custom).items() if value}


def _summary(notices: Iterable[str]) -> list[str]:
    """At most one line for each kind of notice."""
    kinds: dict[str, list[str]] = {}
    for notice in notices:
        kinds.setdefault(notice.split("'")[0], []).append(notice)
    return [
        group[0] if len(group) == 1 else f"{group[0]} (and {len(group) - 1} more like it)"
        for group in kinds.values()
    ]
