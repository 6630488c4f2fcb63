# pyright: standard
"""Convolutions of pairs of bf16: against float64 sums of what the operands are rounded to."""

from __future__ import annotations

import numpy as np
import pytest
import tvm
from tvm import tirx

from leptonc.backends.cpu import emit
from leptonc.backends.cpu.bf16_conv import Bf16ConvSpec, bf16_conv
from leptonc.backends.cpu.bf16_packing import pack_bf16_conv_weight
from leptonc.backends.cpu.emit import Epilogue
from leptonc.backends.cpu.packing import ConvWeight, channel_blocks, pack_channels
from leptonc.backends.cpu.prepare import prepare
from leptonc.backends.cpu.short_floats import BF16
from leptonc.backends.cpu.target import (
    CpuTarget,
    by_name,
    missing_features,
    spelled_out,
    with_threads,
)
from leptonc.backends.cpu.tiles import conv_panel
from leptonc.backends.cpu.window import Window
from leptonc.ir.interpret import interpret
from leptonc.ir.ops.bf16 import to_bf16
from leptonc.ir.text import parse_graph
from leptonc.ir.types import DType
from tests.backends.cpu.conv_cases import ConvCase as Case
from tests.backends.cpu.kernels import (
    Kernel,
    assembly,
    block,
    convolution,
    misaligned,
    unblock,
)

REAL = with_threads(by_name("avx512-bf16"), 1)
PAIRS = spelled_out(REAL)
LANES = PAIRS.lanes
# Thousands of sums of fp32, each rounded.
TOLERANCE = 4e-6


CASES = {
    "pointwise": Case(32, 48, (7, 9), Window((1, 1))),
    "ragged channels": Case(22, 19, (5, 6), Window((3, 3), pads=(1, 1, 1, 1))),
    "uneven pads": Case(16, 16, (6, 5), Window((3, 2), pads=(0, 1, 2, 0)), batch=2),
    "strided": Case(32, 32, (9, 11), Window((3, 3), (2, 2), pads=(1, 1, 1, 1))),
    "strided pointwise": Case(32, 16, (8, 8), Window((1, 1), (2, 2))),
    "dilated": Case(16, 32, (9, 9), Window((3, 3), dilations=(2, 3), pads=(2, 3, 2, 3))),
    "groups": Case(64, 96, (5, 5), Window((3, 3), pads=(1, 1, 1, 1)), groups=2),
    "several bands": Case(64, 32, (90, 131), Window((3, 3), pads=(1, 1, 1, 1))),
    "weights beyond the cache": Case(1024, 32, (4, 5), Window((3, 3), pads=(1, 1, 1, 1))),
    "half of a vector": Case(16, 8, (6, 7), Window((1, 1))),
    "a half in the last panel": Case(32, 24, (9, 7), Window((3, 3), (2, 2), pads=(1, 1, 1, 1))),
    "a half alone in the last panel": Case(16, 72, (9, 7), Window((1, 1))),
    "image": Case(3, 24, (29, 37), Window((7, 7), (2, 2), pads=(3, 3, 3, 3)), plain=True),
    "narrow image": Case(1, 16, (9, 5), Window((3, 4), pads=(0, 2, 1, 1)), batch=2, plain=True),
    "image of points": Case(17, 16, (6, 21), Window((1, 1)), plain=True),
    "rows apart": Case(2, 16, (9, 40), Window((3, 3), dilations=(2, 1)), plain=True),
    "weights from memory": Case(1040, 1030, (5, 8), Window((1, 1))),
}


