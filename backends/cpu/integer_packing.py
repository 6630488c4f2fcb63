"""Weights in the order in which products of integers read them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from leptonc.backends.cpu.packing import Array, pack_matmul_weight
from leptonc.backends.cpu.target import CpuTarget, largest_neighbours, multiplies_bytes
from leptonc.backends.cpu.tiles import integer_panel
from leptonc.ir.blob import Blob
from leptonc.ir.ops.integer_linear import beyond
from leptonc.ir.types import DType, TensorType

# Steps whose products are added in 16 bits, and the time of one of them.
FOLDED = {1: 1.0, 2: 0.87}
# With fewer rows than these, or with any number, starting with the extra steps of each panel takes
# more than they do: so much each.
FEW, EXTRA = 16, 2.5


def integer_weight_shape(
    depth: int, columns: int, panel: int, together: int
) -> tuple[int, int, int, int]:
    """The shape of a weight packed for integer products: `together` of the depth side by side."""
    return -(-columns // panel), -(-depth // together), panel, together


def pack_integer_weight(weight: Array, panel: int, together: int) -> Array:
    """A weight depth x columns in panels of columns, `together` of the depth side by side."""
    depth, columns = weight.shape
    filled = np.zeros((depth + -depth % together, columns), weight.dtype)
    filled[:depth] = weight
    parts = [pack_matmul_weight(filled[start::together], panel) for start in range(together)]
    return np.ascontiguousarray(np.stack(parts, axis=-1))


@dataclass(frozen=True)
class ByteWeight:
    """A weight that bytes are multiplied by, four of the depth side by side.

    No two neighbours in it add up to more than `most`, nor do those of `folds` steps together, and
    none needs more than a byte. What is left of those that would is in `extra` steps: each panel
    has some, at places of the depth.
    """

    weight: Array
    panel: int
    most: int
    folds: int = 1

    @cached_property
    def layers(self) -> list[Array]:
        """Parts of the weight, which add up to it; all but the first have few numbers."""
        return list(_layers(self.weight, self.most, self.folds))

    @cached_property
    def steps(self) -> list[list[tuple[int, int]]]:
        """For each panel, what is in its extra steps: the layer, and where in the depth."""
        columns = self.weight.shape[1]
        starts = range(0, columns, self.panel)
        found: list[list[tuple[int, int]]] = [[] for _ in starts]
        for layer, part in enumerate(self.layers[1:], 1):
            for panel, start in enumerate(starts):
                rows = np.flatnonzero(part[:, start : start + self.panel].any(1))
                found[panel] += [(layer, int(place)) for place in np.unique(rows // 4) * 4]
        return found

    @property
    def count(self) -> int:
        """The number of extra steps of all panels."""
        return sum(map(len, self.steps))

    def cost(self, rows: int | None) -> float:
        """The time of all steps, in that of one whose sums are added in 32 bits at once."""
        depth, columns = self.weight.shape
        extra = self.count * (EXTRA if rows is None or rows < FEW else 1)
        return -(-depth // 4) * -(-columns // self.panel) * FOLDED[self.folds] + extra

    def dense(self) -> Array:
        """The first part, packed."""
        return pack_integer_weight(self.layers[0].astype(np.int8), self.panel, 4)

    def extra(self) -> Array:
        """The weights of the extra steps."""
        packed = np.zeros((self.count, self.panel, 4), np.int8)
        each = ((panel, step) for panel, steps in enumerate(self.steps) for step in steps)
        for out, (panel, (layer, place)) in zip(packed, each, strict=True):
            at = self._within(place)
            part = self.layers[layer][place : place + 4, panel * self.panel :][:, : self.panel]
            out[: part.shape[1], place - at : place - at + part.shape[0]] = part.T
        return packed

    def places(self) -> Array:
        """Where in the depth the operands of the extra steps begin."""
        return np.array([self._within(at) for part in self.steps for _, at in part], np.int32)

    def starts(self) -> Array:
        """The first extra step of each panel, and their end."""
        return np.cumsum([0, *map(len, self.steps)]).astype(np.int32)

    def _within(self, place: int) -> int:
        """A step at the end of the depth begins earlier: it reads nothing behind a row."""
        return min(place, self.weight.shape[0] - 4)


def _layers(weight: Array, most: int, folds: int) -> Iterator[Array]:
    """Parts of a weight, the first one with most of it; only its steps are folded."""
    if weight.dtype == np.int8 and most >= 2 * folds * 128:
        yield weight
        return
    wide = np.int16 if weight.itemsize <= 2 else np.int32
    rest, end = weight.astype(wide), len(weight) // 4 * 4
    part = np.clip(rest, -128, 127).astype(np.int8)
    while True:
        share = most // (2 * folds)
        large = beyond(part, most, folds)
        if large.any():
            part = np.where(large, np.clip(part, -share, min(share, 127)), part)
        yield part
        rest, folds = rest - part, 1
        if not rest.any():
            return
        part = np.clip(rest, -128, 127).astype(np.int8)
        # a step that begins earlier may put others side by side
        part[end:] = np.clip(part[end:], -(most // 2), min(most // 2, 127))


def integer_blobs(
    rows_type: DType, weight: Blob, rows: int | None, cpu: CpuTarget, panel: int = 0
) -> tuple[dict[str, Blob], int] | None:
    """The weight packed for rows of this type, and its folds; None where it does not fit.

    Without a width of panels, a formula chooses it.
    """
    depth, columns = weight.type.extents
    together = 4 if rows_type is DType.U8 else 2
    panel = panel or integer_panel(rows, columns, together, cpu)
    if depth == 0 or columns == 0:
        return None
    if together == 2:
        type = TensorType(weight.type.dtype, integer_weight_shape(depth, columns, panel, together))
        return {"w": Blob(type, lambda: pack_integer_weight(weight.array, panel, together))}, 1
    most = largest_neighbours(cpu)
    if most == 0:
        return None
    folds = (1,) if multiplies_bytes(cpu) else FOLDED
    packed = _best(weight.array, panel, most, folds, rows)
    if packed.count and depth < 4:
        return None
    return _blobs(packed), packed.folds


def _best(
    weight: Array, panel: int, most: int, folds: Iterable[int], rows: int | None
) -> ByteWeight:
    """The weight with that number of folds that takes the least time."""
    ways = (ByteWeight(weight, panel, most, number) for number in folds)
    return min(ways, key=lambda way: way.cost(rows))


def _blobs(packed: ByteWeight) -> dict[str, Blob]:
    found = {"w": Blob.of(packed.dense())}
    if packed.count:
        more = {"extra": packed.extra(), "places": packed.places(), "starts": packed.starts()}
        found.update({name: Blob.of(array) for name, array in more.items()})
    return found


def integer_conv_blobs(
    weight: Blob, pixels: int | None, lanes: int, cpu: CpuTarget, panel: int
) -> tuple[dict[str, Blob], int]:
    """The weight of a convolution of bytes in blocks of channels, packed, and its folds."""
    most = largest_neighbours(cpu)
    steps = lanes // 4
    folds = [1] if multiplies_bytes(cpu) else [number for number in FOLDED if steps % number == 0]
    packed = _best(conv_matrix(weight.array, lanes), panel, most, folds, pixels)
    return _blobs(packed), packed.folds


def conv_matrix(weight: Array, lanes: int) -> Array:
    """The weight of a convolution as depth x filters: block of channels, row, column, channel."""
    filters, channels, height, width = weight.shape
    filled = np.zeros((filters, channels + -channels % lanes, height, width), weight.dtype)
    filled[:, :channels] = weight
    blocks = filled.reshape(filters, -1, lanes, height, width)
    return np.ascontiguousarray(blocks.transpose(1, 3, 4, 2, 0).reshape(-1, filters))


def pack_words(weight: Array, lanes: int, filler: int) -> Array:
    """A weight i8[C, 1, KH, KW] in the lower halves of words i32[C / lanes, KH KW + 1, lanes].

    The last row is what the filler adds to the sum over a whole window.
    """
    channels, _, height, width = weight.shape
    words = np.zeros((channels + -channels % lanes, height * width + 1), np.int32)
    words[:channels, :-1] = weight.reshape(channels, -1).astype(np.int16).astype(np.uint16)
    words[:channels, -1] = filler * weight.sum((1, 2, 3), dtype=np.int32)
    return np.ascontiguousarray(words.reshape(-1, lanes, words.shape[1]).swapaxes(1, 2))
