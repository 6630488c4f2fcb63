# pyright: standard
"""The products of integers: exact, whatever the extents and the values."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tvm import tirx

from leptonc.backends.cpu import emit
from leptonc.backends.cpu.emit import Epilogue
from leptonc.backends.cpu.integer_matmul import IntegerMatmulSpec, integer_matmul
from leptonc.backends.cpu.integer_packing import FOLDED, ByteWeight, pack_integer_weight
from leptonc.backends.cpu.target import CpuTarget, by_name, largest_neighbours, with_threads
from leptonc.backends.cpu.tiles import integer_panel
from leptonc.ir.ops.integer_linear import beyond, extra_steps
from tests.backends.cpu.kernels import EMULATED, NATIVE, SPELLED, Array, Kernel, assembly

RNG = np.random.default_rng(3)
TYPES = [("uint8", "int8"), ("int16", "int8"), ("int16", "int16")]
KNOWN = [(0, 4, 8), (1, 1, 1), (2, 2, 5), (3, 3, 7), (5, 4, 8), (7, 5, 9), (8, 6, 16), (15, 7, 33),
         (33, 64, 24), (1, 131, 100)]  # fmt: skip


def weight_of(depth: int, columns: int, types: tuple[str, str]) -> Array:
    """Any numbers, the extremes among them; small ones where bytes are multiplied."""
    low, high = (-64, 65) if types[0] == "uint8" else (-128, 128)
    if types[1] == "int16":
        low, high = -255, 256
    weight = RNG.integers(low, high, (depth, columns)).astype(types[1])
    weight[:, 0], weight[:, -1] = low, high - 1
    return weight


def rows_of(rows: int, depth: int, types: tuple[str, str]) -> Array:
    """Any numbers, some rows all of the extremes."""
    low, high = (0, 256) if types[0] == "uint8" else (-255, 256)
    x = RNG.integers(low, high, (rows, depth)).astype(types[0])
    x[::3], x[1::5] = high - 1, low
    return x


def packed(weight: Array, rows: int | None, types: tuple[str, str], cpu: CpuTarget) -> Array:
    together = 4 if types[0] == "uint8" else 2
    return pack_integer_weight(
        weight, integer_panel(rows, weight.shape[1], together, cpu), together
    )


def spec_of(
    rows: emit.Extent, weight: Array, data: Array, types: tuple[str, str], **more: Any
) -> IntegerMatmulSpec:
    depth, columns = weight.shape
    return IntegerMatmulSpec(
        (rows,), depth, columns, data.shape[2], dtype=types[0], weight_dtype=types[1], **more
    )  # fmt: skip


def run(kernel: Kernel, inputs: list[Array], shape: tuple[int, ...], dtype: str) -> Array:
    """The output, with memory that starts at odd places and is watched on both sides."""
    given: list[Array] = []
    for x in inputs:
        memory = np.zeros(x.nbytes + 128, np.uint8)
        start = -memory.ctypes.data % 64 + 4
        given.append(memory[start : start + x.nbytes].view(x.dtype).reshape(x.shape))
        given[-1][...] = x
    memory = np.full(int(np.prod(shape)) + 64, 7, dtype)
    out = memory[32 : memory.size - 32].reshape(shape)
    kernel.call(*given, out)
    assert (memory[:32] == 7).all()
    assert (memory[memory.size - 32 :] == 7).all()
    return out


@pytest.mark.parametrize("types", TYPES)
def test_known_rows(types: tuple[str, str]) -> None:
    for rows, depth, columns in KNOWN:
        weight, x = weight_of(depth, columns, types), rows_of(rows, depth, types)
        data = packed(weight, rows, types, NATIVE)
        kernel = Kernel(integer_matmul("main", spec_of(rows, weight, data, types), NATIVE))
        got = run(kernel, [x, data], (rows, columns), "int32")
        np.testing.assert_array_equal(got, x.astype(np.int64) @ weight.astype(np.int64))


@pytest.mark.parametrize("cpu", [*SPELLED, EMULATED], ids=lambda cpu: cpu.name)
@pytest.mark.parametrize("types", TYPES)
def test_wider_processors(types: tuple[str, str], cpu: CpuTarget) -> None:
    for rows, depth, columns in KNOWN[-4:]:
        weight, x = weight_of(depth, columns, types), rows_of(rows, depth, types)
        data = packed(weight, rows, types, cpu)
        kernel = Kernel(integer_matmul("main", spec_of(rows, weight, data, types), cpu), cpu)
        got = run(kernel, [x, data], (rows, columns), "int32")
        np.testing.assert_array_equal(got, x.astype(np.int64) @ weight.astype(np.int64))


@pytest.mark.parametrize("types", TYPES[:2])
def test_symbolic_rows(types: tuple[str, str]) -> None:
    rows, weight = tirx.Var("rows", "int64"), weight_of(37, 21, types)
    data = packed(weight, None, types, NATIVE)
    kernel = Kernel(integer_matmul("main", spec_of(rows, weight, data, types), NATIVE))
    for count in range(20):
        x = rows_of(count, 37, types)
        got = run(kernel, [x, data], (count, 21), "int32")
        np.testing.assert_array_equal(got, x.astype(np.int64) @ weight.astype(np.int64))


@pytest.mark.parametrize("types", TYPES[:2])
def test_deep_sums_and_an_epilogue(types: tuple[str, str]) -> None:
    """Sums near the limit of 32 bits; a long epilogue is a loop."""
    weight, cpu = weight_of(1 << 15, 20, types), with_threads(NATIVE, 2)

    def scaled(value: Any, index: object, buffers: object) -> Any:
        for _ in range(8):
            value = tirx.max(tirx.min(value, tirx.const(2**31 - 1, "int32")), -(2**30))
        return value.astype("float32") * emit.const(0.5)

    data, x = packed(weight, 9, types, cpu), rows_of(9, 1 << 15, types)
    spec = spec_of(9, weight, data, types, epilogue=Epilogue(apply=scaled), out_dtype="float32")
    got = run(Kernel(integer_matmul("main", spec, cpu), cpu), [x, data], (9, 20), "float32")
    sums = np.maximum(x.astype(np.int64) @ weight.astype(np.int64), -(2**30))
    np.testing.assert_array_equal(got, sums.astype(np.float32) * np.float32(0.5))


@pytest.mark.parametrize(("depth", "columns"), [(700, 500), (2, 140_000)])
def test_weights_are_asked_for_ahead(depth: int, columns: int) -> None:
    types, rows = TYPES[0], tirx.Var("rows", "int64")
    weight, x = weight_of(depth, columns, types), rows_of(23, depth, types)
    data = packed(weight, None, types, NATIVE)
    kernel = Kernel(integer_matmul("main", spec_of(rows, weight, data, types), NATIVE))
    got = run(kernel, [x, data], (23, columns), "int32")
    expected = x.astype(np.float32) @ weight.astype(np.float32)  # exact up to 2^24
    np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize("folds", FOLDED)
@pytest.mark.parametrize("rows", [1, 9])
@pytest.mark.parametrize(("depth", "columns"), [(4, 1), (7, 40), (64, 50), (77, 19)])
def test_large_weights_take_extra_steps(rows: int, depth: int, columns: int, folds: int) -> None:
    """A few weights that two bytes' products with would not fit in 16 bits, or in no byte."""
    types, weight = TYPES[0], weight_of(depth, columns, TYPES[0]).astype(np.int16)
    weight[0], weight[:2, -1], weight[-3:, 0] = -255, 127, 255
    weight[8:16] = 32 * np.sign(weight[8:16])
    packed = ByteWeight(weight, integer_panel(rows, columns, 4, NATIVE), 128, folds)
    data = [packed.dense(), packed.extra(), packed.places(), packed.starts()]
    assert packed.count == len(data[1]) == data[3][-1] > 0
    spec = spec_of(rows, weight, data[0], types, extra=packed.count, folds=folds)
    kernel, x = Kernel(integer_matmul("main", spec, NATIVE)), rows_of(rows, depth, types)
    got = run(kernel, [x, *data], (rows, columns), "int32")
    np.testing.assert_array_equal(got, x.astype(np.int64) @ weight.astype(np.int64))


