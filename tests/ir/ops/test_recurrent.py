"""Recurrent rows against onnxruntime and ONNX's reference."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from leptonc.ir.diagnostics import LeptonError
from tests.ir.ops.against_onnx import Array, build_op, check_row, evaluate, normal, row_of

GATES = {"RNN": 1, "GRU": 3, "LSTM": 4}
STEPS, BATCH, INPUTS, HIDDEN = 5, 3, 4, 2


def operands(name: str, directions: int = 1, *, state: bool = True) -> list[Array | None]:
    """Input, weights, biases, no lengths, and the initial states."""
    gates = GATES[name]
    arrays: list[Array | None] = [
        normal(STEPS, BATCH, INPUTS),
        normal(directions, gates * HIDDEN, INPUTS, seed=1),
        normal(directions, gates * HIDDEN, HIDDEN, seed=2),
        normal(directions, 2 * gates * HIDDEN, seed=3),
        None,
    ]
    if state:
        arrays += [
            normal(directions, BATCH, HIDDEN, seed=4 + i) for i in range(2 if name == "LSTM" else 1)
        ]
    return arrays


def outputs(name: str) -> int:
    """How many results the operator has."""
    return 3 if name == "LSTM" else 2


@pytest.mark.parametrize("name", GATES)
@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
def test_layers_match_onnxruntime(name: str, direction: str) -> None:
    count = 2 if direction == "bidirectional" else 1
    attrs: dict[str, Any] = {"direction": direction, "hidden_size": HIDDEN}
    arrays = operands(name, count)
    check_row(name, arrays, outputs=outputs(name), runtime=True, **attrs)
    check_row(name, [*arrays[:3]], outputs=outputs(name), runtime=True, **attrs)
    arrays[4] = np.array([5, 1, 3], np.int32)
    check_row(name, arrays, outputs=outputs(name), runtime=True, **attrs)


@pytest.mark.parametrize("name", GATES)
def test_layers_match_the_reference(name: str) -> None:
    check_row(name, operands(name), outputs=outputs(name), hidden_size=HIDDEN)
    first: list[Array | None] = [operands(name)[0].swapaxes(0, 1).copy(), *operands(name)[1:4]]  # pyright: ignore[reportOptionalMemberAccess]
    check_row(name, first, outputs=outputs(name), hidden_size=HIDDEN, layout=1)


def test_gru_that_resets_after_the_product() -> None:
    check_row(
        "GRU", operands("GRU"), outputs=2, runtime=True, hidden_size=HIDDEN, linear_before_reset=1
    )


def test_lstm_with_peepholes_coupled_gates_and_clipping() -> None:
    arrays = [*operands("LSTM"), normal(1, 3 * HIDDEN, seed=9)]
    check_row("LSTM", arrays, outputs=3, runtime=True, hidden_size=HIDDEN)
    check_row("LSTM", arrays, outputs=3, runtime=True, hidden_size=HIDDEN, clip=0.7)
    check_row("LSTM", operands("LSTM"), outputs=3, runtime=True, hidden_size=HIDDEN, input_forget=1)


@pytest.mark.parametrize(
    ("activation", "alpha", "beta"),
    [
        ("Relu", [], []),
        ("Affine", [0.5], [0.25]),
        ("LeakyRelu", [0.1], []),
        ("ThresholdedRelu", [0.3], []),
        ("ScaledTanh", [1.5], [0.5]),
        ("HardSigmoid", [0.3], [0.4]),
        ("Elu", [0.7], []),
        ("Softsign", [], []),
        ("Softplus", [], []),
        ("Sigmoid", [], []),
    ],
)
def test_activations_match_onnxruntime(
    activation: str, alpha: list[float], beta: list[float]
) -> None:
    attrs: dict[str, Any] = {"activations": [activation]}
    if alpha:
        attrs["activation_alpha"] = alpha
    if beta:
        attrs["activation_beta"] = beta
    check_row("RNN", operands("RNN"), outputs=2, runtime=True, hidden_size=HIDDEN, **attrs)


def test_double_precision_is_kept() -> None:
    arrays = [None if a is None else a.astype(np.float64) for a in operands("LSTM")]
    y, *_ = evaluate(row_of("LSTM"), arrays, {})
    single, *_ = evaluate(row_of("LSTM"), operands("LSTM"), {})
    assert 0 < np.abs(y - single).max() < 1e-5


@pytest.mark.parametrize(
    ("change", "attrs", "message"),
    [
        ({1: normal(1, 8, 5)}, {}, "w f32[1,8,5] should be [1,8,4]"),
        ({3: normal(1, 8)}, {}, "bias f32[1,8] should be [1,16]"),
        ({}, {"direction": "bidirectional"}, "w f32[1,8,4] should be [2,8,4]"),
        ({}, {"direction": "both"}, "direction is 'both'"),
        ({}, {"activations": ("Tanh",)}, "has 1 activations, should have 3"),
        ({}, {"activations": ("Tanh", "Tanh", "Gelu")}, "there is no activation 'gelu'"),
    ],
)
def test_contradictions_name_both_sides(change: Any, attrs: dict[str, Any], message: str) -> None:
    arrays = operands("LSTM")
    for slot, array in change.items():
        arrays[slot] = array
    with pytest.raises(LeptonError) as error:
        build_op(row_of("LSTM"), arrays, attrs)
    assert message in error.value.message
