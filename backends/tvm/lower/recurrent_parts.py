# pyright: standard
"""What kernels of recurrent layers are made of: activations, and products of rows with a vector."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from tvm import tirx

from leptonc.backends.cpu import emit
from leptonc.backends.tvm.lower.arithmetic import let
from leptonc.backends.tvm.vector_activation import sigmoid, softplus, tanh
from leptonc.backends.tvm.vector_math import absolute, at_least, clamp, expm1
from leptonc.ir.ops.recurrent_activations import Activation

ROWS = 4
"""So many rows are multiplied at once: their sums hide each other's latency."""

Function = Callable[[Any, Any, Any], Any]


def _zero(x: Any) -> Any:
    return tirx.const(0, str(x.ty))


def _one(x: Any) -> Any:
    return tirx.const(1, str(x.ty))


def _either(x: Any, choose: Callable[[Any], tuple[Any, Any, Any]]) -> Any:
    return let(x, lambda held: tirx.Select(*choose(held)))


FUNCTIONS: Mapping[str, Function] = MappingProxyType(
    {
        "relu": lambda x, a, b: at_least(x, 0),
        "tanh": lambda x, a, b: tanh(x),
        "sigmoid": lambda x, a, b: sigmoid(x),
        "affine": lambda x, a, b: a * x + b,
        "leakyrelu": lambda x, a, b: _either(x, lambda v: (v >= _zero(v), v, a * v)),
        "thresholdedrelu": lambda x, a, b: _either(x, lambda v: (v >= a, v, _zero(v))),
        "scaledtanh": lambda x, a, b: a * tanh(b * x),
        "hardsigmoid": lambda x, a, b: clamp(a * x + b, 0, 1),
        "elu": lambda x, a, b: _either(x, lambda v: (v >= _zero(v), v, a * expm1(v))),
        "softsign": lambda x, a, b: let(x, lambda v: v / (_one(v) + absolute(v))),
        "softplus": lambda x, a, b: softplus(x),
    }
)
"""Each activation as an expression of a number, alpha and beta."""


def activated(activation: Activation, x: Any) -> Any:
    """The activation of a scalar."""
    alpha, beta = (tirx.const(number, str(x.ty)) for number in (activation.alpha, activation.beta))
    return FUNCTIONS[activation.name](x, alpha, beta)


@dataclass(frozen=True)
class Vectors:
    """How wide the vectors of an element type are."""

    dtype: str
    lanes: int

    def each(self, count: Any, body: Callable[[Any], None]) -> None:
        """Emit `body(index)` for each index below `count`, whole vectors of them at once."""
        if isinstance(count, tirx.IntImm) and int(count) % self.lanes == 0 and self.lanes > 1:
            with emit.serial(int(count) // self.lanes) as step, emit.vectorized(self.lanes) as lane:
                body(step * emit.integer(self.lanes) + lane)
            return
        with emit.serial(count) as index:
            body(index)

    def add_products(self, target: Any, rows: Rows, vector: Any, at: Sequence[Any]) -> None:
        """Add the product of `rows` with the vector at `vector[*at, :]` to the row's `target`."""
        blocks = tirx.floordiv(rows.count, emit.integer(ROWS))
        with emit.serial(blocks) as block:
            first = block * emit.integer(ROWS)
            self._add_dots(target, rows, [first + i for i in range(ROWS)], vector, at)
        with emit.serial(rows.count - blocks * emit.integer(ROWS), blocks * ROWS) as row:
            self._add_dots(target, rows, [row], vector, at)

    def _add_dots(
        self, target: Any, rows: Rows, which: Sequence[Any], vector: Any, at: Sequence[Any]
    ) -> None:
        lanes, zero = self.lanes, tirx.const(0, self.dtype)
        sums = [emit.Register(lanes, self.dtype) for _ in which]
        for register in sums:
            register.set(emit.broadcast(zero, lanes))
        steps = tirx.floordiv(rows.length, emit.integer(lanes))
        with emit.serial(steps) as step:
            column = step * emit.integer(lanes)
            shared = emit.let(emit.load(vector, [*at, column], lanes))
            for register, row in zip(sums, which, strict=True):
                weights = emit.load(rows.weights, [*rows.head, rows.start + row, column], lanes)
                register.set(emit.fma(weights, shared, register.get()))
        totals = [emit.Register(1, self.dtype) for _ in which]
        for register, total in zip(sums, totals, strict=True):
            parts = [register.lane(lane) for lane in range(lanes)]
            while len(parts) > 1:
                parts = [a + b for a, b in zip(parts[::2], parts[1::2], strict=True)]
            total.set(parts[0])
        rest = rows.length - steps * emit.integer(lanes)
        with emit.serial(rest, steps * emit.integer(lanes)) as column:
            for total, row in zip(totals, which, strict=True):
                weight = emit.load(rows.weights, [*rows.head, rows.start + row, column])
                total.set(total.get() + weight * emit.load(vector, [*at, column]))
        for total, row in zip(totals, which, strict=True):
            emit.store(target, emit.load(target, [row]) + total.get(), [row])


@dataclass(frozen=True)
class Rows:
    """Some rows of a weight: `weights[*head, start + row, column]`."""

    weights: Any
    head: Sequence[Any]
    start: Any
    count: Any
    length: Any
