"""The way from a model to an artefact, each stage one function; begin with `compile_model`."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from leptonc import __version__
from leptonc.backends.base import Backend, LibraryReport
from leptonc.ir.diagnostics import LeptonError, shown
from leptonc.ir.extension_text import extension_rows
from leptonc.ir.graph import Graph, Op, Value
from leptonc.ir.table import OpDef
from leptonc.ir.text import print_graph
from leptonc.ir.types import DType
from leptonc.manifest import FunctionSpec, Manifest, TargetSpec, TensorSpec, WeightSpec
from leptonc.targets import Target, backend_of
from leptonc.text_codes import Vocabulary, encode_text

if TYPE_CHECKING:
    from leptonc.extensions import Operator
    from leptonc.passes.context import PassContext
    from leptonc.passes.observers import Observer

Progress = Callable[[str, int, int], None]


def silent(what: str, done: int, total: int) -> None:
    """Tell nobody."""


@dataclass(frozen=True)
class Options:
    """How to compile."""

    target: Target = field(default_factory=Target)
    level: int = 2
    precision: str = "fp32"
    dims: Mapping[str, int] = field(default_factory=dict[str, int])
    trust_inferred: bool = False
    """Go by what is computed where a model declares other shapes of its outputs."""
    untrusted: bool = False
    """Read a model's data instead of mapping it, and refuse hard links."""
    threads: int = 1
    pipeline: str | None = None
    """Passes in place of those of the level."""
    cache_folder: Path | None = None
    observers: Sequence[Observer] = ()
    dump_stages: Path | None = None
    progress: Progress = silent
    isolated: bool = True
    """Build kernels in a process of their own."""
    operators: Sequence[Operator] = ()
    """Operators from outside, beside those that installed packages bring."""


@dataclass
class CompileReport:
    """What happened: seconds by stage, and sizes in bytes."""

    seconds: dict[str, float] = field(default_factory=dict[str, float])
    nodes_before: int = 0
    nodes_after: int = 0
    kernels: int = 0
    compiled_kernels: int = 0
    weight_bytes: int = 0
    planned_bytes: int = 0
    has_open_extents: bool = False
    """Whether a run takes memory beside what is planned, as much as its sizes ask for."""
    artifact_bytes: int = 0
    context: PassContext | None = None

    @contextmanager
    def stage(self, name: str) -> Generator[None]:
        """Add the seconds spent inside under `name`."""
        start = time.perf_counter()
        yield
        self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - start


def compile_model(source: Any, output: Path, options: Options) -> CompileReport:
    """Compile `source` (path, bytes, ModelProto or Graph) and write the artefact to `output`.

    A Graph is changed in place. Raises LeptonError for whatever is wrong with the model, all
    unsupported operations at once.
    """
    report = CompileReport()
    backend = backend_of(options.target, options.threads, isolated=options.isolated)
    _check_precision(options.precision)
    with report.stage("import"):
        options.progress("import", 0, 1)
        graph = import_source(
            source, options.dims, trust_inferred=options.trust_inferred,
            untrusted=options.untrusted, operators=options.operators,
        )  # fmt: skip
    report.nodes_before = sum(1 for _ in compute_ops(graph))
    _dump(graph, options, "1-imported")
    text = encode_text(graph)
    with report.stage("passes"):
        options.progress("passes", 0, 1)
        report.context = optimize_graph(graph, options, backend)
    _dump(graph, options, "2-optimized")
    with report.stage("prepare"):
        backend.prepare(graph)
    report.nodes_after = sum(1 for _ in compute_ops(graph))
    _dump(graph, options, "3-prepared")
    with tempfile.TemporaryDirectory(prefix="leptonc-") as folder:
        library = Path(folder) / "library.so"
        with report.stage("kernels"):
            built = backend.build(
                graph, library, cache_folder=options.cache_folder, progress=options.progress
            )
        with report.stage("artifact"):
            options.progress("artifact", 0, 1)
            report.artifact_bytes = save_artifact(
                graph, library, output, backend, built, options, report, text
            )
    report.kernels, report.compiled_kernels = built.kernels, built.compiled
    report.planned_bytes = built.planned_bytes
    values = (*graph.inputs, *(value for op in graph.walk() for value in op.results))
    report.has_open_extents = not all(value.type.is_static for value in values)
    return report


