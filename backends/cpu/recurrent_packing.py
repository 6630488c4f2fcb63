"""Weights of recurrent layers in the order in which their kernel reads them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from leptonc.backends.cpu.packing import Floats, matmul_weight_shape, pack_matmul_weight
from leptonc.backends.cpu.target import CpuTarget
from leptonc.backends.cpu.tiles import matmul_panel, recurrent_units
from leptonc.ir.ops.recurrent_packed import Phase, gates_by_phase

CHUNK_ROWS = 48
"""So many rows of inputs are multiplied at once: enough for whole tiles, few enough for a cache."""
SYMBOLIC_CHUNK = 8
"""So many steps at once where the batch is symbolic."""


@dataclass(frozen=True)
class RecurrentWeight:
    """The sizes of a recurrent layer's weights.

    `linear` is a gated recurrent unit whose last gate multiplies the state before it is reset: its
    recurrent bias stays apart, behind the others.
    """

    directions: int
    inputs: int
    hidden: int
    phases: tuple[Phase, ...]
    panel: int
    linear: bool = False

    @property
    def columns(self) -> int:
        """The columns of the input product, those that fill up panels included."""
        return sum(phase.panels(self.hidden) * phase.width for phase in self.phases)

    @property
    def padded(self) -> int:
        """The most units that the panels of a phase have."""
        return max(phase.panels(self.hidden) * phase.units for phase in self.phases)

    @property
    def rows(self) -> NDArray[np.int64]:
        """Which row of an ONNX weight each column is; -1 for unused ones."""
        return np.concatenate([phase.rows(self.hidden) for phase in self.phases])

    @property
    def input_shape(self) -> tuple[int, int, int, int]:
        """The shape of the packed input weight."""
        return self.directions, *matmul_weight_shape(self.inputs, self.columns, self.panel)

    @property
    def recurrent_shape(self) -> tuple[int, int]:
        """The shape of the packed recurrent weight."""
        return self.directions, self.columns * self.hidden

    @property
    def bias_shape(self) -> tuple[int, int]:
        """The shape of the packed bias."""
        return self.directions, self.columns + (self.padded if self.linear else 0)


def recurrent_weight(
    layer: str, shape: Sequence[int], extents: tuple[int | None, int | None], cpu: CpuTarget, *,
    linear: bool,
) -> RecurrentWeight:  # fmt: skip
    """How to pack the weights of a layer for so many steps and examples, None where symbolic.

    `shape` is directions, inputs and units.
    """
    directions, inputs, hidden = shape
    steps, batch = extents
    phases = tuple(
        Phase(gates, recurrent_units(batch, hidden, len(gates), cpu))
        for gates in gates_by_phase(layer, linear=linear)
    )
    sizes = RecurrentWeight(directions, inputs, hidden, phases, 0, linear and layer == "gru")
    rows = None if batch is None or steps is None else batch * chunk_steps(steps, batch)
    panel = matmul_panel(rows, sizes.columns, inputs, cpu)
    return RecurrentWeight(directions, inputs, hidden, phases, panel, sizes.linear)


def chunk_steps(steps: int | None, batch: int | None) -> int:
    """The steps whose inputs are multiplied at once."""
    fitting = SYMBOLIC_CHUNK if batch is None else max(1, CHUNK_ROWS // max(batch, 1))
    return fitting if steps is None else max(1, min(fitting, steps))


def pack_input_weight(weight: Floats, sizes: RecurrentWeight) -> Floats:
    """An input weight f32[directions, gates * hidden, inputs] in panels of columns."""
    taken = _taken(weight, sizes.rows)
    return np.stack([pack_matmul_weight(one, sizes.panel, transposed=True) for one in taken])


def pack_recurrent_weight(weight: Floats, sizes: RecurrentWeight) -> Floats:
    """A recurrent weight f32[directions, gates * hidden, hidden], phase by phase, in panels."""
    parts: list[Floats] = []
    for phase in sizes.phases:
        taken = _taken(weight, phase.rows(sizes.hidden))
        panels = taken.reshape(sizes.directions, -1, phase.width, sizes.hidden)
        parts.append(panels.swapaxes(2, 3).reshape(sizes.directions, -1))
    return np.ascontiguousarray(np.concatenate(parts, axis=1))


def pack_recurrent_bias(bias: Floats, sizes: RecurrentWeight) -> Floats:
    """The two biases f32[directions, 2 * gates * hidden] as one value a column."""
    given, recurrent = np.split(bias, 2, axis=1)
    if not sizes.linear:
        return _taken(given + recurrent, sizes.rows)
    total = given + recurrent
    total[:, -sizes.hidden :] = given[:, -sizes.hidden :]
    apart = np.zeros((sizes.directions, sizes.padded), np.float32)
    apart[:, : sizes.hidden] = recurrent[:, -sizes.hidden :]
    return np.concatenate([_taken(total, sizes.rows), apart], axis=1)


def _taken(array: Floats, rows: NDArray[np.int64]) -> Floats:
    """Some rows of each direction, zeros for those that are -1."""
    taken = array[:, rows]
    taken[:, rows < 0] = 0
    return taken
