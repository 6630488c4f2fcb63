"""Attention of com.microsoft, in all of its forms, is what onnxruntime computes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import leptonc
from leptonc.ir.blob import Array
from leptonc.ir.diagnostics import LeptonError
from leptonc.onnx_import import import_model
from tests.contrib import Operands, check, compare, feeds_of, lone
from tests.peer import onnxruntime_gives

RNG = np.random.default_rng(3)
BATCH, LENGTH, HEADS, WIDTH, PAST = 2, 5, 4, 8, 3
HIDDEN = HEADS * WIDTH


def f32(*shape: int) -> Array:
    return RNG.standard_normal(shape).astype(np.float32)


def i32(data: Any) -> Array:
    return np.array(data, np.int32)


X = f32(BATCH, LENGTH, HIDDEN)
PROJECTED = {"x": X, "w": f32(HIDDEN, 3 * HIDDEN) * np.float32(0.2), "b": f32(3 * HIDDEN)}
STATE = f32(2, BATCH, HEADS, PAST, WIDTH)
EVERY = i32(np.ones((BATCH, LENGTH + PAST)))
LOWER = i32(np.tril(np.ones((BATCH, LENGTH, LENGTH))))

ATTENTION: dict[str, tuple[Operands, dict[str, Any]]] = {
    "plain": (PROJECTED, {}),
    "without a bias": (PROJECTED | {"b": None}, {}),
    "causal": (PROJECTED, {"unidirectional": 1}),
    "scaled": (PROJECTED, {"scale": 0.3}),
    "ends": (PROJECTED | {"m": i32([3, 5])}, {}),
    "ends and starts": (PROJECTED | {"m": i32([4, 5, 1, 2])}, {}),
    "mask of keys": (PROJECTED | {"m": i32([[1, 0, 1, 1, 0], [0, 1, 1, 1, 1]])}, {}),
    "mask of pairs": (PROJECTED | {"m": LOWER}, {"mask_filter_value": -5000.0}),
    "past": (PROJECTED | {"m": None, "past": STATE}, {}),
    "causal past": (PROJECTED | {"m": EVERY, "past": STATE}, {"unidirectional": 1}),
    "bias of pairs": (
        PROJECTED | {"m": None, "past": None, "a": f32(1, HEADS, LENGTH, LENGTH)},
        {"unidirectional": 1},
    ),
    "narrow values": (
        {"x": X, "w": f32(HIDDEN, 2 * HIDDEN + 16), "b": f32(2 * HIDDEN + 16)},
        {"qkv_hidden_sizes": [HIDDEN, HIDDEN, 16]},
    ),
}


@pytest.mark.parametrize("name", ATTENTION)
def test_attention_to_itself(name: str) -> None:
    operands, attributes = ATTENTION[name]
    outputs = ("y", "present") if operands.get("past") is not None else ("y",)
    check("Attention", operands, outputs, num_heads=HEADS, **attributes)


@pytest.mark.parametrize("weight", [np.int8, np.uint8])
@pytest.mark.parametrize("columns", [0, 3 * HIDDEN])
def test_quantised_attention(weight: Any, columns: int) -> None:
    low, high = (-60, 60) if weight == np.int8 else (0, 255)
    scale = RNG.random(columns or 1).astype(np.float32) * np.float32(0.003)
    operands: dict[str, Array | None] = {
        "x": RNG.integers(0, 255, (BATCH, LENGTH, HIDDEN)).astype(np.uint8),
        "w": RNG.integers(low, high, (HIDDEN, 3 * HIDDEN)).astype(weight),
        "b": PROJECTED["b"], "xs": np.array(0.02, np.float32),
        "ws": scale if columns else scale.reshape(()),
        "m": None if columns else i32([3, 5]), "xz": np.array(120, np.uint8),
        "wz": np.full(columns, 3, weight) if columns else np.array(3, weight),
        "past": None if columns else STATE,
    }  # fmt: skip
    outputs = ("y",) if columns else ("y", "present")
    check(
        "QAttention", operands, outputs, near=1e-4, num_heads=HEADS, unidirectional=int(not columns)
    )


KEYS = 7
OTHERS = {"x": X, "k": f32(BATCH, KEYS, HIDDEN), "v": f32(BATCH, KEYS, HIDDEN)}
OWN = {"x": X, "k": f32(BATCH, LENGTH, HIDDEN), "v": f32(BATCH, LENGTH, HIDDEN)}
MASK = i32([[1, 1, 1, 0, 0, 0, 0], [1] * 7])

MULTI_HEAD: dict[str, tuple[Operands, dict[str, Any]]] = {
    "plain": (OTHERS, {}),
    "bias": (OTHERS | {"b": f32(3 * HIDDEN)}, {}),
    "ends": (OTHERS | {"b": None, "m": i32([3, 7])}, {}),
    "mask of keys": (OTHERS | {"b": None, "m": MASK}, {}),
    "bias of pairs": (
        OTHERS | {"b": None, "m": None, "a": f32(BATCH, 1, LENGTH, KEYS)}, {"scale": 0.2}),
    "heads already": (
        {"x": X, "k": f32(BATCH, HEADS, KEYS, WIDTH), "v": f32(BATCH, HEADS, KEYS, WIDTH)}, {}),
    "wide values": (OTHERS | {"v": f32(BATCH, KEYS, 2 * HIDDEN)}, {}),
    "past": (
        OWN | {"b": f32(3 * HIDDEN), "m": None, "a": None, "pk": STATE[0], "pv": STATE[1]},
        {"unidirectional": 1}),
}  # fmt: skip


@pytest.mark.parametrize("name", MULTI_HEAD)
def test_attention_of_many_heads(name: str) -> None:
    operands, attributes = MULTI_HEAD[name]
    outputs = ("y", "k2", "v2") if "pk" in operands else ("y",)
    check("MultiHeadAttention", operands, outputs, num_heads=HEADS, **attributes)


SHARED, WIDE, PLACES = 2, 16, 20
ANGLES = np.arange(PLACES)[:, None] * np.linspace(0.1, 1, WIDE // 2)
CACHES = {"c": np.cos(ANGLES).astype(np.float32), "s": np.sin(ANGLES).astype(np.float32)}


def grouped(
    length: int, past: int | None, ends: list[int], longest: int,
    *, rotated: bool = False, packed: bool = False, dtype: Any = np.float32, **extra: Array | None,
) -> dict[str, Array | None]:  # fmt: skip
    """Operands of attention in groups; `ends` are the places of the last elements."""
    batch = len(ends)
    caches = CACHES if rotated else {"c": None, "s": None}
    state = None if past is None else (batch, SHARED, past, WIDE)
    width = (HEADS + 2 * SHARED if packed else HEADS) * WIDE
    new = None if packed else (batch, length, SHARED * WIDE)
    operands: dict[str, Array | None] = {
        "x": f32(batch, length, width),
        "k": None if new is None else f32(*new), "v": None if new is None else f32(*new),
        "pk": None if state is None else f32(*state), "pv": None if state is None else f32(*state),
        "ends": i32(ends), "longest": i32(longest), **caches, **extra,
    }  # fmt: skip
    while operands and operands[list(operands)[-1]] is None:
        operands.popitem()
    return {
        name: data.astype(dtype) if data is not None and data.dtype == np.float32 else data
        for name, data in operands.items()
    }


BOTH = [4, 4]
F16 = np.float16
GROUPED: dict[str, tuple[dict[str, Array | None], dict[str, Any]]] = {
    "prompt": (grouped(5, None, BOTH, 5), {}),
    "rotated prompt": (grouped(5, None, BOTH, 5, rotated=True), {}),
    "rotated in pairs": (grouped(5, None, BOTH, 5, rotated=True), {"rotary_interleaved": 1}),
    "next": (grouped(1, 4, BOTH, 5, rotated=True), {}),
    "next of two lengths": (grouped(1, 6, [5, 3], 6, rotated=True), {}),
    "next within a buffer": (grouped(1, 10, [5, 5], 6, rotated=True), {}),
    "packed": (grouped(1, 4, BOTH, 5, rotated=True, packed=True), {}),
    "packed prompt": (grouped(5, 8, BOTH, 5, packed=True), {}),
    "window": (grouped(6, None, [5, 5], 6), {"local_window_size": 3}),
    "next in a window": (grouped(1, 8, [8, 8], 9), {"local_window_size": 3}),
    "cap": (grouped(5, None, BOTH, 5), {"softcap": 2.0}),
    "smooth": (grouped(5, None, BOTH, 5), {"smooth_softmax": 1}),
    "scale": (grouped(5, None, BOTH, 5), {"scale": 0.1}),
    "several at once": (grouped(3, 4, [6], 7, rotated=True), {}),
    "halves": (grouped(5, None, BOTH, 5, rotated=True, dtype=F16), {}),
    "next of halves": (grouped(1, 4, BOTH, 5, rotated=True, dtype=F16), {}),
    "sinks": (grouped(5, None, BOTH, 5, p=None, a=None, sink=f32(HEADS)), {}),
    "bias of pairs": (
        grouped(5, None, BOTH, 5, p=None, a=f32(2, HEADS, 5, 5)), {"softcap": 3.0}),
    "bias for all heads": (grouped(5, None, BOTH, 5, p=None, a=f32(1, 1, 5, 5)), {}),
    "places": (grouped(1, 4, BOTH, 5, rotated=True, p=np.array([[7], [2]])), {}),
}  # fmt: skip


@pytest.mark.parametrize("name", GROUPED)
def test_attention_in_groups(name: str) -> None:
    operands, attributes = GROUPED[name]
    near = 2e-5 if operands["x"] is not None and operands["x"].dtype == np.float32 else 4e-3
    check(
        "GroupQueryAttention", operands, ("y", "k2", "v2"), near=near, num_heads=HEADS,
        kv_num_heads=SHARED, do_rotary=int(operands.get("c") is not None), **attributes,
    )  # fmt: skip


def test_attention_in_groups_with_a_past_that_grows() -> None:
    fed = ("x", "k", "v", "pk", "pv", "ends", "longest")
    free = {
        "x": ["b", "n", HEADS * WIDE],
        "k": ["b", "n", SHARED * WIDE], "v": ["b", "n", SHARED * WIDE],
        "pk": ["b", SHARED, "past", WIDE], "pv": ["b", SHARED, "past", WIDE], "ends": ["b"],
    }  # fmt: skip
    session = None
    for length, past, ends, longest in ((5, 0, [4, 4], 5), (1, 5, [5, 5], 6), (3, 4, [6], 7)):
        operands = grouped(length, past, ends, longest, rotated=True)
        source = lone(
            "GroupQueryAttention", operands, ("y", "k2", "v2"), fed=fed, free=free,
            num_heads=HEADS, kv_num_heads=SHARED, do_rotary=1,
        )  # fmt: skip
        session = session or leptonc.compile(source, isolated=False)
        feeds = feeds_of(source, operands)
        compare(list(session.run(feeds).values()), onnxruntime_gives(source, feeds), 2e-5)


ROTATION: dict[str, tuple[Operands, dict[str, Any]]] = {
    "from one place": ({"x": f32(2, 5, 64), "p": np.array([3])}, {}),
    "heads": ({"x": f32(2, 4, 5, 16), "p": RNG.integers(0, PLACES, (2, 5))}, {}),
    "in pairs": ({"x": f32(2, 5, 64), "p": np.array([3])}, {"interleaved": 1}),
    "a part of each head": (
        {"x": f32(2, 5, 96), "p": RNG.integers(0, PLACES, (2, 5))},
        {"num_heads": 4, "rotary_embedding_dim": 16},
    ),
}


@pytest.mark.parametrize("name", ROTATION)
def test_rotation_by_position(name: str) -> None:
    operands, attributes = ROTATION[name]
    check("RotaryEmbedding", {**operands, **CACHES}, **attributes)


@pytest.mark.parametrize(
    ("op", "operands", "attributes", "what"),
    [
        ("Attention", PROJECTED, {"do_rotary": 1}, "rotation inside"),
        ("Attention", PROJECTED, {"past_present_share_buffer": 1}, "grows in place"),
        ("Attention", PROJECTED | {"m": i32(np.ones((1, 1, 5, 5)))}, {}, "a mask of 4 dimensions"),
        ("MultiHeadAttention", {"x": X}, {}, "queries without keys"),
        ("GroupQueryAttention", GROUPED["prompt"][0], {"k_quant_type": "PER_TENSOR"}, "quantised"),
    ],
)
def test_forms_that_are_refused(
    op: str, operands: Operands, attributes: dict[str, Any], what: str
) -> None:
    with pytest.raises(LeptonError, match=what):
        import_model(lone(op, operands, num_heads=HEADS, **attributes))
