# pyright: standard
"""The product with a packed weight."""

from __future__ import annotations

import numpy as np
import pytest
from tvm import tirx

from leptonc.backends.cpu import emit
from leptonc.backends.cpu.emit import Epilogue
from leptonc.backends.cpu.matmul import MatmulSpec, block_rows, matmul
from leptonc.backends.cpu.packing import pack_matmul_weight
from leptonc.backends.cpu.target import CpuTarget, by_name, with_threads
from leptonc.backends.cpu.tiles import matmul_panel
from leptonc.backends.tvm.binding import PrimExpr
from tests.backends.cpu.kernels import AVX512, EMULATED, NATIVE, SPELLED, Array, Kernel, assembly

# Sums of K products of standard normals differ from fp64's by about K**0.5 roundings of their size.
TOLERANCE = 3e-5


def operands(rows: int, depth: int, columns: int) -> tuple[Array, ...]:
    rng = np.random.default_rng(rows * 10007 + depth * 101 + columns)
    shapes = (rows, depth), (depth, columns), (columns,), (rows, columns)
    return tuple(rng.standard_normal(shape).astype(np.float32) for shape in shapes)


def relu_of_sum(rows: emit.Extent, columns: int) -> Epilogue:
    return Epilogue(
        (((rows, columns), "float32"),),
        lambda value, index, buffers: tirx.max(value + buffers[0][tuple(index)], emit.const(0.0)),
    )


def sum_of_three(rows: emit.Extent, columns: int) -> Epilogue:
    """A tensor of the result's shape and one row for all are added."""
    return Epilogue(
        (((2, rows, columns), "float32"), ((columns,), "float32")),
        lambda value, index, buffers: value + buffers[0][tuple(index)] + buffers[1][index[-1]],
    )


def reference(x: Array, weight: Array, bias: Array, other: Array) -> Array:
    return np.maximum(x.astype(np.float64) @ weight + bias + other, 0)


@pytest.mark.parametrize(
    ("rows", "depth", "columns"),
    [(1, 1, 1), (2, 3, 5), (3, 5, 7), (5, 7, 8), (7, 8, 9), (8, 9, 15), (15, 17, 33), (33, 64, 24),
     (1, 130, 100)],
)  # fmt: skip
def test_known_rows(rows: int, depth: int, columns: int) -> None:
    x, weight, bias, other = operands(rows, depth, columns)
    panel = matmul_panel(rows, columns, depth, NATIVE)
    spec = MatmulSpec((rows,), depth, columns, panel, True, relu_of_sum(rows, columns))
    packed = pack_matmul_weight(weight, panel)
    got = Kernel(matmul("main", spec, NATIVE))([x, packed, bias, other], (rows, columns))
    np.testing.assert_allclose(got, reference(x, weight, bias, other), atol=TOLERANCE)


@pytest.mark.parametrize("cpu", [SPELLED[1], EMULATED], ids=lambda cpu: cpu.name)
@pytest.mark.parametrize(("rows", "columns"), [(1, 100), (15, 33), (33, 24)])
def test_other_processors(rows: int, columns: int, cpu: CpuTarget) -> None:
    x, weight, bias, other = operands(rows, 57, columns)
    panel = matmul_panel(rows, columns, 57, cpu)
    spec = MatmulSpec((rows,), 57, columns, panel, True, relu_of_sum(rows, columns))
    packed = pack_matmul_weight(weight, panel)
    got = Kernel(matmul("main", spec, cpu), cpu)([x, packed, bias, other], (rows, columns))
    np.testing.assert_allclose(got, reference(x, weight, bias, other), atol=TOLERANCE)


def test_vectors_of_arm_are_multiplied_by_a_lane() -> None:
    """No instruction is spent on a copy of the same number in all lanes."""
    cpu = EMULATED
    text = assembly(matmul("main", MatmulSpec((28,), 64, 32, 8), cpu), cpu)
    assert text.count("fmla\tv") >= 28
    assert "fmadd" not in text