def test_neighbours_that_are_large_together() -> None:
    weight = np.array([[100, -3], [28, -5], [-128, 1], [-1, 127], [9, -8]], np.int16)
    assert not beyond(weight, 129).any()
    expected = np.zeros((5, 2), bool)
    expected[2:4, 0] = True
    np.testing.assert_array_equal(beyond(weight, 128), expected)
    assert extra_steps(weight, 129) == 0
    assert extra_steps(weight, 128) == 1 / 2
    folded = np.array([[60], [4], [0], [0], [64], [1], [9], [0]], np.int16)
    assert not beyond(folded, 128).any()
    assert beyond(folded, 128, 2)[:, 0].tolist() == [True, True, False, False] * 2
    weight[4] = 200
    assert extra_steps(weight, 256) == 1 / 2


@pytest.mark.parametrize("dtype", [np.int8, np.int16])
@pytest.mark.parametrize("folds", FOLDED)
@pytest.mark.parametrize("most", [1, 64, 128, 255, 256, 512, 2 * 128 * 4])
def test_large_neighbours_are_found_in_any_width(dtype: type, folds: int, most: int) -> None:
    """As one by one, at the ends of the type and where the depth is no whole step."""
    ends = np.iinfo(dtype)
    random = np.random.default_rng(most)
    weight = random.integers(ends.min, ends.max, (37, 5), dtype, endpoint=True)
    weight[20:, 2:] //= ends.max // 64 or 1
    weight[:4] = ends.min
    weight[4:8] = ends.max
    found = beyond(weight, most, folds)
    wide = np.zeros((40 + -40 % (4 * folds), 5), np.int64)
    wide[:37] = weight
    for place in range(37):
        first = place // (4 * folds) * 4 * folds + place % 4 // 2 * 2
        rows = [wide[first + 4 * fold + each] for fold in range(folds) for each in range(2)]
        above = sum(np.maximum(row, 0) for row in rows) > most
        below = sum(np.minimum(row, 0) for row in rows) < -most
        np.testing.assert_array_equal(found[place], above | below)


