"""ONNX models in, better ones out: what `leptonc optimize` does; begin with `optimize_model`."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import onnx

from leptonc.driver import Progress, compute_ops, import_source, run_passes, silent
from leptonc.explain import explain, unused_inputs
from leptonc.extensions import Operator, known_operators
from leptonc.groups import Groups
from leptonc.ir.diagnostics import LeptonError, shown
from leptonc.ir.graph import Graph
from leptonc.onnx_compare import Comparison, Verdict, compare, runners_of
from leptonc.onnx_export import Exporter
from leptonc.onnx_export_older import ATTENTION_SINCE, spell_out
from leptonc.onnx_file import Source, read_model
from leptonc.onnx_kept import keep_descriptions, node_counts
from leptonc.onnx_kept_groups import keep_groups
from leptonc.onnx_ml_kept import kept_operators
from leptonc.onnx_opsets import BASE_OPSET, USUAL_OPSET
from leptonc.onnx_optimize_report import OptimizeReport
from leptonc.onnx_trials import sizes_that_run
from leptonc.onnx_write import ALWAYS, Layout, fill_all, write_model
from leptonc.passes.context import PassContext
from leptonc.passes.observers import Observer, Timer
from leptonc.passes.observers import Progress as PassProgress
from leptonc.pipelines import DEFAULT_LEVEL, PORTABLE, WRITE
from leptonc.selection import NOTHING, Selection, choose
from leptonc.stages import Stage, Stages, read_stage

__all__ = ["ALWAYS", "Layout", "OptimizeOptions", "OptimizeReport", "optimize_model"]


@dataclass(frozen=True)
class OptimizeOptions:
    """How to optimise."""

    level: int = DEFAULT_LEVEL
    pipeline: str | None = None
    """Passes in place of those of the level."""
    selection: Selection = NOTHING
    opset: int | None = None
    """The opset to write; None is the oldest, from the model's own and 13 on, with all it needs."""
    allow: frozenset[str] = frozenset()
    """Domains beside ONNX's own whose operators may be used where the model had none of them."""
    dims: Mapping[str, int] = field(default_factory=dict[str, int])
    trust_inferred: bool = False
    untrusted: bool = False
    comparison: Comparison | None = None
    """What to prove the result on; None leaves that out."""
    layout: Layout = field(default_factory=Layout)
    observers: Sequence[Observer] = ()
    verify_numbers: bool = False
    """Hold every pass to its numeric contract, by interpreting the graph around it."""
    dump_stages: Path | None = None
    """The folder for the graph as imported, after each pass that changed it and in the end."""
    from_stage: Path | None = None
    """A file of such a folder to go on from; docs and numbers are still those of the model."""
    progress: Progress = silent
    operators: Sequence[Operator] = ()


def optimize_model(
    source: Any, output: Path | None, options: OptimizeOptions | None = None
) -> OptimizeReport:
    """Rewrite a model into an equal, smaller one and write it to `output`, if there is one.

    The file appears when everything is done, the comparison included; before that, and where
    something fails, whatever is there under its name stays. So it may be the model's own file.
    """
    options = options or OptimizeOptions()
    start = time.perf_counter()
    options.progress("import", 0, 1)
    stage = _first_stage(source, options)
    graph = stage.graph
    original = _message(source, untrusted=options.untrusted)
    counts = node_counts(original) if original is not None else _row_counts(graph)
    options.progress("passes", 0, 1)
    timer = Timer()
    context = _optimized(stage, options, timer)
    options.progress("export", 0, 1)
    if options.opset is not None:
        if options.opset < ATTENTION_SINCE:
            run_passes(
                graph, "spell-attention,fold-constants{dequantize=false},eliminate-dead-code"
            )
        spell_out(graph, options.opset)
    exporter = Exporter(options.opset, oldest=_oldest(original), allow=options.allow)
    model = exporter.model(graph)
    if original is not None:
        keep_groups(model, original, Groups.of(graph.metadata))
        keep_descriptions(model, original)
    verdict = _written(source, output, options, graph, exporter, model)
    return OptimizeReport(
        model, explain(context), timer.timings, counts, node_counts(model),
        unused_inputs(graph), time.perf_counter() - start, verdict,
    )  # fmt: skip


def _oldest(original: onnx.ModelProto | None) -> int:
    """The opset that a result is written for where nothing newer is needed: the model's own.

    It is not newer than what most runtimes read, and not older than what operators look like now.
    """
    imports = original.opset_import if original is not None else ()
    versions = [item.version for item in imports if item.domain in ("", "ai.onnx")]
    return min(max([USUAL_OPSET, *versions]), BASE_OPSET) if versions else BASE_OPSET


def _imported(source: Any, options: OptimizeOptions) -> Graph:
    return import_source(
        source, options.dims, trust_inferred=options.trust_inferred,
        untrusted=options.untrusted, operators=_operators(source, options),
    )  # fmt: skip


def _operators(source: Any, options: OptimizeOptions) -> Sequence[Operator]:
    """What stays one operation: operators from outside, and those of classical machine learning."""
    return (*options.operators, *kept_operators(_message(source, untrusted=options.untrusted)))