@pytest.mark.parametrize("columns", [3, 40])
def test_symbolic_rows(columns: int) -> None:
    rows = tirx.Var("rows", "int64")
    panel = matmul_panel(None, columns, 17, NATIVE)
    spec = MatmulSpec((rows,), 17, columns, panel, True, relu_of_sum(rows, columns))
    kernel = Kernel(matmul("main", spec, NATIVE))
    for count in range(1, 20):
        x, weight, bias, other = operands(count, 17, columns)
        packed = pack_matmul_weight(weight, panel)
        got = kernel([x, packed, bias, other], (count, columns))
        np.testing.assert_allclose(got, reference(x, weight, bias, other), atol=TOLERANCE)


@pytest.mark.parametrize("depth", [2048, 3072, 4099])
@pytest.mark.parametrize("known", [True, False])
def test_deep_products_are_sums_of_short_ones(known: bool, depth: int) -> None:
    """One chain of 2048 products is off by 8.2e-7 of the results' rms, chains of 768 by 5e-7."""
    columns = 40
    panel = matmul_panel(20 if known else None, columns, depth, NATIVE)
    rows = 20 if known else tirx.Var("rows", "int64")
    spec = MatmulSpec((rows,), depth, columns, panel)
    kernel = Kernel(matmul("main", spec, NATIVE))
    x, weight, _, _ = operands(20, depth, columns)
    got = kernel([x, pack_matmul_weight(weight, panel)], (20, columns))
    want = x.astype(np.float64) @ weight
    assert np.sqrt(np.mean((got - want) ** 2) / np.mean(want**2)) < 6e-7


@pytest.mark.parametrize("known", [True, False])
def test_weights_that_are_asked_for_ahead(known: bool) -> None:
    depth, columns = 601, 131
    panel = matmul_panel(11 if known else None, columns, depth, NATIVE)
    rows = 11 if known else tirx.Var("rows", "int64")
    spec = MatmulSpec((rows,), depth, columns, panel, True, relu_of_sum(rows, columns))
    function = matmul("main", spec, NATIVE)
    assert "prefetch" in function.script()
    kernel = Kernel(function)
    for count in (11,) if known else (1, 4, 11, 29):
        x, weight, bias, other = operands(count, depth, columns)
        got = kernel([x, pack_matmul_weight(weight, panel), bias, other], (count, columns))
        np.testing.assert_allclose(got, reference(x, weight, bias, other), atol=3 * TOLERANCE)


@pytest.mark.parametrize("depth", [127, 130])
def test_what_is_added_to_deep_products_is_asked_for_before(depth: int) -> None:
    rows, columns = tirx.Var("rows", "int64"), 44
    panel = matmul_panel(None, columns, depth, NATIVE)
    spec = MatmulSpec((2, rows), depth, columns, panel, True, sum_of_three(rows, columns))
    function = matmul("main", spec, NATIVE)
    assert ("prefetcht0" in assembly(function, NATIVE)) == (depth > 128)
    kernel = Kernel(function)
    for count in (1, 7, 9):
        x, weight, bias, other = operands(2 * count, depth, columns)
        packed = pack_matmul_weight(weight, panel)
        shape = (2, count, columns)
        row = np.arange(columns, dtype=np.float32)
        got = kernel([x.reshape(2, count, depth), packed, bias, other.reshape(shape), row], shape)
        want = x.astype(np.float64) @ weight + bias + other + row
        np.testing.assert_allclose(got, want.reshape(shape), atol=2 * TOLERANCE)


@pytest.mark.parametrize("known", [True, False])
def test_many_rows_in_blocks(known: bool) -> None:
    depth, columns, inner = 130, 44, 531
    batch = 2 if known else tirx.Var("batch", "int64")
    panel = matmul_panel(None, columns, depth, NATIVE)
    operand = (((batch, inner, columns), "float32"),)
    total = Epilogue(operand, lambda value, index, buffers: value + buffers[0][tuple(index)])
    spec = MatmulSpec((batch, inner), depth, columns, panel, True, total)
    kernel = Kernel(matmul("main", spec, NATIVE))
    for count in (2,) if known else (1, 2):
        x, weight, bias, other = operands(count * inner, depth, columns)
        shape = (count, inner, columns)
        given = [x.reshape(count, inner, depth), pack_matmul_weight(weight, panel), bias]
        got = kernel([*given, other.reshape(shape)], shape)
        want = x.astype(np.float64) @ weight + bias + other
        np.testing.assert_allclose(got, want.reshape(shape), atol=2 * TOLERANCE)


