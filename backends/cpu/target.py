# pyright: standard
"""What the kernels and the code generator need to know about a CPU."""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from leptonc.ir.diagnostics import LeptonError

if TYPE_CHECKING:
    from tvm.target import Target

SSE4 = ("pni", "ssse3", "sse4_1", "sse4_2", "popcnt", "cx16")
AVX2 = (*SSE4, "avx", "avx2", "fma", "f16c", "bmi1", "bmi2", "abm", "movbe")
AVX512 = (*AVX2, "avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl")
NEON = ("fp", "asimd")


X86, ARM = "x86_64", "aarch64"


@dataclass(frozen=True)
class CpuTarget:
    """One kind of CPU: its vectors of fp32, its caches and how many threads may run.

    `mcpu` is one of LLVM's architecture levels, never the name of a model: a model's name brings
    instructions that virtual machines and cheaper variants of it lack. `features` are the flags, as
    Linux spells them, that code for this target uses. `machine` is the architecture as `uname -m`
    spells it, or empty for that of the machine that compiles. With `spelled_out`, kernels have the
    form that they have for this CPU, but what AVX2 lacks is said in plain arithmetic: tests run it
    so.
    """

    name: str
    mcpu: str
    features: tuple[str, ...]
    lanes: int
    registers: int
    l1_bytes: int = 32 * 1024
    l2_bytes: int = 512 * 1024
    threads: int = 1
    spelled_out: bool = False
    machine: str = X86


LEVELS = (
    CpuTarget(
        "avx512-bf16",
        "x86-64-v4",
        (*AVX512, "avx512_vnni", "avx512_bf16"),
        lanes=16,
        registers=32,
        l2_bytes=1024 * 1024,
    ),
    CpuTarget(
        "avx512-vnni",
        "x86-64-v4",
        (*AVX512, "avx512_vnni"),
        lanes=16,
        registers=32,
        l2_bytes=1024 * 1024,
    ),
    CpuTarget("avx512", "x86-64-v4", AVX512, lanes=16, registers=32, l2_bytes=1024 * 1024),
    CpuTarget("avx2-vnni", "x86-64-v3", (*AVX2, "avx_vnni"), lanes=8, registers=16),
    CpuTarget("avx2", "x86-64-v3", AVX2, lanes=8, registers=16),
    CpuTarget("sse", "x86-64-v2", SSE4, lanes=4, registers=16),
    CpuTarget("neon", "generic", NEON, lanes=4, registers=32, machine=ARM),
    CpuTarget("generic", "generic", (), lanes=4, registers=16, machine=""),
)
EXTENSIONS = {
    "avx512_vnni": "+avx512vnni", "avx_vnni": "+avxvnni", "avx512_bf16": "+avx512bf16",
}  # fmt: skip
"""What LLVM calls the features that no architecture level has."""
NAMES = ("native", *(level.name for level in LEVELS))


def detect(root: Path = Path("/")) -> CpuTarget:
    """The most capable target this machine runs, with its caches and its threads."""
    flags = machine_features(root)
    level = next(level for level in LEVELS if flags.issuperset(level.features))
    l1, l2 = (cache_bytes(root, number) for number in (1, 2))
    return replace(
        level,
        l1_bytes=l1 or level.l1_bytes,
        l2_bytes=l2 or level.l2_bytes,
        threads=available_threads(root),
    )


def by_name(name: str) -> CpuTarget:
    """The target called so: "native" is this machine, the others are the same on every machine.

    Only the number of threads is always this machine's.
    """
    if name == "native":
        return detect()
    for level in LEVELS:
        if level.name == name:
            return with_threads(level, available_threads())
    raise LeptonError(
        f"unknown cpu target '{name}'", notes=[f"known targets: {', '.join(NAMES)}"], code="target"
    )


def with_threads(cpu: CpuTarget, threads: int) -> CpuTarget:
    """The same CPU, used by so many threads."""
    return replace(cpu, threads=threads)


def spelled_out(cpu: CpuTarget) -> CpuTarget:
    """The same CPU, whose kernels run wherever there is AVX2."""
    return replace(cpu, mcpu="x86-64-v3", spelled_out=True, machine=X86)


def required_features(cpu: CpuTarget) -> tuple[str, ...]:
    """The flags a machine must have to run code for this target."""
    return AVX2 if cpu.spelled_out else cpu.features


