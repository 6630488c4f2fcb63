"""The last step of compiling: a library and a graph's weights put into one artefact."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from leptonc import __version__
from leptonc.ahead import made_ahead
from leptonc.backends.base import Backend, LibraryReport
from leptonc.ir.blob import Blob
from leptonc.ir.extension_text import extension_rows
from leptonc.ir.graph import Graph, Op, Value
from leptonc.ir.types import DType
from leptonc.manifest import (
    FOR_EACH,
    PRECISION,
    FunctionSpec,
    Manifest,
    TargetSpec,
    TensorSpec,
    WeightSpec,
)
from leptonc.runtime.host import available_threads
from leptonc.text_codes import Vocabulary
from leptonc.unnamed import Unnamed

if TYPE_CHECKING:
    from leptonc.driver import CompileReport, Options


def save_artifact(
    graph: Graph, library: Path, output: Path | Unnamed,
    backend: Backend, built: LibraryReport, options: Options,
    report: CompileReport, text: Vocabulary, tuning: Mapping[str, Any] | None = None,
) -> int:  # fmt: skip
    """Write the artefact; weights are packed on the way to the file, and not kept.

    `tuning` are the decisions of its kernels, and the circumstances that they are good for.
    """
    from leptonc.artifact_writer import write_artifact

    weights = list(weights_of(graph))
    functions, carried = functions_of(graph)
    manifest = Manifest(
        inputs=tuple(
            _spec(value, value.name, is_text=at in text.inputs)
            for at, value in enumerate(graph.inputs)
        ),
        outputs=tuple(
            _spec(value, name, is_text=at in text.outputs)
            for at, (value, name) in enumerate(zip(graph.outputs, graph.output_names, strict=True))
        ),
        words=text.words,
        tables=text.tables,
        weights=tuple(
            WeightSpec(op.result.name, str(op.result.type.dtype), op.result.type.extents)
            for op in weights
        ),
        target=TargetSpec(options.target.kind, backend.machine, backend.features),
        threads=options.threads,
        plan={
            "peak": built.planned_bytes,
            **{FOR_EACH + product: count for product, count in built.open_bytes.items()},
        },
        provenance={
            "model": graph.name,
            "level": options.level,
            "leptonc": __version__,
            **graph.metadata,
            **({"tuning": tuning} if tuning else {}),
            **({} if report.precision is None else {PRECISION: report.precision.as_json()}),
        },
        functions=functions,
    )
    report.weight_bytes = sum(weight.size for weight in manifest.weights)
    data = made_ahead([_blob(op).read for op in weights], available_threads())
    return write_artifact(output, manifest, library, data, carried)


def functions_of(graph: Graph) -> tuple[tuple[FunctionSpec, ...], list[bytes]]:
    """The C functions that operations call, and the libraries they are in, in their order."""
    functions: dict[str, FunctionSpec] = {}
    members: dict[str, tuple[str, bytes]] = {}
    for name, row in sorted(extension_rows(graph).items()):
        function = row.extension.function if row.extension is not None else None
        if function is None:
            continue
        new = f"operators{len(members)}.so", function.code
        member, _ = members.setdefault(function.library, new)
        spec = FunctionSpec(function.slot, function.symbol, member, name)
        functions.setdefault(function.slot, spec)
    return tuple(functions.values()), [code for _, code in members.values()]


def weights_of(graph: Graph) -> Sequence[Op]:
    """The constants that the library takes as parameters."""
    from leptonc.backends.tvm.weights import weights_of

    return weights_of(graph)


def _blob(op: Op) -> Blob:
    blob = op.result.blob
    assert blob is not None
    return blob


def _spec(value: Value, name: str, *, is_text: bool) -> TensorSpec:
    shape = tuple(dim if isinstance(dim, int) else str(dim) for dim in value.type.shape)
    return TensorSpec(name, str(DType.STR if is_text else value.type.dtype), shape)
