"""Whether this machine can run what an artefact holds."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import TypeAlias

from leptonc.ir.diagnostics import LeptonError, shown, shown_path
from leptonc.manifest import Manifest

KINDS = ("cpu",)

Folder: TypeAlias = str | os.PathLike[str]


def check_host(path: str, manifest: Manifest) -> None:
    """Raise unless the code of the artefact can run here, on this very machine."""
    target = manifest.target
    if target.kind not in KINDS:
        raise LeptonError(
            f"{shown_path(path)} was compiled for {shown(target.kind)}, this runtime runs "
            f"{', '.join(KINDS)}",
            code="E607",
        )
    here = os.uname().machine
    if target.arch != here:
        raise LeptonError(
            f"{shown_path(path)} was compiled for {shown(target.arch)}, this machine is {here}",
            notes=["compile the model again, here or with the --target of this machine"],
            code="E607",
        )
    present = machine_features()
    missing = sorted(feature for feature in target.features if feature not in present)
    if missing:
        raise LeptonError(
            f"this processor lacks {', '.join(map(shown, missing))}, which {shown_path(path)} uses",
            notes=["compile the model for this machine, or with --target cpu:isa=generic"],
            code="E608",
        )
    _check_libc(path, manifest.libc)


def _check_libc(path: str, needed: str) -> None:
    if not needed:
        return
    name, _, version = (os.confstr("CS_GNU_LIBC_VERSION") or "").partition(" ")
    try:
        here = tuple(map(int, version.split(".")[:2]))
    except ValueError:
        name, here = "", ()
    if name != "glibc" or here < tuple(map(int, needed.split("."))):
        found = f"{name} {version}" if name else "another C library"
        raise LeptonError(
            f"{shown_path(path)} needs glibc {needed}, this machine has {found}",
            notes=["compile the model on a machine with an older C library"],
            code="E612",
        )


def machine_features(root: Folder = "/") -> frozenset[str]:
    """The flags of the first processor that Linux lists."""
    for line in _read(os.path.join(root, "proc/cpuinfo"), 1 << 16).splitlines():
        key, _, value = line.partition(":")
        if key.strip() in ("flags", "Features"):
            return frozenset(value.split())
    return frozenset()


def available_threads(root: Folder = "/") -> int:
    """The processors this process may use: its affinity, capped by its control groups' quotas."""
    allowed = len(os.sched_getaffinity(0))
    return max(1, min([allowed, *(int(quota) for quota in _quotas(root))]))


def _quotas(root: Folder) -> Iterator[float]:
    """The processors that each control group around this process allows, of both versions."""
    for line in _read(os.path.join(root, "proc/self/cgroup")).splitlines():
        _, controllers, path = (*line.split(":", 2), "", "")[:3]
        if controllers and "cpu" not in controllers.split(","):
            continue
        folder = os.path.join(root, "sys/fs/cgroup", *(["cpu"] if controllers else []))
        yield from _quota(folder)
        for name in filter(None, path.split("/")):
            folder = os.path.join(folder, name)
            yield from _quota(folder)


def _quota(folder: str) -> Iterator[float]:
    words = _read(os.path.join(folder, "cpu.max")).split()
    if not words:
        names = ("cpu.cfs_quota_us", "cpu.cfs_period_us")
        words = [_read(os.path.join(folder, name)).strip() for name in names]
    if all(word.isdigit() for word in words) and int(words[1]):
        yield int(words[0]) / int(words[1])


def _read(path: str, limit: int = 1 << 12) -> str:
    """The start of a system file, empty where there is none."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read(limit)
    except OSError:
        return ""
