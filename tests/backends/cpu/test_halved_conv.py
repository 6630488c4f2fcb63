# pyright: standard
"""Pointwise convolution by seven products of halves."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from tvm import tirx

from leptonc.backends.cpu import emit
from leptonc.backends.cpu.decision import UNDECIDED, Decision
from leptonc.backends.cpu.emit import Epilogue
from leptonc.backends.cpu.halved_conv import HalvedConvSpec, halved_conv
from leptonc.backends.cpu.halved_packing import VECTORS, pack_halved_weight
from leptonc.backends.cpu.packing import ConvWeight, pack_channels
from leptonc.backends.cpu.prepare import prepare
from leptonc.backends.cpu.target import CpuTarget, by_name, with_threads
from leptonc.backends.cpu.window import Window
from leptonc.ir.interpret import interpret
from leptonc.ir.text import parse_graph
from tests.backends.cpu.conv_cases import ConvCase as Case
from tests.backends.cpu.kernels import NATIVE, SPELLED, Kernel, block, convolution, unblock

POINT = Window((1, 1))


def cases(lanes: int) -> dict[str, Case]:
    """What is tried, by the lanes: two blocks of channels and four of filters are the fewest."""
    return {
        "the fewest": Case(2 * lanes, 4 * lanes, (1, 2), POINT),
        "odd halves": Case(2 * lanes, 4 * lanes, (5, 6), POINT),
        "several panels": Case(6 * lanes, 12 * lanes, (7, 10), POINT, batch=2),
        "several bands": Case(8 * lanes, 4 * lanes, (61, 50), POINT),
        "pixels apart": Case(4 * lanes, 8 * lanes, (11, 7), Window((1, 1), (2, 2)), batch=2),
        "columns apart, bands": Case(4 * lanes, 4 * lanes, (90, 83), Window((1, 1), (1, 3))),
    }


NAMES = tuple(cases(8))


def residual(shape: tuple[emit.Extent, ...], operations: int) -> Epilogue:
    """Adds a tensor of the output's shape, and a half so many times."""

    def apply(
        value: emit.PrimExpr, index: Sequence[emit.PrimExpr], buffers: Sequence[emit.Buffer]
    ) -> emit.PrimExpr:
        value = value + buffers[0][tuple(index)]
        for _ in range(operations):
            value = value + emit.const(0.5)
        return value

    return Epilogue(((shape, "float32"),), apply)


def check(
    case: Case, cpu: CpuTarget = NATIVE, operations: int = 0, *,
    open_batch: bool = False, decision: Decision = UNDECIDED,
) -> None:  # fmt: skip
    rng = np.random.default_rng(0)
    lanes, (height, width) = cpu.lanes, case.size
    sizes, panel = ConvWeight(case.channels, case.filters, (1, 1)), VECTORS * cpu.lanes
    n = tirx.Var("n", "int64") if open_batch else case.batch
    blocks = case.filters // lanes
    known = [case.window.outputs(axis, extent) for axis, extent in enumerate(case.size)]
    epilogue = residual((n, blocks, *known, lanes), operations)
    spec = HalvedConvSpec(
        n, height, width, sizes, case.window, panel, epilogue=epilogue, decision=decision
    )
    x = rng.standard_normal((case.batch, case.channels, height, width)).astype(np.float32)
    weight = rng.standard_normal((case.filters, case.channels, 1, 1)).astype(np.float32)
    bias = rng.standard_normal(case.filters).astype(np.float32)
    other = rng.standard_normal((case.batch, case.filters, *known)).astype(np.float32)
    inputs = [
        block(x, lanes),
        pack_halved_weight(weight, sizes, panel, lanes),
        pack_channels(bias, lanes),
        block(other, lanes),
    ]
    kernel = Kernel(halved_conv("main", spec, cpu), cpu)
    got = unblock(kernel(inputs, (case.batch, blocks, *known, lanes)), case.filters)
    want = convolution(x, weight, bias, case.window) + other + 0.5 * operations
    np.testing.assert_allclose(got, want, atol=3e-6 * np.abs(want).max(), rtol=0)


