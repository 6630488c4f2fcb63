# pyright: standard
"""Products of bf16: against float64 sums of what the operands are rounded to."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
from tvm import tirx

from leptonc.backends.cpu.bf16_matmul import Bf16MatmulSpec, bf16_matmul
from leptonc.backends.cpu.bf16_packing import pack_bf16_weight
from leptonc.backends.cpu.target import (
    LEVELS,
    CpuTarget,
    by_name,
    multiplies_bf16,
    spelled_out,
    with_threads,
)
from leptonc.backends.cpu.tiles import bf16_panel
from leptonc.ir.ops.bf16 import bits_of, from_bits, to_bf16
from tests.backends.cpu.kernels import NATIVE, Array, Kernel, assembly, misaligned
from tests.backends.cpu.test_matmul import operands, relu_of_sum

TOLERANCE = 3e-5
PAIRS = with_threads(spelled_out(by_name("avx512-bf16")), 1)
"""What multiplies pairs of bf16, on any machine."""
SIZES = [(1, 1, 1), (2, 3, 5), (3, 5, 7), (7, 8, 9), (8, 9, 15), (9, 31, 17), (33, 64, 24),
         (1, 130, 100), (40, 33, 70)]  # fmt: skip


def run(kernel: Kernel, x: Array, packed: Array, rest: list[Array], columns: int) -> Array:
    """The output, with memory that begins at odd places."""
    given = [misaligned(each)[0] for each in (x, *rest)]
    out, memory = misaligned(np.full((len(x), columns), 7.0, np.float32))
    kernel.call(given[0], packed, *given[1:], out)
    assert (memory[:64] == 7).all()
    assert (memory[64 + out.size :] == 7).all()
    return out


def reference(x: Array, weight: Array, bias: Array, other: Array, *, both: bool) -> Array:
    """Sums of float64 of rounded operands."""
    rows = (x.astype(ml_dtypes.bfloat16) if both else x).astype(np.float64)
    matrix = weight.astype(ml_dtypes.bfloat16).astype(np.float64)
    return np.maximum(rows @ matrix + bias + other, 0)


@pytest.mark.parametrize("cpu", [NATIVE, PAIRS], ids=["weight", "operands"])
@pytest.mark.parametrize(("rows", "depth", "columns"), SIZES)
def test_known_rows(rows: int, depth: int, columns: int, cpu: CpuTarget) -> None:
    x, weight, bias, other = operands(rows, depth, columns)
    both = multiplies_bf16(cpu)
    panel = bf16_panel(rows, columns, depth, cpu, pairs=multiplies_bf16(cpu))
    spec = Bf16MatmulSpec(
        (rows,), depth, columns, panel, True, relu_of_sum(rows, columns), rounded=both
    )
    kernel = Kernel(bf16_matmul("main", spec, cpu), cpu)
    got = run(kernel, x, pack_bf16_weight(weight, panel), [bias, other], columns)
    expected = reference(x, weight, bias, other, both=both)
    np.testing.assert_allclose(got, expected, atol=TOLERANCE)


@pytest.mark.parametrize("cpu", [NATIVE, PAIRS], ids=["weight", "operands"])
@pytest.mark.parametrize("threads", [1, 2])
def test_symbolic_rows(cpu: CpuTarget, threads: int) -> None:
    """Each height of a tile that may remain; threads share the panels."""
    cpu, depth, columns = with_threads(cpu, threads), 151, 131
    rows, both = tirx.Var("rows", "int64"), multiplies_bf16(cpu)
    panel = bf16_panel(None, columns, depth, cpu, pairs=multiplies_bf16(cpu))
    spec = Bf16MatmulSpec(
        (rows,), depth, columns, panel, True, relu_of_sum(rows, columns), rounded=both
    )
    kernel = Kernel(bf16_matmul("main", spec, cpu), cpu)
    for count in (*range(1, 19), 50):
        x, weight, bias, other = operands(count, depth, columns)
        got = run(kernel, x, pack_bf16_weight(weight, panel), [bias, other], columns)
        expected = reference(x, weight, bias, other, both=both)
        np.testing.assert_allclose(got, expected, atol=TOLERANCE)


@pytest.mark.parametrize("rows", [1, 20])
def test_weights_are_asked_for_ahead(rows: int) -> None:
    depth, columns = 700, 500
    x, weight, *_ = operands(rows, depth, columns)
    for cpu in (NATIVE, PAIRS):
        both = multiplies_bf16(cpu)
        panel = bf16_panel(rows, columns, depth, cpu, pairs=multiplies_bf16(cpu))
        spec = Bf16MatmulSpec((rows,), depth, columns, panel, rounded=both)
        kernel = Kernel(bf16_matmul("main", spec, cpu), cpu)
        got = run(kernel, x, pack_bf16_weight(weight, panel), [], columns)
        left = to_bf16(x) if both else x
        expected = left.astype(np.float64) @ to_bf16(weight).astype(np.float64)
        np.testing.assert_allclose(got, expected, atol=30 * TOLERANCE)


def test_rows_are_rounded_to_the_nearest_even() -> None:
    """Halfway cases, denormals, infinities and not-a-number whose upper half is an infinity's."""
    bits = np.array(
        [0x3F808000, 0x3F818000, 0x3F808001, 0xBF818000, 0x7F800000, 0xFF800000, 0x7F800001,
         0xFFFFFFFF, 0x7F7FFFFF, 0x00000000, 0x80000000, 0x00018000, 0x3F800000, 0x3FFFFFFF],
        np.uint32,
    )  # fmt: skip
    x, one = bits.view(np.float32)[:, None], np.ones((1, 1), np.float32)
    panel = bf16_panel(len(x), 1, 1, PAIRS, pairs=True)
    spec = Bf16MatmulSpec((len(x),), 1, 1, panel, rounded=True)
    kernel = Kernel(bf16_matmul("main", spec, PAIRS), PAIRS)
    got = run(kernel, x, pack_bf16_weight(one, panel), [], 1)
    with np.errstate(all="ignore"):
        expected = x.astype(ml_dtypes.bfloat16).astype(np.float32)
    np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize(("depth", "columns"), [(1, 1), (4, 7), (5, 40)])
def test_pairs_stand_side_by_side(depth: int, columns: int, transposed: bool) -> None:
    weight = operands(1, depth, columns)[1]
    packed = pack_bf16_weight(weight.T if transposed else weight, 16, transposed=transposed)
    matrix = packed.transpose(1, 3, 0, 2).reshape(-1, packed.shape[0] * 16)
    np.testing.assert_array_equal(from_bits(matrix[:depth, :columns]), to_bf16(weight))
    assert not matrix[depth:].any()
    np.testing.assert_array_equal(bits_of(weight).view(ml_dtypes.bfloat16), weight.astype(
        ml_dtypes.bfloat16))  # fmt: skip


@pytest.mark.parametrize("level", LEVELS, ids=lambda level: level.name)
def test_every_level_has_code(level: CpuTarget) -> None:
    """Pairs of bf16 are one instruction on whole vectors, with no 256-bit halves."""
    cpu = with_threads(level, 1)
    panel = bf16_panel(40, 64, 64, cpu, pairs=multiplies_bf16(cpu))
    both = multiplies_bf16(cpu)
    spec = Bf16MatmulSpec((40,), 64, 64, panel, rounded=both)
    text = assembly(bf16_matmul("main", spec, cpu), cpu)
    if both:
        products = [line for line in text.splitlines() if "vdpbf16ps" in line]
        assert products
        assert all("%zmm" in line for line in products)
    assert ("vdpbf16ps" in text) == both
