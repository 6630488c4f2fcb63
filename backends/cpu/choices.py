"""What was chosen for a kernel, and over what: for people who ask why it is as fast as it is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from leptonc.backends.cpu.bf16_packing import OUTPUTS
from leptonc.backends.cpu.target import CpuTarget, multiplies_bytes
from leptonc.backends.cpu.tiles import (
    MOST_ROWS,
    SYMBOLIC_ROWS,
    TYPICAL_ROWS,
    Tile,
    integer_tile_rows,
    matmul_cost,
    matmul_tile,
    tile_rows,
)
from leptonc.ir.dims import product
from leptonc.ir.graph import Graph, Op
from leptonc.ir.ops.bf16 import OPERANDS

WIDTHS = (1, 2, 3, 4)


@dataclass(frozen=True)
class Candidate:
    """One way to compute something, and how long the model of costs thinks that it takes."""

    name: str
    cycles: float


@dataclass(frozen=True)
class Choice:
    """What a kernel does, and what else it could have done; the first candidate was chosen.

    In the time of one operation of fp32, the CPU can do `rate` of the kernel's.
    """

    algorithm: str
    candidates: tuple[Candidate, ...] = ()
    rate: float = 1.0


def choice(graph: Graph, cpu: CpuTarget) -> Choice:
    """What was chosen for a kernel with this graph."""
    for op in graph:
        if op.name in CHOICES:
            found = CHOICES[op.name](op, cpu)
            decision = op.attrs.get("decision")
            if decision:
                return replace(found, algorithm=f"{found.algorithm} (measured: {decision})")
            return found
    return Choice("loops")


def _linear(op: Op, cpu: CpuTarget) -> Choice:
    rows = product(op.operands[0].type.shape[:-1])
    _, depth, panel = op.operands[1].type.extents
    count = rows if isinstance(rows, int) else None
    return Choice(
        "packed product", _tiles(count, op.int("columns"), depth, panel // cpu.lanes, cpu)
    )


def _linear_bf16(op: Op, cpu: CpuTarget) -> Choice:
    rows = product(op.operands[0].type.shape[:-1])
    _, pairs, panel, _ = op.operands[1].type.extents
    count = rows if isinstance(rows, int) else None
    rate = 2.0 if op.attrs["rounds"] == OPERANDS else 1.0
    tiles = _tiles(count, op.int("columns"), 2 * pairs, panel // cpu.lanes, cpu)
    return Choice("packed product of bf16", tiles, rate)


def _integer_linear(op: Op, cpu: CpuTarget) -> Choice:
    x, w = (value.type for value in op.operands[:2])
    rows = product(x.shape[:-1])
    known = rows if isinstance(rows, int) else None
    return _integers("packed product", known, op.int("columns"), w.extents, cpu)


def _integer_conv(op: Op, cpu: CpuTarget) -> Choice:
    pixels = product(op.result.type.shape[2:4])
    known = pixels if isinstance(pixels, int) else None
    weight = op.operands[1].type.extents
    kind = "first layer" if op.attrs["plain"] else "direct convolution"
    return _integers(kind, known, op.int("filters"), weight, cpu)


def _integers(
    kind: str, rows: int | None, columns: int, weight: tuple[int, ...], cpu: CpuTarget
) -> Choice:
    """Integers, over the product of floats that the same model could be computed by."""
    count = TYPICAL_ROWS if rows is None else max(rows, 1)
    _, steps, panel, together = weight
    integers = Tile(integer_tile_rows(panel // cpu.lanes, together, cpu), panel // cpu.lanes)
    floats = matmul_tile(rows, columns, together * steps, cpu)
    rate = 4 if together == 4 and multiplies_bytes(cpu) else 2
    depth = together * steps
    candidates = (
        Candidate("integers", depth / rate * matmul_cost(count, columns, integers, cpu)),
        Candidate("floats", depth * matmul_cost(count, columns, floats, cpu)),
    )
    return Choice(f"{kind} of integers", candidates, rate)


def _conv(op: Op, cpu: CpuTarget) -> Choice:
    if op.attrs["depthwise"]:
        return Choice("depthwise convolution")
    height, width = op.ints("kernel_shape")
    group, channels = op.int("group"), op.int("channels")
    pixels = product(op.result.type.shape[2:4])
    panel = op.operands[1].type.extents[2]
    if panel < cpu.lanes:
        return Choice("convolution to one filter")
    columns = -(-op.int("filters") // group // cpu.lanes) * cpu.lanes
    tiles = _tiles(
        pixels if isinstance(pixels, int) else None, columns, channels // group * height * width,
        panel // cpu.lanes, cpu,
    )  # fmt: skip
    kind = "pointwise" if height * width == 1 else "first layer" if op.attrs["plain"] else "direct"
    if op.name == "packed_conv_bf16":
        return Choice(f"{kind} convolution of bf16", tiles, rate=2.0)
    return Choice(f"{kind} convolution", tiles)


def _winograd(op: Op, cpu: CpuTarget) -> Choice:
    return Choice(f"Winograd's tiles of {op.int('outputs')} x {op.int('outputs')}")


def _winograd_bf16(op: Op, cpu: CpuTarget) -> Choice:
    return Choice(f"Winograd's tiles of {OUTPUTS} x {OUTPUTS} of bf16", rate=2.0)


def _tiles(
    rows: int | None, columns: int, depth: int, vectors: int, cpu: CpuTarget
) -> tuple[Candidate, ...]:
    """The tile that was chosen, which has so many vectors, then the others, the best first."""
    count = TYPICAL_ROWS if rows is None else max(rows, 1)
    most = SYMBOLIC_ROWS if rows is None else min(count, MOST_ROWS)
    found: list[tuple[bool, float, str]] = []
    for width in WIDTHS:
        heights = range(1, max(1, min(most, tile_rows(width, cpu))) + 1)
        cycles, height = min(
            (matmul_cost(count, columns, Tile(height, width), cpu), -height) for height in heights
        )
        name = f"{-height} rows x {width * cpu.lanes}"
        found.append((width != vectors, cycles * depth, name))
    return tuple(Candidate(name, cycles) for _, cycles, name in sorted(found))


def _named(algorithm: str) -> Callable[[Op, CpuTarget], Choice]:
    return lambda op, cpu: Choice(algorithm)


CHOICES: Mapping[str, Callable[[Op, CpuTarget], Choice]] = {
    "packed_linear": _linear,
    "packed_linear_bytes": _linear,
    "packed_linear_bf16": _linear_bf16,
    "packed_integer_linear": _integer_linear,
    "packed_conv": _conv,
    "packed_conv_bf16": _conv,
    "packed_halved_conv": _named("pointwise convolution in halves"),
    "packed_integer_conv": _integer_conv,
    "packed_integer_depthwise": _named("depthwise convolution of integers"),
    "packed_integer_winograd": _named("Winograd's tiles of 4 x 4 of integers"),
    "packed_winograd": _winograd,
    "packed_winograd_bf16": _winograd_bf16,
    "attention": _named("attention without stored scores"),
    "packed_recurrent": _named("packed recurrence"),
    "matmul": _named("product of variables"),
    "fused_matmul": _named("product of variables"),
    "softmax": _named("rows"),
    "log_softmax": _named("rows"),
    "layer_normalization": _named("rows"),
    "rms_normalization": _named("rows"),
    "max_pool_blocked": _named("pooling in blocks"),
    "average_pool_blocked": _named("pooling in blocks"),
    "global_average_pool_blocked": _named("pooling in blocks"),
    "pack_channels": _named("transposition"),
    "unpack_channels": _named("transposition"),
}
"""The operations with kernels of their own, by what is told of them."""