@pytest.mark.parametrize("open_batch", [False, True])
@pytest.mark.parametrize("name", NAMES)
def test_known_sizes(name: str, *, open_batch: bool) -> None:
    check(cases(NATIVE.lanes)[name], open_batch=open_batch)


@pytest.mark.parametrize("name", ["odd halves", "several panels", "pixels apart"])
@pytest.mark.parametrize("cpu", SPELLED, ids=lambda cpu: cpu.name)
def test_other_lanes(name: str, cpu: CpuTarget) -> None:
    check(cases(cpu.lanes)[name], cpu)


@pytest.mark.parametrize("threads", [2, 3])
@pytest.mark.parametrize("name", ["several panels", "several bands", "columns apart, bands"])
def test_threads_share_rows(name: str, threads: int) -> None:
    check(cases(NATIVE.lanes)[name], with_threads(NATIVE, threads), decision=Decision(shared=1))


@pytest.mark.parametrize("threads", [2, 3])
def test_threads_share_filters(threads: int) -> None:
    lanes, cpu = NATIVE.lanes, with_threads(NATIVE, threads)
    few = Case(32 * lanes, 16 * lanes, (6, 6), POINT, batch=2)
    sizes = ConvWeight(few.channels, few.filters, (1, 1))
    spec = HalvedConvSpec(few.batch, 6, 6, sizes, POINT, VECTORS * lanes)
    assert spec.shares_filters(cpu)
    check(few, cpu)


@pytest.mark.parametrize("name", ["odd halves", "several panels"])
def test_long_epilogues_are_not_unrolled(name: str) -> None:
    check(cases(NATIVE.lanes)[name], operations=emit.UNROLLED_OPERATIONS)


@pytest.mark.parametrize("rows", [1, 2])
def test_bands_that_were_decided(rows: int) -> None:
    check(cases(NATIVE.lanes)["odd halves"], decision=Decision(band=rows, rows=4))


def test_what_is_of_one_size_is_as_exact_as_a_direct_sum() -> None:
    """Errors are those of sums of a few more numbers, not of their squares."""
    lanes = NATIVE.lanes
    sizes, panel = ConvWeight(512, 4 * lanes, (1, 1)), VECTORS * lanes
    rng = np.random.default_rng(0)
    x = rng.standard_normal((1, 512, 8, 8)).astype(np.float32)
    weight = (rng.standard_normal((4 * lanes, 512, 1, 1)) / 512**0.5).astype(np.float32)
    bias = np.zeros(4 * lanes, np.float32)
    spec = HalvedConvSpec(1, 8, 8, sizes, POINT, panel)
    inputs = [block(x), pack_halved_weight(weight, sizes, panel, lanes), pack_channels(bias, lanes)]
    got = Kernel(halved_conv("main", spec, NATIVE))(inputs, (1, 4, 8, 8, lanes))
    off = unblock(got, 4 * lanes) - convolution(x, weight, bias, POINT)
    assert np.sqrt(np.mean(off**2)) < 8e-7


def test_a_packed_weight_keeps_its_meaning() -> None:
    """The row that prepare makes computes what the convolution did."""
    text = """graph @c(%x: f32[1,4,6,8,8]) -> (y: f32[1,8,6,4,8]) {
  %w = const() {value = random(3)} : f32[64,32,1,1]
  %b = const() {value = random(4)} : f32[64]
  %y = conv_blocked(%x, %w, bias=%b) {strides = [1, 2], lanes = 8, halved = true} : f32[1,8,6,4,8]
  return %y
}
"""
    graph = parse_graph(text, "test")
    x = np.random.default_rng(0).standard_normal(graph.inputs[0].type.extents).astype(np.float32)
    want = interpret(graph, {"x": x})["y"]
    prepare(graph, by_name("avx2"))
    packed = next(op for op in graph if op.name == "packed_halved_conv")
    assert packed.operands[1].type.extents == (2, 7, 16, 16)
    np.testing.assert_allclose(interpret(graph, {"x": x})["y"], want, atol=1e-4)
