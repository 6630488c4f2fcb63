"""Products with weights of a few bits, and recurrent layers on bytes, are what onnxruntime does."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import onnx
import pytest
from onnx import helper

import leptonc
from leptonc.ir.blob import Array
from leptonc.ir.diagnostics import LeptonError
from leptonc.onnx_import import import_model
from tests.contrib import check, compare, feeds_of, interpreted, lone
from tests.peer import onnxruntime_gives

RNG = np.random.default_rng(4)
COLUMNS = 24


def f32(*shape: int) -> Array:
    return RNG.standard_normal(shape).astype(np.float32)


def few_bits(
    bits: int, depth: int, size: int, *,
    zero: str = "", shuffled: bool = False, bias: bool = False, dtype: Any = np.float32,
) -> tuple[dict[str, Array | None], dict[str, Any]]:  # fmt: skip
    """Operands and attributes of a product with a weight in blocks."""
    blocks = -(-depth // size)
    packed = RNG.integers(0, 256, (COLUMNS, -(-blocks * bits // 8))).astype(np.uint8)
    real = (RNG.random((COLUMNS, blocks)) * 7).astype(dtype)
    operands: dict[str, Array | None] = {
        "x": f32(3, 4, depth).astype(dtype),
        "b": RNG.integers(0, 256, (COLUMNS, blocks, size * bits // 8)).astype(np.uint8),
        "s": (RNG.random(COLUMNS * blocks) * 0.1).astype(dtype),
        "z": {"": None, "packed": packed, "real": real}[zero],
        "g": RNG.permutation(np.arange(depth) // size).astype(np.int32) if shuffled else None,
        "bias": f32(COLUMNS).astype(dtype) if bias else None,
    }
    while operands[list(operands)[-1]] is None:
        operands.popitem()
    return operands, {"bits": bits, "K": depth, "N": COLUMNS, "block_size": size}


@pytest.mark.parametrize(
    ("bits", "depth", "size", "form"),
    [
        (4, 64, 32, {}),
        (4, 64, 16, {"zero": "packed"}),
        (4, 96, 32, {"zero": "packed"}),  # an odd number of blocks
        (4, 72, 32, {}),  # the last block is not full
        (4, 64, 32, {"zero": "real"}),
        (4, 64, 16, {"shuffled": True}),
        (4, 64, 32, {"bias": True}),
        (4, 256, 128, {}),
        (8, 64, 32, {}),
        (8, 64, 32, {"zero": "packed"}),
        (2, 64, 32, {}),
        (2, 64, 16, {"zero": "packed"}),
        (4, 64, 32, {"zero": "packed", "dtype": np.float16}),
        (8, 64, 32, {"bias": True, "dtype": np.float16}),
    ],
)
def test_few_bits(bits: int, depth: int, size: int, form: dict[str, Any]) -> None:
    operands, attributes = few_bits(bits, depth, size, **form)
    check("MatMulNBits", operands, near=2e-2 if "dtype" in form else 2e-4, **attributes)


def test_zero_points_of_shuffled_blocks() -> None:
    operands, attributes = few_bits(4, 64, 16, zero="packed", shuffled=True)
    data = {name: array for name, array in operands.items() if array is not None}
    low, high = data["b"] & 15, data["b"] >> 4
    codes = np.stack([low, high], axis=-1).reshape(COLUMNS, 64).astype(np.float32)
    points = np.stack([data["z"] & 15, data["z"] >> 4], axis=-1).reshape(COLUMNS, 4)
    groups, scales = data["g"], data["s"].reshape(COLUMNS, 4)
    weight = (codes - points[:, groups]) * scales[:, groups]
    (ours,) = interpreted(lone("MatMulNBits", operands, **attributes), operands)
    np.testing.assert_allclose(ours, data["x"] @ weight.T, rtol=1e-4, atol=1e-4)


def test_a_compiled_product_with_four_bits() -> None:
    operands, attributes = few_bits(4, 96, 32, zero="packed", bias=True)
    source = lone("MatMulNBits", operands, free={"x": ["n", "m", 96]}, **attributes)
    session = leptonc.compile(source, isolated=False)
    for rows in (1, 7):
        feeds = {"x": f32(2, rows, 96)}
        compare(list(session.run(feeds).values()), onnxruntime_gives(source, feeds), 2e-4)


@pytest.mark.parametrize("kind", [0, 1])
def test_four_bits_in_a_table(kind: int) -> None:
    codes = RNG.integers(0, 256, COLUMNS * 32).astype(np.uint8)
    operands = {"x": f32(5, 64), "b": codes, "s": np.abs(f32(COLUMNS * 2))}
    check(
        "MatMulBnb4", operands, near=1e-4, N=COLUMNS, K=64, block_size=32, quant_type=kind
    )  # fmt: skip


INDICES = np.array([[1, 3], [0, 5]])
U4, I4 = ml_dtypes.uint4, ml_dtypes.int4
BYTES = RNG.integers(0, 256, (6, 64)).astype(np.uint8)
TABLES: dict[str, tuple[Array, Array | None, dict[str, Any]]] = {
    "u4": ((BYTES & 15).astype(U4), None, {}),
    "i4": ((BYTES & 7).astype(I4), (BYTES[:, :4] & 7).astype(I4), {}),
    "packed": (BYTES[:, :32], BYTES[:, :2], {"bits": 4}),
    "packed without zero points": (BYTES[:, :32], None, {"bits": 4}),
    "bytes": (BYTES, None, {"bits": 8}),
}


@pytest.mark.parametrize("name", TABLES)
@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_rows_of_quantised_tables(name: str, dtype: Any) -> None:
    table, zero, attributes = TABLES[name]
    operands: dict[str, Array | None] = {
        "t": table, "x": INDICES, "s": RNG.random((6, 4)).astype(dtype), "z": zero,
    }  # fmt: skip
    if zero is None:
        del operands["z"]
    near = 1e-5 if dtype == np.float32 else 2e-3
    check("GatherBlockQuantized", operands, near=near, block_size=16, **attributes)


def lstm_operands(weight: Any, directions: int, *, by_gate: bool) -> dict[str, Array | None]:
    """Operands of an LSTM on bytes: 4 inputs, 6 units, 7 steps, 3 sequences."""
    units, offset = 6, 0 if weight == np.int8 else 100
    shape = (directions, 4 * units) if by_gate else (directions,)

    def data(rows: int) -> Array:
        return (RNG.integers(-60, 60, (directions, rows, 4 * units)) + offset).astype(weight)

    def scale() -> Array:
        return (RNG.random(shape) * 0.004 + 0.004).astype(np.float32)

    return {
        "x": f32(7, 3, 4), "w": data(4), "r": data(units),
        "b": f32(directions, 8 * units) * np.float32(0.1),
        "lengths": np.array([7, 4, 5], np.int32) if by_gate else None,
        "h": f32(directions, 3, units) if by_gate else None,
        "c": f32(directions, 3, units) if by_gate else None, "p": None,
        "ws": scale(), "wz": np.full(shape, offset, weight),
        "rs": scale(), "rz": np.full(shape, offset, weight),
    }  # fmt: skip


@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
@pytest.mark.parametrize("weight", [np.int8, np.uint8])
@pytest.mark.parametrize("by_gate", [False, True])
def test_lstm_on_bytes(direction: str, weight: Any, *, by_gate: bool) -> None:
    operands = lstm_operands(weight, 2 if direction == "bidirectional" else 1, by_gate=by_gate)
    # the peer rounds the operands of each step to 8 bits
    check(
        "DynamicQuantizeLSTM", operands, ("y", "h_n", "c_n"), near=3e-2,
        hidden_size=6, direction=direction,
    )  # fmt: skip


def test_lstm_on_bytes_is_that_on_their_real_numbers() -> None:
    operands = lstm_operands(np.uint8, 2, by_gate=True)
    attributes: dict[str, Any] = {"hidden_size": 6, "direction": "bidirectional"}
    ours = interpreted(
        lone("DynamicQuantizeLSTM", operands, ("y", "h_n", "c_n"), **attributes), operands
    )

    def real(name: str, scale: str, zero: str) -> Array:
        data, factor, shift = (operands[key] for key in (name, scale, zero))
        assert data is not None
        assert factor is not None
        assert shift is not None
        centred = data.astype(np.float32) - shift.astype(np.float32)[:, None]
        return (centred * factor[:, None]).transpose(0, 2, 1)

    given = {**operands, "w": real("w", "ws", "wz"), "r": real("r", "rs", "rz")}
    names = ["x", "w", "r", "b", "lengths", "h", "c"]
    source = lone("Identity", {"x": operands["x"]})
    source.graph.node[0].CopyFrom(
        helper.make_node("LSTM", names, ["y", "h_n", "c_n"], **attributes)
    )
    rest = {name: given[name] for name in names[1:]}
    tensors = [onnx.numpy_helper.from_array(a, n) for n, a in rest.items() if a is not None]
    source.graph.initializer.extend(tensors)
    source.graph.output.extend(onnx.ValueInfoProto(name=name) for name in ("h_n", "c_n"))
    compare(ours, onnxruntime_gives(source, feeds_of(source, operands)), 1e-5)


@pytest.mark.parametrize(
    ("op", "change", "what"),
    [
        ("MatMulNBits", {"bits": 3}, "3 bits"),
        ("MatMulNBits", {"weight_prepacked": 1}, "packed for one processor"),
    ],
)
def test_forms_that_are_refused(op: str, change: dict[str, Any], what: str) -> None:
    operands, attributes = few_bits(4, 64, 32)
    with pytest.raises(LeptonError, match=what):
        import_model(lone(op, operands, **{**attributes, **change}))


def test_weights_that_are_not_constant_are_refused() -> None:
    operands, attributes = few_bits(4, 64, 32)
    with pytest.raises(LeptonError, match="weights that are not constant"):
        import_model(lone("MatMulNBits", operands, fed=("x", "b"), **attributes))
