"""What was measured, in a folder: one small file for each decision of each kernel.

Two databases are merged by copying the files of one folder into the other: a file's name is the
digest of what was measured, where, and by which versions. Files appear complete, by renaming; one
that cannot be read is left out and told of.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, cast

FORMAT = 1
MEASURED = "measured"
LEAST_GAIN = 0.03
"""The part of a kernel's time that a decision must save at least, and more than the noise seen."""
LEAST_WHOLE_GAIN = 0.01
"""As `LEAST_GAIN` for a whole network."""
_LONGEST = 1 << 20


class TuningNotice(UserWarning):
    """Something about decisions or a database that compiling can do without."""


@dataclass(frozen=True)
class Record:
    """A decision of a workload: its time against that of the formulas, or why it was struck out.

    Both times are of the same runs, taken in turns; `noise` is the part of a time by which equal
    runs differed.
    """

    workload: str
    decision: str
    outcome: str = MEASURED
    seconds: float = 0.0
    against: float = 0.0
    noise: float = 0.0
    operations: str = ""

    @property
    def gain(self) -> float:
        """The part of the time that is saved; below 0 where it takes longer."""
        return 1 - self.seconds / self.against if self.against > 0 else 0.0

    def wins(self, least: float = LEAST_GAIN) -> bool:
        """Whether it saves so much, and more than the noise that was seen."""
        return self.outcome == MEASURED and self.gain > max(least, self.noise)


Where = Mapping[str, Any]


@dataclass
class Database:
    """The records of a folder that were made in these circumstances, or only of this process."""

    folder: Path | None
    where: Where
    records: dict[tuple[str, str], Record] = field(default_factory=dict[tuple[str, str], Record])

    @staticmethod
    def open(folder: Path | None, where: Where) -> Database:
        """The database with what the folder has; notices say which files cannot be used."""
        database = Database(folder, json.loads(json.dumps(where)))
        if folder is not None and folder.is_dir():
            for path in sorted(folder.glob("*.json")):
                record = database.read(path)
                if record is not None:
                    database.records[record.workload, record.decision] = record
        return database

    def read(self, path: Path) -> Record | None:
        """The record in a file; None where it is of other circumstances, or damaged."""
        try:
            if path.stat().st_size > _LONGEST:
                raise ValueError("it is too long")
            document = json.loads(path.read_text(encoding="utf-8"))
            if document["format"] > FORMAT or document["where"] != self.where:
                return None
            return _record(document["record"])
        except (OSError, ValueError, KeyError, TypeError, RecursionError) as problem:
            text = f"the measurement {path} cannot be read and was left out: {problem}"
            warnings.warn(text, TuningNotice, stacklevel=2)
            return None

    def put(self, record: Record) -> None:
        """Keep a record, in the folder at once."""
        self.records[record.workload, record.decision] = record
        if self.folder is None:
            return
        path = self.folder / f"{self._digest(record)}.json"
        temporary = path.with_name(f".{path.name}.{os.getpid()}")
        document = {"format": FORMAT, "where": self.where, "record": asdict(record)}
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            temporary.write_text(json.dumps(document, indent=1, sort_keys=True), encoding="utf-8")
            os.replace(temporary, path)
        except OSError as problem:
            warnings.warn(f"a measurement was not kept: {problem}", TuningNotice, stacklevel=2)
            with contextlib.suppress(OSError):
                temporary.unlink()

    def has(self, workload: str, decision: str) -> bool:
        """Whether the decision was measured or struck out."""
        return (workload, decision) in self.records

    def winners(self, workload: str) -> list[Record]:
        """The decisions that win, the best first."""
        found = [each for each in self.records.values() if each.workload == workload]
        return sorted((each for each in found if each.wins()), key=lambda each: -each.gain)

    def decisions(self, workloads: Iterable[str]) -> dict[str, str]:
        """Those that won as a whole; else the best ones, unless together they did not win."""
        names = sorted(set(workloads))
        wholes = [each for each in self.records.values() if each.workload == network_name(names)]
        won = [each for each in wholes if each.wins(LEAST_WHOLE_GAIN)]
        if won:
            return read_spelled(max(won, key=lambda each: each.gain).decision)
        best = {name: found[0].decision for name in names if (found := self.winners(name))}
        whole = self.records.get((network_name(names), spelled(best)))
        return {} if whole is not None and not whole.wins(LEAST_WHOLE_GAIN) else best

    def _digest(self, record: Record) -> str:
        key = json.dumps([self.where, record.workload, record.decision], sort_keys=True)
        return hashlib.sha256(key.encode()).hexdigest()[:32]


def network_name(workloads: Iterable[str]) -> str:
    """The name of a network with these kernels."""
    return f"n_{hashlib.sha256(' '.join(sorted(workloads)).encode()).hexdigest()[:24]}"


def spelled(decisions: Mapping[str, str]) -> str:
    """All decisions as one text."""
    return "; ".join(f"{name}: {text}" for name, text in sorted(decisions.items()))


def read_spelled(text: str) -> dict[str, str]:
    """The decisions that `spelled` wrote."""
    pairs = (part.partition(": ") for part in text.split("; ") if part)
    return {name: decision for name, _, decision in pairs}


def _record(document: object) -> Record:
    """A record from JSON; raises ValueError or TypeError for anything else."""
    entries = dict(cast("Mapping[str, object]", document))
    texts = {name: entries.pop(name) for name in ("workload", "decision", "outcome", "operations")}
    numbers = {name: entries.pop(name) for name in ("seconds", "against", "noise")}
    if entries or not all(isinstance(text, str) for text in texts.values()):
        raise ValueError("it has other entries than a measurement")
    read: dict[str, Any] = {name: float(cast("float", value)) for name, value in numbers.items()}
    if not all(0 <= value < float("inf") for value in read.values()):
        raise ValueError("its numbers are no times")
    return Record(**cast("dict[str, Any]", texts), **read)
