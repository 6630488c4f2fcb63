# pyright: standard
"""What the tests of the kernels share: compiling, running, blocks of channels, references."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tvm
from numpy.typing import NDArray
from tvm.tirx import PrimFunc

from leptonc.backends.cpu.target import (
    ARM,
    CpuTarget,
    by_name,
    detect,
    spelled_out,
    tvm_target,
    with_threads,
)
from leptonc.backends.cpu.window import Window
from leptonc.backends.tvm.pipeline import PIPELINE
from tests.backends.cpu.arm import ArmKernel

Array = NDArray[Any]
NATIVE = with_threads(detect(), 1)
GUARD = 64
AVX512 = with_threads(by_name("avx512"), 1)
SPELLED = [
    with_threads(spelled_out(by_name(name)), 1) for name in ("avx512-vnni", "avx512", "avx2-vnni")
]
"""CPUs whose kernels run on any machine, in the form that they have there."""
EMULATED = with_threads(by_name("neon"), 1)
"""One whose kernels an emulator runs."""


class Kernel:
    """A compiled function that fills a new output, and checks that it wrote nothing beside it.

    No array begins at a multiple of more than four bytes, as the arrays of users may.
    """

    def __init__(self, function: PrimFunc, cpu: CpuTarget = NATIVE) -> None:
        module = tvm.IRModule({"main": function})
        if cpu.machine == ARM:
            self.call: Callable[..., Any] = ArmKernel(module, cpu)
            return
        self.call = tvm.compile(module, target=tvm_target(cpu), tir_pipeline=PIPELINE).jit()["main"]

    def __call__(self, inputs: Sequence[Array], shape: tuple[int, ...]) -> Array:
        """The output of this shape."""
        out, memory = misaligned(np.full(shape, 7.0, np.float32))
        self.call(*(misaligned(np.asarray(x, np.float32))[0] for x in inputs), out)
        assert (memory[:GUARD] == 7).all()
        assert (memory[GUARD + out.size :] == 7).all()
        return out


def misaligned(x: Array) -> tuple[Array, Array]:
    """A copy that begins one element after a multiple of 64 bytes, and the memory it lies in."""
    memory = np.full(x.size + 2 * GUARD + 16, 7.0, np.float32)
    start = -memory.ctypes.data % 64 // 4 + 1
    memory = memory[start : start + x.size + 2 * GUARD]
    copy = memory[GUARD : GUARD + x.size].reshape(x.shape)
    copy[...] = x
    return copy, memory


def assembly(function: PrimFunc, cpu: CpuTarget) -> str:
    """What a function compiles to."""
    return tvm.compile(tvm.IRModule({"main": function}), target=tvm_target(cpu)).mod.inspect_source(
        "asm"
    )


def block(x: Array, lanes: int = NATIVE.lanes) -> Array:
    """N, C, H, W in blocks of channels; the unused lanes are not-a-number, which none may read."""
    n, c, h, w = x.shape
    padded = np.full((n, -(-c // lanes) * lanes, h, w), np.nan, np.float32)
    padded[:, :c] = x
    return padded.reshape(n, -1, lanes, h, w).transpose(0, 1, 3, 4, 2)


def unblock(y: Array, channels: int) -> Array:
    """N, C, H, W from blocks of channels."""
    n, blocks, h, w, lanes = y.shape
    return y.transpose(0, 1, 4, 2, 3).reshape(n, blocks * lanes, h, w)[:, :channels]


def windows(x: Array, window: Window, fill: float) -> Array:
    """All windows of x as f64[N, C, OH, OW, KH, KW]."""
    top, left, bottom, right = window.pads
    padded = np.pad(
        x.astype(np.float64), ((0, 0), (0, 0), (top, bottom), (left, right)), constant_values=fill
    )
    spans = (window.span(0), window.span(1))
    every = np.lib.stride_tricks.sliding_window_view(padded, spans, axis=(2, 3))
    down, right_step = window.strides
    return every[:, :, ::down, ::right_step, :: window.dilations[0], :: window.dilations[1]]


def convolution(x: Array, weight: Array, bias: Array, window: Window, groups: int = 1) -> Array:
    """The reference of a convolution, in fp64."""
    parts = [
        np.einsum("nchwij,ocij->nohw", windows(xs, window, 0.0), ws.astype(np.float64))
        for xs, ws in zip(
            np.split(x, groups, axis=1), np.split(weight, groups, axis=0), strict=True
        )
    ]
    return np.concatenate(parts, axis=1) + bias[:, None, None]
