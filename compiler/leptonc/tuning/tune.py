"""From an optimised graph to the decisions of its kernels: measured now, or taken over."""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from leptonc.backends.base import Backend, Progress, ShortList
from leptonc.ir.diagnostics import LeptonError, shown
from leptonc.passes.base import Pass
from leptonc.stages import Stage
from leptonc.tuning.child import write_inputs
from leptonc.tuning.database import Database, Record, TuningNotice
from leptonc.tuning.network import NetworkTrials, Save
from leptonc.tuning.options import TuningOptions
from leptonc.tuning.search import Outcome, Search, TrialError


@dataclass(frozen=True)
class TuningJob:
    """What is tuned, and how."""

    stage: Stage
    backend: Backend
    options: TuningOptions
    save: Save
    cache_folder: Path | None
    passes: Sequence[Pass]
    """What has run: nothing is decided that they may not decide."""
    progress: Progress


@dataclass
class TuningReport:
    """What was decided, and by which measurements."""

    decisions: dict[str, str]
    circumstances: Mapping[str, Any]
    lists: Mapping[str, ShortList]
    source: str
    outcome: Outcome | None = None
    """What was measured now."""
    records: list[Record] = field(default_factory=list[Record])
    """All that is known of these kernels."""
    largest_difference: float = 0.0
    """Of the outputs of any trial from those without decisions, relative to them."""

    @property
    def provenance(self) -> Mapping[str, Any] | None:
        """What the artefact says of it; nothing where formulas decided all."""
        if not self.decisions:
            return None
        return {"decisions": self.decisions, "circumstances": self.circumstances}

    def as_json(self) -> dict[str, Any]:
        """All of it for machines."""
        kernels = [self._kernel_json(name) for name in self.lists]
        document: dict[str, Any] = {
            "source": self.source,
            "decisions": self.decisions,
            "kernels": sorted(kernels, key=lambda each: -each["share"]),
            "largest_difference": self.largest_difference,
        }
        if self.outcome is not None:
            found = self.outcome
            document |= {
                "seconds": found.seconds, "tried": found.tried, "known": found.known,
                "left": found.left, "reason": found.reason, "whole": None,
            }  # fmt: skip
            if found.whole is not None:
                times = found.whole
                document["whole"] = {
                    "seconds": times.seconds, "against": times.against, "noise": times.noise,
                }  # fmt: skip
        return document

    def _kernel_json(self, name: str) -> dict[str, Any]:
        records = [each for each in self.records if each.workload == name]
        share = self.outcome.shares.get(name, 0.0) if self.outcome is not None else 0.0
        decision = self.decisions.get(name, "")
        return {
            "workload": name, "operations": self.lists[name].operations,
            "nodes": list(self.lists[name].nodes), "share": share, "decision": decision,
            "tried": {
                each.decision: each.gain if each.outcome == "measured" else each.outcome
                for each in sorted(records, key=lambda each: -each.gain)
            },
        }  # fmt: skip


def tune(job: TuningJob) -> TuningReport:
    """Decide; nothing is decided that does not make the network faster where it was measured."""
    if job.stage.is_prepared:
        raise LeptonError(
            "a prepared stage cannot be tuned",
            notes=["its kernels are chosen already: go on from the stage before it"],
            code="E810",
        )
    tiles = [getattr(step, "largest", 0) for step in job.passes if step.name == "choose-winograd"]
    lists = job.backend.short_lists(job.stage.graph, max(tiles, default=0))
    where, source = job.backend.circumstances, job.options.source
    if job.options.seconds <= 0:
        assert source is not None
        decisions = taken_over(source, where, lists)
        return TuningReport(decisions, where, lists, str(source))
    folder = source if source is not None else beside(job.cache_folder)
    database = Database.open(folder, where)
    report = TuningReport({}, where, lists, str(folder or "memory"))
    with tempfile.TemporaryDirectory(prefix="leptonc-") as name:
        report.outcome, report.largest_difference = _searched(job, lists, database, Path(name))
    report.decisions = dict(report.outcome.decisions)
    report.records = [each for each in database.records.values() if each.workload in lists]
    return report


def beside(cache_folder: Path | None) -> Path | None:
    """The folder of measurements that belongs to a cache, which does not throw them away."""
    return None if cache_folder is None else cache_folder.with_name(f"{cache_folder.name}-tuning")


def _searched(
    job: TuningJob, lists: Mapping[str, ShortList], database: Database, folder: Path
) -> tuple[Outcome, float]:
    if not lists:
        return Outcome(reason="no kernel has anything to decide"), 0.0
    job.progress("tuning, the network as it is", 0, int(job.options.seconds))
    inputs = None
    if job.options.inputs:
        inputs = folder / "inputs.npz"
        write_inputs(job.options.inputs, inputs)
    cache = job.cache_folder if job.cache_folder is not None else folder / "cache"
    seconds = job.options.seconds
    trials = NetworkTrials(job.stage.graph, job.backend, job.save, folder, cache, seconds, inputs)
    search = Search(lists, trials, database, seconds, progress=job.progress)
    try:
        outcome = search.run()
    except (TrialError, TimeoutError) as problem:
        raise LeptonError(
            f"the network cannot be measured: {problem}",
            notes=[
                "open extents are 8 and inputs are random where nobody says otherwise: fix extents "
                "with --dim, or give data with --tune-input NAME=FILE.npy"
            ],
            code="E810",
        ) from None
    return outcome, trials.worst


def taken_over(
    source: Path, where: Mapping[str, Any], lists: Mapping[str, ShortList]
) -> dict[str, str]:
    """The decisions of a tuned artefact, or the best ones that a folder of measurements has."""
    if source.is_dir():
        return Database.open(source, where).decisions(lists)
    if not source.exists():
        raise LeptonError(
            f"there are no measurements at {shown(str(source))}",
            notes=["give a tuned artefact, or a folder that --tune wrote"],
            code="E810",
        )
    from leptonc.artifact import Artifact

    with Artifact.open(source) as artifact:
        told: object = artifact.manifest.provenance.get("tuning")
    if not isinstance(told, dict):
        text = f"{source} says nothing of decisions: it is not tuned"
        warnings.warn(text, TuningNotice, stacklevel=2)
        return {}
    tuning = cast("dict[str, Any]", told)
    if tuning.get("circumstances") != where:
        text = f"the decisions of {source} are of another machine or version, and are not used"
        warnings.warn(text, TuningNotice, stacklevel=2)
        return {}
    decisions = cast("dict[str, object]", tuning.get("decisions", {}))
    return {name: str(text) for name, text in decisions.items() if name in lists}
