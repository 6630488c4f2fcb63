# pyright: standard
"""What one core of this machine can do: multiply-adds, and bytes from each level of memory.

Measured with kernels that do nothing else, since neither the clock nor the buses are told anywhere.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import tvm

from leptonc.backends.cpu import emit
from leptonc.backends.cpu.emit import Register
from leptonc.backends.cpu.target import CpuTarget, cache_bytes, tvm_target
from leptonc.backends.tvm.binding import Buffer, PrimFunc, tirx
from leptonc.backends.tvm.pipeline import PIPELINE

SECONDS = 0.006
ROUNDS = 10
"""Each peak is measured so long, so many times in turns: who disturbs one disturbs all."""
STEPS = 4_000
CHAINS = 12
"""Independent sums: enough to hide the latency of an addition, few enough for 16 registers."""
TYPICAL_L3 = 32 << 20
MOST_L3 = 64 << 20
"""Caches above this are those of many cores."""


@dataclass(frozen=True)
class Level:
    """A level of memory: how much it holds, and the bytes a second that one core reads from it."""

    name: str
    size: int
    bandwidth: float


@dataclass(frozen=True)
class Peaks:
    """The limits of one core, levels from the nearest on."""

    flops: float
    """Operations on fp32 a second; a multiply-add is two."""
    levels: tuple[Level, ...]

    def level(self, size: int) -> Level:
        """The nearest level that holds so many bytes."""
        return next((level for level in self.levels if size <= level.size), self.levels[-1])


def measure_peaks(cpu: CpuTarget) -> Peaks:
    """Measure this core for code of this target, in a quarter of a second beside compiling."""
    l3 = min(cache_bytes(Path("/"), 3) or TYPICAL_L3, MOST_L3)
    sizes = {"L2": (cpu.l2_bytes, cpu.l2_bytes // 2), "L3": (l3, l3 // 4), "memory": (0, 2 * l3)}
    step = CHAINS * cpu.lanes * 4
    amounts = {name: use // step * step // 4 for name, (_, use) in sizes.items()}
    functions = {"compute": _compute(cpu)} | {n: _read(n, a, cpu) for n, a in amounts.items()}
    built: Any = tirx.build(tvm.IRModule(functions), tvm_target(cpu), PIPELINE)
    out = _tensor(cpu.lanes)
    data = {"compute": _tensor(cpu.lanes)} | {name: _tensor(n) for name, n in amounts.items()}
    best = dict.fromkeys(data, float("inf"))
    for _ in range(ROUNDS):
        for name, given in data.items():
            best[name] = min(best[name], _fastest(partial(built[name], given, out)))
    levels = tuple(
        Level(name, sizes[name][0] or 1 << 62, 4 * amount * _repeats(4 * amount) / best[name])
        for name, amount in amounts.items()
    )
    return Peaks(2 * STEPS * CHAINS * cpu.lanes / best["compute"], levels)


def _tensor(amount: int) -> Any:
    return tvm.runtime.tensor(np.full(amount, 1e-3, np.float32))


def _fastest(run: Callable[[], object]) -> float:
    run()
    best, end = float("inf"), time.perf_counter() + SECONDS
    while time.perf_counter() < end:
        start = time.perf_counter()
        run()
        best = min(best, time.perf_counter() - start)
    return best


def _repeats(size: int) -> int:
    """How often a kernel reads so many bytes, so that starting it does not count."""
    return max(1, (2 << 20) // size)


def _compute(cpu: CpuTarget) -> PrimFunc:
    """A kernel of independent chains of multiply-adds."""
    lanes = cpu.lanes

    def body(x: Buffer, out: Buffer) -> None:
        factor = emit.let(emit.load(x, [0], lanes))
        sums = _sums(lanes)
        with emit.serial(STEPS):
            for one in sums:
                one.set(emit.fma(one.get(), factor, factor))
        _finish(sums, out, lanes)

    return emit.function("compute", [("x", (lanes,), "float32"), _out(lanes)], body)


def _read(name: str, amount: int, cpu: CpuTarget) -> PrimFunc:
    """A kernel that reads all of its memory, small memory several times."""
    lanes = cpu.lanes

    def body(x: Buffer, out: Buffer) -> None:
        sums = _sums(lanes)
        with emit.serial(_repeats(4 * amount)), emit.serial(amount // (CHAINS * lanes)) as step:
            for chain, one in enumerate(sums):
                place = step * (CHAINS * lanes) + chain * lanes
                one.set(one.get() + emit.load(x, [place], lanes))
        _finish(sums, out, lanes)

    return emit.function(name, [("x", (amount,), "float32"), _out(lanes)], body)


def _out(lanes: int) -> tuple[str, tuple[int, ...], str]:
    return "out", (lanes,), "float32"


def _sums(lanes: int) -> list[Register]:
    sums = [Register(lanes) for _ in range(CHAINS)]
    for one in sums:
        one.set(emit.broadcast(emit.const(0.0), lanes))
    return sums


def _finish(sums: list[Register], out: Buffer, lanes: int) -> None:
    """Store the sum of all, so that nothing is left out as unread."""
    total = sums[0].get()
    for one in sums[1:]:
        total = total + one.get()
    emit.store(out, total, [0], lanes)