def missing_features(cpu: CpuTarget, root: Path = Path("/")) -> tuple[str, ...]:
    """Those of the required flags that this machine lacks."""
    present = machine_features(root)
    return tuple(flag for flag in required_features(cpu) if flag not in present)


def multiplies_neighbours(cpu: CpuTarget) -> bool:
    """Whether `instructions.py` knows the instructions for it, all of which are x86's."""
    return (cpu.machine or platform.machine()) == X86 and not cpu.spelled_out


def multiplies_bytes(cpu: CpuTarget) -> bool:
    """Whether one instruction adds four products of unsigned and signed bytes to 32 bits."""
    return "avx512_vnni" in cpu.features or "avx_vnni" in cpu.features


def multiplies_bf16(cpu: CpuTarget) -> bool:
    """Whether one instruction adds two products of bf16 to 32 bits."""
    return "avx512_bf16" in cpu.features


def largest_neighbours(cpu: CpuTarget) -> int:
    """The largest sum of two weights that bytes are multiplied by: `keep-integers` says why."""
    if multiplies_bytes(cpu):
        return 2 * 128
    return 32767 // 255 if "ssse3" in cpu.features else 0


def tvm_target(cpu: CpuTarget) -> Target:
    """The target as TVM spells it."""
    from tvm.target import Target

    description: dict[str, object] = {"kind": "llvm", "num-cores": cpu.threads}
    features = required_features(cpu)
    if cpu.machine:
        description["mtriple"] = f"{cpu.machine}-unknown-linux-gnu"
    if features:
        description["mcpu"] = cpu.mcpu
    attributes = [name for flag, name in EXTENSIONS.items() if flag in features]
    if not cpu.spelled_out and multiplies_bytes(cpu):
        # LLVM takes the instruction for slow, and writes two in its place.
        attributes.append("+fast-dpwssd")
    if "avx512f" in features:
        # The level prefers 256-bit vectors; the kernels are written for 512.
        # It takes gathers for fast, too: 50 trees took 30 us by them, 16 without (Zen 4).
        attributes += ["-prefer-256-bit", "+prefer-no-gather"]
    if attributes:
        description["mattr"] = attributes
    return Target(description)


def machine_features(root: Path = Path("/")) -> frozenset[str]:
    """The flags of the first processor that Linux lists."""
    for line in read(root / "proc/cpuinfo").splitlines():
        key, _, value = line.partition(":")
        if key.strip() in ("flags", "Features"):
            return frozenset(value.split())
    return frozenset()


def model_name(root: Path = Path("/")) -> str:
    """What the first processor calls itself; empty where Linux does not say."""
    for line in read(root / "proc/cpuinfo").splitlines():
        key, _, value = line.partition(":")
        if key.strip() == "model name":
            return value.strip()
    return ""


def cache_bytes(root: Path, number: int) -> int:
    """The size of the data cache of this level, 0 where the system does not say."""
    for index in sorted((root / "sys/devices/system/cpu/cpu0/cache").glob("index*")):
        kind, level, size = (read(index / name).strip() for name in ("type", "level", "size"))
        if kind in ("Data", "Unified") and level == str(number) and size.endswith("K"):
            return int(size[:-1]) * 1024
    return 0


def available_threads(root: Path = Path("/")) -> int:
    """The processors this process may use: its affinity, capped by its control groups' quotas."""
    processors = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1
    return max(1, min([processors, *(int(quota) for quota in quotas(root))]))


def quotas(root: Path) -> list[float]:
    """The processors each enclosing control group allows, of version 2 and of version 1."""
    found: list[float] = []
    for line in read(root / "proc/self/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        top = root / "sys/fs/cgroup"
        if controllers:
            top = top / "cpu"
            if "cpu" not in controllers.split(","):
                continue
        group = top / path.strip("/")
        for folder in (group, *group.parents):
            if not folder.is_relative_to(top):
                break
            found += quota_of(folder)
    return found


def quota_of(folder: Path) -> list[float]:
    """The processors this control group allows, empty where it sets no limit."""
    words = read(folder / "cpu.max").split() or [
        read(folder / "cpu.cfs_quota_us").strip(),
        read(folder / "cpu.cfs_period_us").strip(),
    ]
    if len(words) == 2 and all(word.isdigit() for word in words) and int(words[1]):
        return [int(words[0]) / int(words[1])]
    return []


def read(path: Path) -> str:
    """The text of a system file, empty where there is none."""
    try:
        return path.read_text()
    except OSError:
        return ""
