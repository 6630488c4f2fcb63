"""The activations of recurrent layers, by the names that ONNX gives them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np

from leptonc.ir.blob import Array
from leptonc.ir.diagnostics import LeptonError
from leptonc.ir.table import Arguments

DIRECTIONS = ("forward", "reverse", "bidirectional")

Function = Callable[[Array, float, float], Array]


def _sigmoid(x: Array) -> Array:
    with np.errstate(over="ignore"):
        return 1 / (1 + np.exp(-x))


ACTIVATIONS: Mapping[str, tuple[Function, float, float]] = MappingProxyType(
    {
        "relu": (lambda x, a, b: np.maximum(x, 0), 0.0, 0.0),
        "tanh": (lambda x, a, b: np.tanh(x), 0.0, 0.0),
        "sigmoid": (lambda x, a, b: _sigmoid(x), 0.0, 0.0),
        "affine": (lambda x, a, b: a * x + b, 1.0, 0.0),
        "leakyrelu": (lambda x, a, b: np.where(x >= 0, x, a * x), 0.01, 0.0),
        "thresholdedrelu": (lambda x, a, b: np.where(x >= a, x, 0), 1.0, 0.0),
        "scaledtanh": (lambda x, a, b: a * np.tanh(b * x), 1.0, 1.0),
        "hardsigmoid": (lambda x, a, b: np.clip(a * x + b, 0, 1), 0.2, 0.5),
        "elu": (lambda x, a, b: np.where(x >= 0, x, a * np.expm1(np.minimum(x, 0))), 1.0, 0.0),
        "softsign": (lambda x, a, b: x / (1 + np.abs(x)), 0.0, 0.0),
        "softplus": (lambda x, a, b: np.logaddexp(0, x).astype(x.dtype), 0.0, 0.0),
    }
)
"""By name in lower case: the function, and what alpha and beta are unless given."""

TAKES_ALPHA = ("affine", "leakyrelu", "thresholdedrelu", "scaledtanh", "hardsigmoid", "elu")
TAKES_BETA = ("affine", "scaledtanh", "hardsigmoid")


def directions_of(call: Arguments[Any]) -> int:
    """How many passes the layer makes over the sequence; raises E108 for an unknown direction."""
    direction = call.str("direction")
    if direction not in DIRECTIONS:
        raise LeptonError(
            f"{call.definition.name}.direction is {direction!r}, should be one of "
            f"{', '.join(DIRECTIONS)}",
            code="E108",
        )
    return 2 if direction == "bidirectional" else 1


@dataclass(frozen=True)
class Activation:
    """One activation with its numbers."""

    name: str
    alpha: float
    beta: float

    def __call__(self, x: Array) -> Array:
        """The activation of each element, in the type of `x`."""
        return ACTIVATIONS[self.name][0](x, self.alpha, self.beta).astype(x.dtype)


def activations_of(call: Arguments[Any], defaults: Sequence[str]) -> list[list[Activation]]:
    """The activations of each direction.

    Alphas and betas are dealt out in order to those activations that take one, as ONNX has it.
    """
    count = directions_of(call)
    given = call.attrs.get("activations")
    names = [str(name).lower() for name in given] if isinstance(given, tuple) else []
    names = names or [*defaults] * count
    if len(names) != len(defaults) * count:
        raise LeptonError(
            f"{call.definition.name} has {len(names)} activations, "
            f"should have {len(defaults) * count}",
            code="E108",
        )
    alphas, betas = (_numbers(call, f"activation_{part}") for part in ("alpha", "beta"))
    found: list[Activation] = []
    for name in names:
        if name not in ACTIVATIONS:
            raise LeptonError(
                f"{call.definition.name}: there is no activation {name!r}", code="E108"
            )
        _, alpha, beta = ACTIVATIONS[name]
        alpha = alphas.pop(0) if alphas and name in TAKES_ALPHA else alpha
        beta = betas.pop(0) if betas and name in TAKES_BETA else beta
        found.append(Activation(name, alpha, beta))
    each = len(defaults)
    return [found[i * each : (i + 1) * each] for i in range(count)]


def _numbers(call: Arguments[Any], name: str) -> list[float]:
    values = call.attrs.get(name)
    return (
        [float(value) for value in values if isinstance(value, int | float)]
        if isinstance(values, tuple)
        else []
    )