@pytest.mark.parametrize("shape", [(4, 16), (1, 1), (7, 40), (64, 50), (77, 19)])
def test_the_share_of_extra_steps_is_that_of_each_looked_at(shape: tuple[int, int]) -> None:
    """Steps at the ends of the depth and of the columns are whole ones."""
    weight = np.random.default_rng(shape[0]).integers(-63, 64, shape, np.int16)
    weight[::9, ::17] = 300
    large = beyond(weight, 128) | (weight > 127)
    steps = [
        large[row : row + 4, column : column + 16].any()
        for row in range(0, shape[0], 4)
        for column in range(0, shape[1], 16)
    ]
    assert extra_steps(weight, 128) == np.mean(steps)


@pytest.mark.parametrize("folds", FOLDED)
@pytest.mark.parametrize("most", [128, 256])
@pytest.mark.parametrize("limit", [127, 1000])
def test_the_layers_of_a_weight_add_up_to_it(limit: int, folds: int, most: int) -> None:
    """And each is of bytes of which no neighbours are too large."""
    weight = np.random.default_rng(limit).integers(
        -limit - 1, limit, (38, 9), np.int16, endpoint=True
    )
    for given in (weight, weight.astype(np.int8)) if limit == 127 else (weight,):
        parts = ByteWeight(given, 16, most, folds).layers
        np.testing.assert_array_equal(sum(part.astype(np.int64) for part in parts), given)
        assert all(part.min() >= -128 and part.max() <= 127 for part in parts)
        assert not beyond(parts[0], most, folds).any()


@pytest.mark.parametrize(
    ("name", "types", "instruction"),
    [
        ("generic", TYPES[1], "pmaddwd\t"),
        ("sse", TYPES[0], "pmaddubsw\t"),
        ("avx2", TYPES[0], "vpmaddubsw\t"),
        ("avx2", TYPES[1], "vpmaddwd\t"),
        ("avx512", TYPES[0], "vpmaddubsw\t"),
        ("avx512", TYPES[1], "vpmaddwd\t"),
        ("avx2-vnni", TYPES[0], "vpdpbusd\t"),
        ("avx512-vnni", TYPES[0], "vpdpbusd\t"),
    ],
)
def test_instructions(name: str, types: tuple[str, str], instruction: str) -> None:
    cpu, weight = with_threads(by_name(name), 1), weight_of(32, 64, types)
    assert types[0] == "int16" or not beyond(weight, largest_neighbours(cpu)).any()
    data = packed(weight, 24, types, cpu)
    text = assembly(integer_matmul("main", spec_of(24, weight, data, types), cpu), cpu)
    lines = [line for line in text.splitlines() if instruction in line]
    assert len(lines) >= 8
    if cpu.lanes == 16:
        assert all("%zmm" in line for line in lines)


@pytest.mark.parametrize("name", ["generic", "sse"])
def test_narrower_vectors(name: str) -> None:
    """The same products in vectors of 128 bits."""
    cpu = with_threads(by_name(name), 1)
    for types in TYPES[name == "generic" :]:
        weight, x = weight_of(13, 11, types), rows_of(10, 13, types)
        data = packed(weight, 10, types, cpu)
        kernel = Kernel(integer_matmul("main", spec_of(10, weight, data, types), cpu), cpu)
        got = run(kernel, [x, data], (10, 11), "int32")
        np.testing.assert_array_equal(got, x.astype(np.int64) @ weight.astype(np.int64))