def _message(source: Any, *, untrusted: bool) -> onnx.ModelProto | None:
    """The model as it was, large data left out; None where it is no ONNX model."""
    from leptonc.onnx_surgeon import is_surgeon_graph, message_of

    if isinstance(source, Graph) or str(source).endswith(".lir"):
        return None
    if is_surgeon_graph(source):
        source = message_of(source)
    return read_model(source, untrusted=untrusted).model


def _row_counts(graph: Graph) -> dict[str, int]:
    counts: dict[str, int] = {}
    for op in compute_ops(graph):
        form = op.definition.onnx
        name = op.name if form is None else form.name
        counts[name] = counts.get(name, 0) + 1
    return counts


def _first_stage(source: Any, options: OptimizeOptions) -> Stage:
    if options.from_stage is None:
        return Stage(_imported(source, options))
    known = known_operators(_operators(source, options))
    return read_stage(options.from_stage, known.by_name)


def _optimized(stage: Stage, options: OptimizeOptions, timer: Timer) -> PassContext:
    stages_of_level = filter(None, (PORTABLE[options.level], WRITE[options.level]))
    pipeline = ",".join(stages_of_level) if options.pipeline is None else options.pipeline
    if stage.remaining is not None and options.pipeline is None:
        pipeline = stage.remaining
    chosen = choose(pipeline, options.selection)
    stages = Stages(options.dump_stages)
    stages.write("imported", stage)
    observers = [timer, *options.observers, stages.after_each(stage, chosen.passes)]
    observers.append(PassProgress(options.progress, len(chosen.passes)))
    if options.verify_numbers:
        from leptonc.passes.check_numbers import CheckNumbers

        sizes = sizes_that_run(stage.graph)
        observers.append(CheckNumbers.on_random_inputs(stage.graph, sizes=sizes))
    context = run_passes(stage.graph, chosen.text, observers, disabled=chosen.disabled)
    stages.write("optimized", replace(stage, remaining=""))
    return context


def _written(
    source: Any, output: Path | None, options: OptimizeOptions,
    graph: Graph, exporter: Exporter, model: onnx.ModelProto,
) -> Verdict | None:  # fmt: skip
    """Give the model its data: in a file that appears at last, or in the message itself."""
    if output is None:
        fill_all(exporter.weights)
        if options.comparison is None:
            return None
        return _compared(source, model.SerializeToString(), options, options.comparison, graph)
    folder = Path(_made_folder(output))
    try:
        draft = folder / output.name
        write_model(model, exporter.weights, draft, options.layout)
        verdict = None
        if options.comparison is not None:
            verdict = _compared(source, draft, options, options.comparison, graph)
        _moved(draft, output)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return verdict


def _made_folder(output: Path) -> str:
    try:
        return tempfile.mkdtemp(prefix=".leptonc-", dir=output.parent)
    except OSError as error:
        raise _cannot_write(output, error) from error


def _moved(draft: Path, output: Path) -> None:
    """Move the model where it belongs, after the data beside it."""
    try:
        for file in draft.parent.iterdir():
            if file != draft:
                os.replace(file, output.with_name(file.name))
        os.replace(draft, output)
    except OSError as error:
        raise _cannot_write(output, error) from error


def _cannot_write(path: Path, error: OSError) -> LeptonError:
    reason = (error.strerror or str(error)).lower()
    return LeptonError(f"cannot write {shown(path)}: {reason}", code="E022")


def _compared(
    source: Any, result: Path | bytes, options: OptimizeOptions, comparison: Comparison,
    graph: Graph,
) -> Verdict:  # fmt: skip
    """How the result compares with the original; raises E504 where it is something else."""
    options.progress("check", 0, 1)

    def graphs() -> tuple[Graph, Graph]:
        lengths = {name: length or 0 for name, length in Groups.of(graph.metadata).inputs.items()}
        return _imported(source, options), import_source(
            result, lengths, operators=options.operators, trust_inferred=True
        )

    runners = runners_of(_runnable(source), result, graphs)
    verdict = compare(runners, graph, comparison)
    wrong = [item for item in verdict.deviations if not item.is_fine]
    if wrong:
        raise LeptonError(
            f"the optimised model gives other outputs than the original: {len(wrong)} of "
            f"{len(verdict.deviations)} are off",
            notes=[
                *(
                    f"{shown(item.output)} is off by {item.worst:.3g}, rounding explains "
                    f"{item.limit:.3g}"
                    for item in wrong[:10]
                ),
                f"computed with {verdict.runtime}; nothing was written",
                "--verify-numbers names the pass, --disable leaves out a pass or a rule",
            ],
            code="E504",
        )
    return verdict


def _runnable(source: Source | Any) -> Path | bytes | None:
    """What another runtime can load of a model; None where it is no ONNX model."""
    if isinstance(source, bytes):
        return source
    if isinstance(source, onnx.ModelProto):
        return source.SerializeToString()
    if isinstance(source, str | Path) and not str(source).endswith(".lir"):
        return Path(source)
    return None
