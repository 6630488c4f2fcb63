"""The targets by name: ``cpu``, ``cpu:isa=avx2,threads=1``."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from leptonc.backends.base import Backend
from leptonc.ir.diagnostics import LeptonError, shown


@dataclass(frozen=True)
class Target:
    """What to compile for: a kind and its options."""

    kind: str = "cpu"
    options: Mapping[str, str] = field(default_factory=dict[str, str])

    @staticmethod
    def parse(text: str) -> Target:
        """Read ``kind:key=value,key=value``; raises E801 for what no target knows."""
        kind, _, rest = text.partition(":")
        options: dict[str, str] = {}
        for part in filter(None, rest.split(",")):
            key, equals, value = part.partition("=")
            if not equals:
                raise LeptonError(
                    f"target option {shown(part)} has no value",
                    notes=["write key=value"],
                    code="E801",
                )
            options[key.strip()] = value.strip()
        target = Target(kind.strip(), options)
        target.check()
        return target

    def check(self) -> None:
        """Raise unless the kind and its options exist."""
        if self.kind not in TARGETS:
            raise _unknown("target", self.kind, list(TARGETS))
        for key in self.options:
            if key not in TARGETS[self.kind].options:
                raise _unknown(
                    f"option of target {self.kind}", key, list(TARGETS[self.kind].options)
                )

    def __str__(self) -> str:
        options = ",".join(f"{key}={value}" for key, value in self.options.items())
        return f"{self.kind}:{options}" if options else self.kind


@dataclass(frozen=True)
class TargetKind:
    """A row of the target table."""

    summary: str
    options: Mapping[str, str]
    make: Callable[[Target, int, bool], Backend]


def _unknown(what: str, name: str, known: list[str]) -> LeptonError:
    near = difflib.get_close_matches(name, known, 1)
    hint = [f"did you mean {near[0]}?"] if near else []
    return LeptonError(
        f"there is no {what} {shown(name)}",
        notes=[*hint, f"known: {', '.join(known)}"],
        code="E801",
    )


def _truth(target: Target, name: str) -> bool:
    """An option that is true or false, which it is unless it is given; raises E801."""
    text = target.options.get(name, "false")
    if text not in ("true", "false"):
        raise LeptonError(
            f"option {name} of target {target.kind} is {shown(text)}",
            notes=["it may be true or false"],
            code="E801",
        )
    return text == "true"


def _cpu(target: Target, threads: int, isolated: bool) -> Backend:
    from leptonc import __version__
    from leptonc.backends.cpu.backend import CpuBackend
    from leptonc.backends.cpu.target import by_name, spelled_out, with_threads

    cpu = by_name(target.options.get("isa", "native"))
    if _truth(target, "spelled_out"):
        cpu = spelled_out(cpu)
    return CpuBackend(with_threads(cpu, threads) if threads else cpu, __version__, isolated)


TARGETS: Mapping[str, TargetKind] = {
    "cpu": TargetKind(
        "x86-64 processors, and those of 64-bit Arm",
        {
            "isa": "native (default), avx512-bf16, avx512-vnni, avx512, avx2-vnni, avx2, sse, "
            "neon (64-bit Arm) or generic: the instructions that kernels may use",
            "spelled_out": "true: kernels have the form for that processor, but run on any with "
            "AVX2, slower: to test them without one",
        },
        _cpu,
    ),
}


def backend_of(target: Target, threads: int = 0, *, isolated: bool = True) -> Backend:
    """The backend that compiles for `target` with this many threads; 0 is as many as may be used.

    An isolated one builds kernels in a process of their own.
    """
    target.check()
    return TARGETS[target.kind].make(target, threads, isolated)
