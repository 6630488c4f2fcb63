"""leptonc inspect."""

from __future__ import annotations

from collections import Counter
from typing import Any, cast

import click

from leptonc.cli.console import bytes_text, emit_json, table
from leptonc.cli.options import json_option


@click.command("inspect")
@click.argument("file", type=click.Path(dir_okay=False))
@click.option("--ir", is_flag=True, help="Print a model's operations as text.")
@json_option
def command(*, file: str, ir: bool, as_json: bool) -> None:
    """Show what FILE, an artefact or a model, takes, gives, holds and comes from.

    \b
    leptonc inspect model.lepton
    leptonc inspect model.onnx --ir
    """
    from leptonc.artifact_reader import is_artifact

    if not is_artifact(file):
        _inspect_model(file, ir=ir, as_json=as_json)
        return
    from leptonc.artifact import Artifact
    from leptonc.manifest import PRECISION
    from leptonc.precision import rows_of

    with Artifact.open(file) as artifact:
        manifest = artifact.manifest
        document: dict[str, Any] = {
            "inputs": {spec.name: str(spec) for spec in manifest.asked},
            "outputs": {spec.name: str(spec) for spec in manifest.outputs},
            "target": {"kind": manifest.target.kind, "features": list(manifest.target.features)},
            "threads": manifest.threads or "all that may be used",
            "weights": {
                "count": len(manifest.weights),
                "bytes": sum(weight.size for weight in manifest.weights),
            },
            "functions": {
                item.operator: f"{item.symbol} of {item.member}" for item in manifest.functions
            },
            "plan": dict(manifest.plan),
            "library bytes": len(artifact.library),
            "file bytes": artifact.size,
            "digest": artifact.digest,
            "provenance": dict(manifest.provenance),
            "decisions": {},
        }
        tuning = document["provenance"].pop("tuning", None)
        if isinstance(tuning, dict):
            document["decisions"] = cast("dict[str, Any]", tuning).get("decisions", {})
        report = document["provenance"].pop(PRECISION, None)
        if isinstance(report, dict):
            told = cast("dict[str, Any]", report)
            document["precision"] = told if as_json else dict(rows_of(told))
    _print(file, document, as_json=as_json)


def _inspect_model(file: str, *, ir: bool, as_json: bool) -> None:
    from leptonc.driver import compute_ops, import_source
    from leptonc.ir.text import print_graph

    graph = import_source(file, {})
    if ir:
        click.echo(print_graph(graph, locations=True), nl=False)
        return
    constants = [op.result.blob for op in graph.walk() if op.name == "const"]
    kinds = Counter(op.name for op in compute_ops(graph))
    document = {
        "inputs": {value.name: str(value.type) for value in graph.inputs},
        "outputs": {
            name: str(value.type)
            for name, value in zip(graph.output_names, graph.outputs, strict=True)
        },
        "constants": {
            "count": len(constants),
            "bytes": sum(
                blob.size * blob.type.dtype.bits // 8 for blob in constants if blob is not None
            ),
        },
        "operations": dict(kinds.most_common()),
        "metadata": dict(graph.metadata),
    }
    _print(file, document, as_json=as_json)


def _print(file: str, document: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        emit_json(document)
        return
    rows: list[tuple[str, str]] = []
    for key, value in document.items():
        if isinstance(value, dict):
            entries = cast("dict[str, Any]", value)
            rows += [(f"{key}: {name}", _text(name, item)) for name, item in entries.items()]
        else:
            rows.append((key, _text(key, value)))
    table(file, ("", ""), rows)


def _text(name: str, value: Any) -> str:
    if isinstance(value, int) and ("bytes" in name or name == "peak"):
        return bytes_text(value)
    return ", ".join(map(str, cast("list[Any]", value))) if isinstance(value, list) else str(value)