def import_source(
    source: Any,
    dims: Mapping[str, int],
    *,
    trust_inferred: bool = False,
    untrusted: bool = False,
    operators: Sequence[Operator] = (),
) -> Graph:
    """The graph of a model, or of textual IR in a .lir file; a graph is given back as it is."""
    from leptonc.extensions import known_operators

    if isinstance(source, Graph):
        return source
    known = known_operators(operators)
    if isinstance(source, str | Path) and str(source).endswith(".lir"):
        return _read_text(Path(source), known.by_name)
    from leptonc.onnx_import import import_model

    return import_model(
        source, dims, trust_inferred=trust_inferred, untrusted=untrusted,
        operators=known.by_onnx_name,
    )  # fmt: skip


def _read_text(path: Path, rows: Mapping[str, OpDef]) -> Graph:
    """The verified graph of textual IR."""
    from leptonc.ir.text import parse_graph
    from leptonc.ir.verify import verify

    try:
        graph = parse_graph(path.read_text(encoding="utf-8"), str(path), rows=rows)
    except (OSError, UnicodeDecodeError) as problem:
        raise LeptonError(f"{shown(str(path))} cannot be read: {problem}", code="E806") from None
    verify(graph)
    return graph


def optimize_graph(graph: Graph, options: Options, backend: Backend) -> PassContext:
    """Run the passes of the level and the target, or those asked for; then form groups."""
    from leptonc.pipelines import GROUP, OPTIMIZE, RESOLVE

    chosen = OPTIMIZE[options.level] if options.pipeline is None else options.pipeline
    stages = [chosen, RESOLVE, backend.passes(options.level), GROUP[options.level]]
    text = ",".join(filter(None, stages))
    return run_passes(graph, text, options.observers, backend)


def run_passes(
    graph: Graph,
    pipeline: str,
    observers: Sequence[Observer] = (),
    backend: Backend | None = None,
    *,
    disabled: frozenset[str] = frozenset(),
) -> PassContext:
    """Run a pipeline, verifying after each pass; groups keep to what `backend` can hold.

    Rules whose names are `disabled` are not applied.
    """
    from leptonc.passes.base import parse_pipeline
    from leptonc.passes.context import PassContext
    from leptonc.passes.fusion.limits import FusionLimits
    from leptonc.passes.manager import PassManager
    from leptonc.passes.observers import VerifyEach
    from leptonc.passes.registry import Registry

    limits = FusionLimits()
    if backend is not None:
        limits = FusionLimits(opaque=backend.opaque)
    manager = PassManager(parse_pipeline(pipeline, Registry()), (VerifyEach(), *observers))
    return manager.run(graph, PassContext(facts={FusionLimits: limits}, disabled=disabled))


def compute_ops(graph: Graph) -> Iterator[Op]:
    """The operations that compute something, those inside groups instead of the groups."""
    return (op for op in graph.walk() if op.name not in ("const", "dims", "return", "group"))


def _check_precision(precision: str) -> None:
    if precision != "fp32":
        raise LeptonError(
            f"precision {shown(precision)} is not available",
            notes=["available: fp32 (the model's own types)"],
            code="E803",
        )


def save_artifact(
    graph: Graph, library: Path, output: Path,
    backend: Backend, built: LibraryReport, options: Options,
    report: CompileReport, text: Vocabulary,
) -> int:  # fmt: skip
    """Write the artefact; weights are packed one by one on the way to the file."""
    from leptonc.artifact import write_artifact

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
        target=TargetSpec(kind=options.target.kind, features=backend.features),
        threads=options.threads,
        plan={"peak": built.planned_bytes},
        provenance={
            "model": graph.name,
            "level": options.level,
            "leptonc": __version__,
            **graph.metadata,
        },
        functions=functions,
    )
    report.weight_bytes = sum(weight.size for weight in manifest.weights)
    return write_artifact(output, manifest, library, (_data(op) for op in weights), carried)


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


def _data(op: Op) -> Any:
    blob = op.result.blob
    assert blob is not None
    return blob.array


def _spec(value: Value, name: str, *, is_text: bool) -> TensorSpec:
    shape = tuple(dim if isinstance(dim, int) else str(dim) for dim in value.type.shape)
    return TensorSpec(name, str(DType.STR if is_text else value.type.dtype), shape)


def _dump(graph: Graph, options: Options, stage: str) -> None:
    """Write a stage as text where that was asked for."""
    if options.dump_stages is not None:
        options.dump_stages.mkdir(parents=True, exist_ok=True)
        (options.dump_stages / f"{stage}.lir").write_text(print_graph(graph, locations=True))
