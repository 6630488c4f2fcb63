"""If: the branch that a run can take, or both as regions.

A branch whose condition is known stands in for the node. So does one whose fellow cannot run for
the extents at hand, and one without which nothing could be made of what follows: results of
branches that differ in more than extents have no common type. Then the condition is checked at run
time, and a run that needs the other branch ends with an error.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx

from leptonc.ir.diagnostics import LeptonError, shown
from leptonc.ir.dims import Dim
from leptonc.ir.graph import Region, Value
from leptonc.ir.types import DType
from leptonc.onnx_faults import Kept
from leptonc.onnx_regions import Attributes, discard, region_of, subgraph
from leptonc.onnx_scope import FAILED, Importer, Meaning, Scope

NAMES = ("then_branch", "else_branch")
CANNOT_RUN = frozenset({"E103", "E107", "E110"})
"""Codes of faults that only some extents have: where a run met them, it would fail."""


@dataclass(frozen=True)
class _Trial:
    """A branch imported as a region, and what is wrong with it."""

    region: Region | None
    kept: Kept

    @property
    def runs(self) -> bool:
        return self.region is not None and not self.kept

    @property
    def never_runs(self) -> bool:
        """True where all that is wrong are the extents."""
        faults = [fault for _, fault in self.kept]
        return bool(faults) and all(
            isinstance(fault, LeptonError) and fault.code in CANNOT_RUN for fault in faults
        )


def import_if(
    importer: Importer, scope: Scope, attributes: Attributes, operands: Sequence[Value | None]
) -> Sequence[Meaning]:
    """Import an If."""
    condition = operands[0] if operands else None
    if condition is None:
        raise LeptonError("If lacks its condition", code="E014")
    branches = [subgraph(attributes, name) for name in NAMES]
    known = _known_truth(condition)
    if known is not None:
        return _inlined(importer, scope, branches, 0 if known else 1)
    trials = [_tried(importer, scope, branches, index) for index in range(2)]
    if all(trial.runs for trial in trials):
        regions = [trial.region for trial in trials if trial.region is not None]
        try:
            return scope.build.op("if", [condition], regions=regions).results
        except LeptonError as error:
            _forget(trials)
            chosen = importer.forks.choose(importer.findings.place, error)
            message = "a run needs the {}, after which the rest of the model cannot run"
            _require(scope, condition, chosen, message.format(_spelled(1 - chosen)))
            return _inlined(importer, scope, branches, chosen)
    _forget(trials)
    runs = [index for index, trial in enumerate(trials) if trial.runs]
    if len(runs) == 1 and trials[1 - runs[0]].never_runs:
        _leave_out(importer, scope, condition, trials[1 - runs[0]], runs[0])
        return _inlined(importer, scope, branches, runs[0])
    for trial in trials:
        importer.findings.keep(trial.kept)
    return [FAILED] * len(branches[0].output)


def _tried(
    importer: Importer, scope: Scope, branches: Sequence[onnx.GraphProto], index: int
) -> _Trial:
    with importer.findings.apart() as kept, importer.findings.at(index):
        region = region_of(importer, scope, branches[index])
    return _Trial(region, kept)


def _forget(trials: Sequence[_Trial]) -> None:
    for trial in trials:
        if trial.region is not None:
            discard(trial.region)


def _inlined(
    importer: Importer, scope: Scope, branches: Sequence[onnx.GraphProto], index: int
) -> Sequence[Meaning]:
    with importer.findings.at(index):
        return importer.body(scope.inner(scope.build), branches[index])


def _leave_out(
    importer: Importer, scope: Scope, condition: Value, trial: _Trial, chosen: int
) -> None:
    """Make taking a branch that cannot run an error at run time."""
    fault = next(fault for _, fault in trial.kept if isinstance(fault, LeptonError))
    other, name = _spelled(1 - chosen), shown("".join(scope.build.location.nodes))
    message = f"a run needs the {other}, which cannot run for the extents compiled for"
    _require(scope, condition, chosen, f"{message}: {fault.message}")
    importer.findings.notices.append(
        f"the {other} of {name} cannot run for these extents ({fault.message}); "
        "a run that needs it will end with an error"
    )
    importer.forks.left_out.add(importer.findings.place)


def _spelled(index: int) -> str:
    return NAMES[index].replace("_", " ")


def _require(scope: Scope, condition: Value, chosen: int, message: str) -> None:
    """Check at run time that the condition chooses the branch."""
    build = scope.build
    row, wanted = _equality(condition) if chosen == 0 else (None, 1)
    if row is None:
        number = build.cast(condition, to=DType.I64)
        row, wanted = build.reshape(number, build.const(np.array([1], np.int64))), 1 - chosen
    build.op("extents", [row], {"names": (wanted,), "fault": message})


def _equality(condition: Value) -> tuple[Value | None, Dim]:
    """An extent that the condition compares with a number, as a row, and that number."""
    op = condition.producer
    if op is not None and op.name == "equal":
        for row, other in (op.operands, op.operands[::-1]):
            number = None if other.content is None else other.content.reshape(-1)
            known = row.content is not None and row.type.dtype is DType.I64
            if known and row.type.shape == (1,) and number is not None and number.size == 1:
                return row, number[0]
    return None, 1


def _known_truth(condition: Value) -> bool | None:
    if condition.blob is not None and condition.blob.size == 1:
        return bool(condition.blob.array.reshape(-1)[0])
    if condition.content is not None and condition.content.size == 1:
        item = condition.content.reshape(-1)[0]
        return bool(item) if isinstance(item, int) else None
    return None
