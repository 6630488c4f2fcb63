# pyright: standard
"""Kernels that store bf16: the bits that rounding what they store in fp32 gives."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import ml_dtypes
import numpy as np
import pytest
import tvm
from tvm import tirx
from tvm.tirx import PrimFunc

from leptonc.backends.cpu import emit
from leptonc.backends.cpu.bf16_conv import Bf16ConvSpec, bf16_conv
from leptonc.backends.cpu.bf16_packing import pack_bf16_conv_weight, pack_bf16_winograd_weight
from leptonc.backends.cpu.bf16_winograd import bf16_winograd
from leptonc.backends.cpu.conv import conv
from leptonc.backends.cpu.conv_spec import ConvSpec
from leptonc.backends.cpu.depthwise import DepthwiseSpec, depthwise
from leptonc.backends.cpu.emit import Epilogue
from leptonc.backends.cpu.packing import (
    ConvWeight,
    pack_channels,
    pack_conv_weight,
    pack_depthwise_weight,
)
from leptonc.backends.cpu.target import (
    CpuTarget,
    by_name,
    missing_features,
    spelled_out,
    with_threads,
)
from leptonc.backends.cpu.window import Window
from leptonc.backends.cpu.winograd import WinogradSpec, winograd
from leptonc.backends.cpu.winograd_tables import pack_winograd_weight
from leptonc.ir.ops.bf16 import to_bf16
from tests.backends.cpu.kernels import Array, Kernel, assembly, block

REAL = with_threads(by_name("avx512-bf16"), 1)
PAIRS = spelled_out(REAL)
LANES = PAIRS.lanes
SAME = Window((3, 3), pads=(1, 1, 1, 1))
BF16 = np.dtype(ml_dtypes.bfloat16)
RNG = np.random.default_rng(5)


def normal(*shape: int) -> Array:
    return RNG.standard_normal(shape).astype(np.float32)


def many_operations(value: Any, index: Any, buffers: Any) -> Any:
    """An epilogue of more operations than are repeated for each register."""
    for _ in range(12):
        value = tirx.max(value * emit.const(1.01) + emit.const(0.01), emit.const(-3.0))
    return value


Made = tuple[Callable[[str, Any, CpuTarget], PrimFunc], Any, list[Array], int, tuple[int, int]]


def direct(filters: int, panel: int) -> Made:
    sizes = ConvWeight(22, filters, (3, 3))
    weight = pack_conv_weight(normal(filters, 22, 3, 3), sizes, panel, LANES)
    return (
        conv,
        ConvSpec(2, 7, 9, sizes, SAME, panel),
        [normal(2, 22, 7, 9), weight],
        filters,
        (7, 9),
    )


def pairs(filters: int, panel: int) -> Made:
    sizes = ConvWeight(22, filters, (1, 1))
    weight = pack_bf16_conv_weight(normal(filters, 22, 1, 1), sizes, panel, LANES)
    spec = Bf16ConvSpec(1, 7, 9, sizes, Window((1, 1)), panel)
    return bf16_conv, spec, [normal(1, 22, 7, 9), weight], filters, (7, 9)


def tiles(rounds: bool) -> Made:
    weight, x = normal(24, 32, 3, 3), normal(1, 32, 7, 9)
    spec = WinogradSpec(1, 32, 24, 7, 9, (1, 1, 1, 1), 2, 32)
    if rounds:
        return bf16_winograd, spec, [x, pack_bf16_winograd_weight(weight, 32)], 24, (7, 9)
    return winograd, spec, [x, pack_winograd_weight(weight, 2, 32)], 24, (7, 9)


def single() -> Made:
    weight = pack_depthwise_weight(normal(24, 1, 3, 3), LANES)
    return depthwise, DepthwiseSpec(1, 24, 7, 9, SAME), [normal(1, 24, 7, 9), weight], 24, (7, 9)


KERNELS: dict[str, Callable[[], Made]] = {
    "direct": lambda: direct(40, 32),
    "direct, half of a vector": lambda: direct(8, 16),
    "pairs": lambda: pairs(40, 32),
    "pairs, half of a vector": lambda: pairs(24, 32),
    "tiles": lambda: tiles(rounds=False),
    "tiles of bf16": lambda: tiles(rounds=True),
    "depthwise": single,
}


def check(name: str, epilogue: Epilogue, cpu: CpuTarget) -> None:
    emitter, spec, (x, weight), filters, size = KERNELS[name]()
    shape = (x.shape[0], -(-filters // LANES), *size, LANES)
    bias = pack_channels(normal(filters), LANES)
    found: list[Array] = []
    for dtype in ("float32", "bfloat16"):
        made = replace(spec, epilogue=epilogue, out_dtype=dtype)
        out = tvm.runtime.tensor(np.full(shape, np.nan, np.float32 if dtype == "float32" else BF16))
        Kernel(emitter("main", made, cpu), cpu).call(block(x, LANES).copy(), weight, bias, out)
        found.append(out.numpy())
    exact, short = found
    # channels beyond the last are whatever is computed of the operand's, which are no numbers
    blocks = np.moveaxis(exact, -1, 2).reshape(shape[0], -1, *size)[:, :filters]
    got = np.moveaxis(short.astype(np.float32), -1, 2).reshape(blocks.shape[0], -1, *size)
    np.testing.assert_array_equal(got[:, :filters], to_bf16(blocks))
    assert np.isfinite(blocks).all()


@pytest.mark.parametrize("name", KERNELS)
def test_what_is_stored_is_rounded(name: str) -> None:
    check(name, Epilogue(), PAIRS)


@pytest.mark.parametrize("name", ["direct", "pairs, half of a vector", "tiles"])
def test_so_is_what_many_operations_made_of_sums(name: str) -> None:
    check(name, Epilogue((), many_operations), PAIRS)


@pytest.mark.skipif(bool(missing_features(REAL)), reason="the CPU has no instructions of bf16")
@pytest.mark.parametrize("name", KERNELS)
def test_the_instructions_themselves(name: str) -> None:
    check(name, Epilogue(), REAL)


def test_a_vector_is_rounded_by_one_instruction() -> None:
    emitter, spec, *_ = single()
    text = assembly(emitter("main", replace(spec, out_dtype="bfloat16"), REAL), REAL)
    assert any("vcvtneps2bf16" in line and "%zmm" in line for line in text.splitlines())
