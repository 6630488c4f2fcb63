"""The process that builds a library: reads a job from standard input, answers in lines of JSON.

TVM's memory, an abort inside LLVM and an interrupted build stay out of the process that asked.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from leptonc.backends.base import LibraryReport, Progress
from leptonc.backends.cpu.target import CpuTarget
from leptonc.ir.diagnostics import LeptonBug, LeptonError
from leptonc.ir.extension_text import described, restored
from leptonc.ir.location import Location
from leptonc.ir.table import OpDef


def build_in_child(
    text: str,
    cpu: CpuTarget,
    path: Path,
    *,
    cache_folder: Path | None,
    version: str,
    rows: Sequence[OpDef],
    jobs: int,
    progress: Progress,
    limit: float | None = None,
) -> LibraryReport:
    """Build the library of the graph that `text` spells, in a process of its own, into `path`.

    `rows` are the operations of other packages in it. Raises the worker's own error, LeptonBug
    where the worker died, or TimeoutError where it took more than `limit` seconds.
    """
    job = {
        "text": text, "cpu": dataclasses.asdict(cpu), "path": str(path),
        "version": version, "jobs": jobs, "rows": [described(row) for row in rows],
        "cache": str(cache_folder) if cache_folder is not None else None,
    }  # fmt: skip
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    command = [sys.executable, "-c", "from leptonc.backends.tvm.worker import main; main()"]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env=environment, start_new_session=True,
    ) as child:  # fmt: skip
        expired = threading.Event()
        alarm = threading.Timer(limit or 0, lambda: (expired.set(), kill(child)))
        if limit is not None:
            alarm.start()
        try:
            return _converse(child, json.dumps(job), progress)
        except BaseException:
            kill(child)
            if expired.is_set():
                raise TimeoutError(f"no library after {limit:.0f} seconds") from None
            raise
        finally:
            alarm.cancel()


def kill(child: subprocess.Popen[str]) -> None:
    """End the worker and whatever it started."""
    if child.poll() is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
        child.wait()


def _converse(child: subprocess.Popen[str], job: str, progress: Progress) -> LibraryReport:
    assert child.stdin is not None
    assert child.stdout is not None
    assert child.stderr is not None
    try:
        child.stdin.write(job)
        child.stdin.close()
    except BrokenPipeError:
        pass
    for line in child.stdout:
        if not line.startswith("{"):
            continue
        answer: dict[str, Any] = json.loads(line)
        if "progress" in answer:
            progress(*answer["progress"])
        elif "error" in answer:
            raise _error_of(answer["error"])
        else:
            return LibraryReport(**answer["report"])
    status = child.wait()
    said = child.stderr.read().strip()[-2000:]
    how = (
        f"was ended by {signal.Signals(-status).name}"
        if status < 0
        else f"ended with status {status}"
    )
    raise LeptonBug(f"the process that builds kernels {how}", notes=[said or "it said nothing"])


def _error_of(described: Mapping[str, Any]) -> Exception:
    kind = LeptonBug if described["bug"] else LeptonError
    location = Location(tuple(described["nodes"]), tuple(described["rules"]))
    return kind(described["message"], location, described["notes"], described["code"])


def main() -> None:
    """Do the job on standard input."""
    job = json.loads(sys.stdin.read())
    try:
        report = _build(job)
    except (LeptonError, LeptonBug) as error:
        _answer({"error": {
            "bug": isinstance(error, LeptonBug), "message": error.message, "notes": error.notes,
            "code": error.code, "nodes": error.location.nodes, "rules": error.location.rules,
        }})  # fmt: skip
    else:
        _answer({"report": dataclasses.asdict(report)})


def _build(job: Mapping[str, Any]) -> LibraryReport:
    from leptonc.backends.tvm.build import build_library
    from leptonc.backends.tvm.cache import Cache
    from leptonc.ir.text import parse_graph

    described: dict[str, Any] = {**job["cpu"], "features": tuple(job["cpu"]["features"])}
    cpu = CpuTarget(**described)
    cache = Cache(Path(job["cache"]), job["version"]) if job["cache"] is not None else None
    rows = {row["name"]: restored(row) for row in job["rows"]}
    return build_library(
        parse_graph(job["text"], rows=rows), cpu, Path(job["path"]), cache=cache, jobs=job["jobs"],
        progress=lambda what, done, total: _answer({"progress": [what, done, total]}),
    )  # fmt: skip


def _answer(message: Mapping[str, Any]) -> None:
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()