def check(
    case: Case,
    symbols: str = "",
    threads: int = 1,
    cpu: CpuTarget = PAIRS,
    dtype: str = "float32",
) -> None:
    rng, cpu = np.random.default_rng(len(symbols)), with_threads(cpu, threads)
    free = {name: tirx.Var(name, "int64") for name in symbols}
    n, h, w = (
        free.get(name, extent) for name, extent in zip("nhw", (case.batch, *case.size), strict=True)
    )
    known = [case.window.outputs(axis, extent) for axis, extent in enumerate(case.size)]
    outputs = [case.window.outputs(axis, extent) for axis, extent in enumerate((h, w))]
    blocks = channel_blocks(case.filters, LANES)
    residual = Epilogue(
        (((n, blocks, *outputs, LANES), "float32"),),
        lambda value, index, buffers: tirx.max(value + buffers[0][tuple(index)], emit.const(0.0)),
    )
    sizes = ConvWeight(
        case.channels, case.filters, case.window.kernel, case.groups, plain=case.plain
    )
    panel = conv_panel(case.filters // case.groups, known[0] * known[1], cpu)
    spec = Bf16ConvSpec(n, h, w, sizes, case.window, panel, epilogue=residual, x_dtype=dtype)
    x = rng.standard_normal((case.batch, case.channels, *case.size)).astype(np.float32)
    shape = (case.filters, case.channels // case.groups, *case.window.kernel)
    weight = rng.standard_normal(shape).astype(np.float32)
    bias = rng.standard_normal(case.filters).astype(np.float32)
    other = rng.standard_normal((case.batch, case.filters, *known)).astype(np.float32)
    out, memory = misaligned(np.full((case.batch, blocks, *known, LANES), 7.0, np.float32))
    kernel = Kernel(bf16_conv("main", spec, cpu), cpu)
    image = x if case.plain else block(x, LANES)
    given = [misaligned(each)[0] for each in (image, block(other, LANES))]
    packed = pack_bf16_conv_weight(weight, sizes, panel, LANES)
    if dtype == BF16:
        given[0] = tvm.runtime.tensor(given[0].astype(DType.BF16.numpy))
    kernel.call(given[0], packed, pack_channels(bias, LANES), given[1], out)
    assert (memory[:64] == 7).all()
    assert (memory[64 + out.size :] == 7).all()
    sums = convolution(to_bf16(x), to_bf16(weight), bias, case.window, case.groups)
    want = np.maximum(sums + other, 0)
    np.testing.assert_allclose(unblock(out, case.filters), want, atol=TOLERANCE * want.max())


@pytest.mark.parametrize("name", CASES)
def test_known_sizes(name: str) -> None:
    check(CASES[name])


@pytest.mark.parametrize(
    ("name", "symbols"),
    [
        ("ragged channels", "nhw"),
        ("strided pointwise", "hw"),
        ("groups", "n"),
        ("image", "nhw"),
        ("narrow image", "w"),
    ],
)
def test_symbolic_sizes(name: str, symbols: str) -> None:
    check(CASES[name], symbols)


@pytest.mark.parametrize(
    ("name", "symbols"),
    [(name, "") for name, case in CASES.items() if not case.plain]
    + [("ragged channels", "nhw"), ("strided pointwise", "hw"), ("pointwise", "nhw")],
)
def test_what_is_rounded_already_is_read_as_it_is(name: str, symbols: str) -> None:
    check(CASES[name], symbols, dtype=BF16)


@pytest.mark.parametrize("name", ["several bands", "weights from memory"])
def test_threads_share_the_work(name: str) -> None:
    check(CASES[name], threads=2)


@pytest.mark.parametrize("width", [1, 2, 5])
def test_a_packed_weight_of_an_image_keeps_its_meaning(width: int) -> None:
    """The row that prepare makes computes what the convolution did, to the bit."""
    y_type = f"f32[1,2,5,{10 - width},{LANES}]"
    text = f"""graph @c(%x: f32[1,3,7,9]) -> (y: {y_type}) {{
  %w = const() {{value = random(3)}} : f32[24,3,3,{width}]
  %y = conv_blocked(%x, %w) {{lanes = {LANES}, plain = true, rounds = "operands"}} : {y_type}
  return %y
}}
"""
    graph = parse_graph(text, "test")
    x = np.random.default_rng(0).standard_normal((1, 3, 7, 9)).astype(np.float32)
    want = interpret(graph, {"x": x})["y"]
    prepare(graph, PAIRS)
    assert "packed_conv_bf16" in [op.name for op in graph]
    np.testing.assert_array_equal(interpret(graph, {"x": x})["y"], want)


@pytest.mark.skipif(bool(missing_features(REAL)), reason="the CPU has no instructions of bf16")
@pytest.mark.parametrize("name", CASES)
def test_the_instructions_themselves(name: str) -> None:
    check(CASES[name], cpu=REAL)
    if not CASES[name].plain:
        check(CASES[name], cpu=REAL, dtype=BF16)


def test_products_and_rounding_are_one_instruction_on_whole_vectors() -> None:
    window, panel = Window((3, 3), pads=(1, 1, 1, 1)), conv_panel(64, 196, REAL)
    spec = Bf16ConvSpec(1, 14, 14, ConvWeight(64, 64, (3, 3)), window, panel)
    lines = assembly(bf16_conv("main", spec, REAL), REAL).splitlines()
    for instruction, result in {"vdpbf16ps": "%zmm", "vcvtneps2bf16": "%ymm"}.items():
        found = [line for line in lines if instruction in line]
        assert found
        assert all(result in line for line in found)