def test_which_rows_are_taken_in_blocks() -> None:
    one, batch = with_threads(by_name("avx2"), 1), tirx.Var("batch", "int64")
    given: list[tuple[emit.Shape, int, int, int]] = [
        ((1500,), 384, 384, 1), ((batch, 28, 28), 768, 192, 1), ((batch, 500), 384, 384, 1),
        ((1500,), 1536, 384, 1), ((1500,), 768, 3072, 1), ((1500,), 384, 384, 2),
    ]  # fmt: skip
    found = [
        block_rows(MatmulSpec(lead, depth, columns, 24), with_threads(one, threads))
        for lead, depth, columns, threads in given
    ]
    assert found == [128, 84, None, None, None, None]


def test_epilogue_sees_the_index_of_every_leading_axis() -> None:
    panel = matmul_panel(6, 5, 4, NATIVE)

    def place(value: object, index: object, buffers: object) -> PrimExpr:
        a, b, c = index  # pyright: ignore[reportGeneralTypeIssues]
        return (a * 100 + b * 10 + c).astype("float32")

    spec = MatmulSpec((2, 3), 4, 5, panel, epilogue=Epilogue((), place))
    x, weight, _, _ = operands(6, 4, 5)
    got = Kernel(matmul("main", spec, NATIVE))(
        [x.reshape(2, 3, 4), pack_matmul_weight(weight, panel)], (2, 3, 5)
    )
    np.testing.assert_array_equal(
        got, np.arange(2)[:, None, None] * 100 + np.arange(3)[:, None] * 10 + np.arange(5)
    )


def test_transposed_weights_pack_alike() -> None:
    weight = np.arange(35, dtype=np.float32).reshape(5, 7)
    packed = pack_matmul_weight(weight, 4)
    assert packed.shape == (2, 5, 4)
    np.testing.assert_array_equal(packed[1, 2], [18, 19, 20, 0])
    np.testing.assert_array_equal(packed, pack_matmul_weight(weight.T.copy(), 4, transposed=True))


def test_one_thread_never_touches_the_pool() -> None:
    panel = matmul_panel(128, 512, 512, NATIVE)
    spec = MatmulSpec((128,), 512, 512, panel)
    assert "T.parallel" not in matmul("main", spec, NATIVE).script()
    assert "T.parallel" in matmul("main", spec, with_threads(NATIVE, 2)).script()


def test_small_products_stay_on_one_thread() -> None:
    panel = matmul_panel(4, 64, 64, NATIVE)
    spec = MatmulSpec((4,), 64, 64, panel)
    assert "T.parallel" not in matmul("main", spec, with_threads(NATIVE, 2)).script()


def test_avx512_uses_its_vectors_and_keeps_its_accumulators() -> None:
    panel = matmul_panel(28, 64, 64, AVX512)
    text = assembly(matmul("main", MatmulSpec((28,), 64, 64, panel), AVX512), AVX512)
    lines = [line for line in text.splitlines() if "vfmadd" in line]
    assert lines
    assert all("zmm" in line for line in lines)
    assert not [line for line in text.splitlines() if "zmm" in line and "(%rsp)" in line]


def test_sse_multiplies_without_fused_instructions() -> None:
    cpu = with_threads(by_name("sse"), 1)
    panel = matmul_panel(7, 10, 9, cpu)
    x, weight, bias, other = operands(7, 9, 10)
    spec = MatmulSpec((7,), 9, 10, panel, True, relu_of_sum(7, 10))
    function = matmul("main", spec, cpu)
    assert "vfmadd" not in assembly(function, cpu)
    got = Kernel(function, cpu)([x, pack_matmul_weight(weight, panel), bias, other], (7, 10))
    np.testing.assert_allclose(got, reference(x, weight, bias, other), atol=TOLERANCE)


@pytest.mark.parametrize("threads", [1, 2])
def test_sums_stay_in_registers(threads: int) -> None:
    """Those of 197 x 768 x 768 take all registers but a few, also in a loop that threads share."""
    cpu = with_threads(by_name("avx512"), threads)
    panel = matmul_panel(197, 768, 768, cpu)
    text = assembly(matmul("main", MatmulSpec((1, 197), 768, 768, panel, bias=True), cpu), cpu)
    on_the_stack = [line for line in text.splitlines() if "zmm" in line and "(%rsp)" in line]
    assert len(on_the_stack) < 12
