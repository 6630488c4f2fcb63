"""The way from a model to an artefact, each stage one function; begin with `compile_model`."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from leptonc import __version__
from leptonc.assemble import save_artifact
from leptonc.backends.base import Backend, LibraryReport
from leptonc.backends.tvm.cache import Cache
from leptonc.extensions import known_operators
from leptonc.ir.diagnostics import LeptonError, shown
from leptonc.ir.graph import Graph, Op
from leptonc.ir.table import OpDef
from leptonc.precision import MeasurePrecision, PrecisionReport, check_precision
from leptonc.selection import NOTHING, Chosen, Selection, choose
from leptonc.stages import Stage, Stages, read_stage
from leptonc.targets import Target, backend_of
from leptonc.text_codes import Vocabulary, encode_text
from leptonc.tuning.options import NO_TUNING, TuningOptions
from leptonc.unnamed import Unnamed

if TYPE_CHECKING:
    from leptonc.extensions import Operator
    from leptonc.passes.context import PassContext
    from leptonc.passes.observers import Observer, Timing
    from leptonc.tuning.search import Decisions
    from leptonc.tuning.tune import TuningReport

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
    selection: Selection = NOTHING
    """Passes and rules to leave out."""
    cache_folder: Path | None = None
    observers: Sequence[Observer] = ()
    verify_numbers: bool = False
    """Hold every pass to its numeric contract, by interpreting the graph around it."""
    dump_stages: Path | None = None
    """The folder for the graph as imported, after each pass that changed it and as prepared."""
    from_stage: Path | None = None
    """A file of such a folder to go on from, in place of importing the model."""
    progress: Progress = silent
    isolated: bool = True
    """Build kernels in a process of their own."""
    operators: Sequence[Operator] = ()
    """Operators from outside, beside those that installed packages bring."""
    tuning: TuningOptions = NO_TUNING
    """Whether kernels are measured, or go by what was measured before."""


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
    open_bytes: Mapping[str, int] = field(default_factory=dict[str, int])
    """What is planned beside it: bytes for each unit of a product of extents."""
    artifact_bytes: int = 0
    context: PassContext | None = None
    timings: Sequence[Timing] = ()
    unused: tuple[str, ...] = ()
    """The inputs that nothing reads."""
    tuning: TuningReport | None = None
    """What was measured or taken over, where that was asked for."""
    precision: PrecisionReport | None = None
    """Which products are computed in less than fp32, where that was asked for."""

    @contextmanager
    def stage(self, name: str) -> Generator[None]:
        """Add the seconds spent inside under `name`."""
        start = time.perf_counter()
        yield
        self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - start


def compile_model(source: Any, output: Path | Unnamed, options: Options) -> CompileReport:
    """Compile `source` (path, bytes, ModelProto or Graph) and write the artefact to `output`.

    A Graph is changed in place. Raises LeptonError for whatever is wrong with the model, all
    unsupported operations at once.
    """
    report = CompileReport()
    backend = backend_of(options.target, options.threads, isolated=options.isolated)
    check_precision(options.precision, backend)
    stages = Stages(options.dump_stages)
    with report.stage("import"):
        options.progress("import", 0, 1)
        stage = first_stage(source, options)
    graph = stage.graph
    report.nodes_before = sum(1 for _ in compute_ops(graph))
    if stage.text is None:
        stages.write("imported", stage)
        stage = replace(stage, text=encode_text(graph))
    text = stage.text or Vocabulary()
    with report.stage("passes"):
        options.progress("passes", 0, 1)
        _run_stage(stage, options, backend, stages, report)
    decided = _tuned(stage, options, backend, report, text)
    with report.stage("prepare"):
        if not stage.is_prepared:
            backend.prepare(graph, decided.decisions if decided is not None else None)
    report.nodes_after = sum(1 for _ in compute_ops(graph))
    stages.write("prepared", Stage(graph, "", text, is_prepared=True))
    with tempfile.TemporaryDirectory(prefix="leptonc-") as folder:
        library = Path(folder) / "library.so"
        with report.stage("kernels"):
            built = backend.build(
                graph, library, cache_folder=options.cache_folder, progress=options.progress
            )
        with report.stage("artifact"):
            options.progress("artifact", 0, 1)
            report.artifact_bytes = save_artifact(
                graph, library, output, backend, built, options, report, text,
                decided.provenance if decided is not None else None,
            )  # fmt: skip
    report.kernels, report.compiled_kernels = built.kernels, built.compiled
    report.planned_bytes, report.open_bytes = built.planned_bytes, built.open_bytes
    return report


def _tuned(
    stage: Stage, options: Options, backend: Backend, report: CompileReport, text: Vocabulary
) -> TuningReport | None:
    """What is decided of the kernels by measuring, now or before; None where nobody asked."""
    if not options.tuning.is_asked:
        return None
    from leptonc.tuning.tune import TuningJob, tune

    def save(
        graph: Graph, library: Path, path: Path, built: LibraryReport, decisions: Decisions
    ) -> None:
        save_artifact(graph, library, path, backend, built, options, CompileReport(), text)

    isolated = backend_of(options.target, options.threads)
    passes = chosen_passes(options, backend).passes
    job = TuningJob(
        stage, isolated, options.tuning, save, options.cache_folder, passes, options.progress
    )
    with report.stage("tuning"):
        report.tuning = tune(job)
    return report.tuning


def import_source(
    source: Any,
    dims: Mapping[str, int],
    *,
    trust_inferred: bool = False,
    untrusted: bool = False,
    operators: Sequence[Operator] = (),
) -> Graph:
    """The graph of a model, or of textual IR in a .lir file; a graph is verified and given back."""
    if isinstance(source, Graph):
        from leptonc.ir.verify import verify

        verify(source)
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


def first_stage(source: Any, options: Options) -> Stage:
    """The imported model, or the stage to go on from."""
    if options.from_stage is not None:
        if options.dims:
            raise LeptonError(
                "extents cannot be fixed in a stage that was written before",
                notes=["fix them where the stages are written: --dim with --dump-stages"],
                code="E805",
            )
        return read_stage(options.from_stage, known_operators(options.operators).by_name)
    graph = import_source(
        source, options.dims, trust_inferred=options.trust_inferred,
        untrusted=options.untrusted, operators=options.operators,
    )  # fmt: skip
    return Stage(graph)


def _run_stage(
    stage: Stage, options: Options, backend: Backend, stages: Stages, report: CompileReport
) -> None:
    """Run the passes that are left to run on a stage, and note what they did."""
    from leptonc.explain import unused_inputs
    from leptonc.passes.observers import Progress as PassProgress
    from leptonc.passes.observers import Timer

    timer = Timer()
    chosen = chosen_passes(options, backend)
    if stage.remaining is not None and options.pipeline is None:
        chosen = replace(choose(stage.remaining), disabled=chosen.disabled)
    observers = [timer, *options.observers, stages.after_each(stage, chosen.passes)]
    observers.append(PassProgress(options.progress, len(chosen.passes)))
    kept = Cache(options.cache_folder, __version__)
    measured = MeasurePrecision(options.precision, cache=kept)
    if options.precision != "fp32":
        observers.append(measured)
        report.precision = measured.report
    if options.verify_numbers:
        from leptonc.passes.check_numbers import CheckNumbers

        observers.append(CheckNumbers.on_random_inputs(stage.graph))
    report.context = run_passes(
        stage.graph, chosen.text, observers, backend, disabled=chosen.disabled
    )
    report.timings, report.unused = timer.timings, unused_inputs(stage.graph)
    if not stage.is_prepared:
        stages.write("optimized", replace(stage, remaining=""))


def chosen_passes(options: Options, backend: Backend) -> Chosen:
    """The passes of the level and the target, or those asked for; then those that form groups."""
    from leptonc.pipelines import GROUP, OPTIMIZE, RESOLVE

    first = OPTIMIZE[options.level] if options.pipeline is None else options.pipeline
    last, group = backend.passes(options.level, options.precision), GROUP[options.level]
    left_out = backend.optional & {*options.selection.disable}
    after = choose(",".join(filter(None, (RESOLVE, last, group)))).passes
    after = [step for step in after if step.name not in left_out]
    chosen = choose(first, options.selection, ",".join(map(str, after)))
    return replace(chosen, passes=[*chosen.passes, *after])


def optimize_graph(graph: Graph, options: Options, backend: Backend) -> PassContext:
    """Run the passes of the level and the target, or those asked for; then form groups."""
    chosen = chosen_passes(options, backend)
    return run_passes(graph, chosen.text, options.observers, backend, disabled=chosen.disabled)


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
        limits = FusionLimits(**backend.fusion_limits)
    manager = PassManager(parse_pipeline(pipeline, Registry()), (VerifyEach(), *observers))
    return manager.run(graph, PassContext(facts={FusionLimits: limits}, disabled=disabled))


def compute_ops(graph: Graph) -> Iterator[Op]:
    """The operations that compute something, those inside groups instead of the groups."""
    return (op for op in graph.walk() if op.name not in ("const", "dims", "return", "group"))
