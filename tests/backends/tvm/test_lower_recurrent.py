"""Lowered recurrent layers against their meaning."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest

from tests.backends.tvm.kernel_of_row import RowKernel, check_lowering
from tests.ir.ops.against_onnx import Array, normal
from tests.ir.ops.test_recurrent import BATCH, GATES, HIDDEN, STEPS, operands


@pytest.mark.parametrize("name", GATES)
@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
def test_layers(name: str, direction: str) -> None:
    count = 2 if direction == "bidirectional" else 1
    arrays = operands(name, count)
    arrays[4] = np.array([5, 1, 3], np.int32)
    check_lowering(name.lower(), arrays, direction=direction)


def sized(name: str, batch: int, steps: int, inputs: int, hidden: int) -> list[Array | None]:
    """Input, weights and biases."""
    rows = GATES[name] * hidden
    return [
        normal(steps, batch, inputs),
        normal(1, rows, inputs, seed=1) / 4,
        normal(1, rows, hidden, seed=2) / 4,
        normal(1, 2 * rows, seed=3),
    ]


@pytest.mark.parametrize("name", GATES)
def test_layers_of_whole_vectors_and_symbolic_extents(name: str) -> None:
    sizes = [
        sized(name, batch, steps, 19, 32)
        for batch, steps in ((2, 5), (1, 1), (3, 9), (0, 2), (2, 0))
    ]
    check_lowering(name.lower(), *sizes, symbolic=(0,), scale=4)


@pytest.mark.parametrize("name", GATES)
@pytest.mark.parametrize("dtype", [np.float64, np.float16, ml_dtypes.bfloat16])
def test_layers_of_each_type(name: str, dtype: Any) -> None:
    arrays = [None if a is None else a.astype(dtype) for a in operands(name)]
    check_lowering(name.lower(), arrays, scale=2)


def test_layers_with_examples_first() -> None:
    arrays = operands("GRU", 2, state=False)
    arrays[0] = normal(BATCH, STEPS, 4)
    check_lowering("gru", [*arrays, normal(BATCH, 2, HIDDEN)], layout=1, direction="bidirectional")


def test_variants() -> None:
    check_lowering("gru", operands("GRU"), linear_before_reset=1, clip=0.8)
    peepholes = [*operands("LSTM"), normal(1, 3 * HIDDEN, seed=9)]
    check_lowering("lstm", peepholes, clip=0.7)
    check_lowering("lstm", peepholes, input_forget=1)


@pytest.mark.parametrize(
    "activation",
    [
        "Relu",
        "Affine",
        "LeakyRelu",
        "ThresholdedRelu",
        "ScaledTanh",
        "HardSigmoid",
        "Elu",
        "Softsign",
        "Softplus",
        "Sigmoid",
    ],
)
def test_activations(activation: str) -> None:
    check_lowering("rnn", operands("RNN"), activations=[activation])


def test_only_the_last_state_may_be_in_use() -> None:
    arrays = [a for a in sized("LSTM", 2, 5, 19, 32) if a is not None]
    lowered = RowKernel("lstm", arrays, {}, used=(1,))
    (last,) = lowered.check_exactness(arrays)
    assert last.shape == (1, 2, 32)
