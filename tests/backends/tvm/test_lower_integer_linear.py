# pyright: standard
"""Products of integers in whole graphs: quantised in three ways, packed and not."""

from __future__ import annotations

import numpy as np
import pytest

import leptonc
from leptonc.backends.cpu.prepare import prepare
from leptonc.backends.cpu.target import by_name, largest_neighbours
from leptonc.ir.blob import Array
from leptonc.ir.diagnostics import LeptonError
from leptonc.ir.interpret import interpret
from leptonc.ir.text import parse_graph
from leptonc.ir.types import DType
from leptonc.passes.context import PassContext
from leptonc.passes.precision.keep_integers import KeepIntegers
from tests.backends.tvm.kernel_of_row import check_lowering
from tests.ir.ops.single import one_op

RNG = np.random.default_rng(8)
SMALL = RNG.integers(-64, 65, (51, 37)).astype(np.int8)


def of(dtype: str, *shape: int) -> Array:
    info = np.iinfo(dtype)
    return RNG.integers(info.min, info.max + 1, shape).astype(dtype)


def text(x: str, w: str, *, rows: str = "n", small: bool, large: int = 0) -> str:
    """A product, its bias and its scale; weights are of few bits where small, but for `large`."""
    point = 100 if w == "u8" else 0
    data = SMALL.astype(np.int16) + point if small else of({"u8": "uint8", "i8": "int8"}[w], 51, 37)
    data[:2, :large] = 255 if w == "u8" else -128
    values = f"dense([{', '.join(map(str, data.reshape(-1)))}])"
    return (
        f"graph @g(%x: {x}[{rows},51], %z: {x}[1], %b: f32[37]) -> (y: f32[{rows},37]) {{\n"
        f"  %w = const() {{value = {values}}} : {w}[51,37]\n"
        f"  %v = const() {{value = splat({point})}} : {w}[37]\n"
        f"  %p = matmul_integer(%x, %w, a_zero_point=%z, b_zero_point=%v) : i32[{rows},37]\n"
        f"  %f = cast(%p) {{to = f32}} : f32[{rows},37]\n"
        f"  %a = add(%f, %b) : f32[{rows},37]\n"
        f"  %y = relu(%a) : f32[{rows},37]\n  return %y\n}}\n"
    )


@pytest.mark.parametrize("dtype", ["uint8", "int16"])
def test_without_packed_weights(dtype: str) -> None:
    x, weight = of(dtype, 2, 3, 50), of("int8", 50, 37)
    check_lowering("integer_linear", [x, weight], [of(dtype, 1, 4, 50), weight], symbolic=(0,))


@pytest.mark.parametrize(
    ("x", "w", "small"), [("u8", "i8", True), ("i8", "i8", True), ("u8", "i8", False),
                          ("i8", "u8", False)],
)  # fmt: skip
def test_with_packed_weights(x: str, w: str, *, small: bool) -> None:
    source, name = text(x, w, small=small), {"u8": "uint8", "i8": "int8"}[x]
    session = leptonc.compile(parse_graph(source, "test"), isolated=False)
    info = np.iinfo(name)
    for rows, point in ((1, info.min), (3, info.max), (20, 7), (0, 7)):
        data = of(name, rows, 51)
        data[::2] = info.max - point + info.min
        bias = (RNG.integers(-9, 9, 37) / 8).astype(np.float32)
        feeds = {"x": data, "z": np.array([point], name), "b": bias}
        expected = interpret(parse_graph(source, "test"), feeds)["y"]
        np.testing.assert_array_equal(session.run(feeds)["y"], expected)


@pytest.mark.parametrize("level", ["avx2", "avx512-vnni"])
@pytest.mark.parametrize("w", ["i8", "u8"])
def test_packing_keeps_the_meaning(level: str, w: str) -> None:
    """Weights that are small but for a few, which have more than 8 bits without a zero point."""
    cpu, source = by_name(level), text("i8", w, rows="4", small=True, large=2)
    graph = parse_graph(source, "test")
    feeds = {"x": of("int8", 4, 51), "z": of("int8", 1), "b": np.zeros(37, np.float32)}
    expected = interpret(graph, feeds)["y"]
    KeepIntegers(neighbours=largest_neighbours(cpu)).run(graph, PassContext())
    prepare(graph, cpu)
    (packed,) = (op for op in graph if op.name == "packed_integer_linear")
    assert packed.operands[0].type.dtype is DType.U8
    assert (packed.operand("extra") is None) == (level == "avx512-vnni" and w == "i8")
    np.testing.assert_array_equal(interpret(graph, feeds)["y"], expected)


def test_weights_that_do_not_fit() -> None:
    with pytest.raises(LeptonError, match="should be a matrix"):
        one_op("integer_linear", [of("uint8", 2, 5), of("int8", 1, 5, 3)], {})
    packed = of("int8", 1, 2, 8, 2)
    with pytest.raises(LeptonError, match="the depths differ"):
        one_op("packed_integer_linear", [of("int16", 2, 7), packed], {"columns": 8})
