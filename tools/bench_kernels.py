"""What bounds each kernel: its arithmetic and its memory against the peaks of this core."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction

from leptonc.backends.cpu.bf16_packing import OUTPUTS
from leptonc.backends.cpu.choices import Choice, choice
from leptonc.backends.cpu.peaks import Peaks
from leptonc.backends.cpu.target import CpuTarget
from leptonc.backends.tvm.regions import CONTROL, NO_CODE, scopes
from leptonc.backends.tvm.source import KernelSource, kernel_source
from leptonc.ir.dims import Dim, Expr, substitute, symbols
from leptonc.ir.graph import Graph, Op
from leptonc.ir.types import TensorType
from leptonc.passes.size import flops_of
from leptonc.tools.bench_profile import Argument, Call

SILENT = ("const", "dims", "return")
PACKED = (
    "packed_linear", "packed_linear_bytes", "packed_integer_linear", "packed_integer_conv",
    "packed_linear_bf16",
)  # fmt: skip
CONVOLUTIONS = (
    "packed_conv", "packed_conv_bf16", "packed_halved_conv", "packed_winograd",
    "packed_winograd_bf16",
)  # fmt: skip


@dataclass(frozen=True)
class Work:
    """What one call has to do at least."""

    flops: int
    weights: int
    """Bytes of constants that are read."""
    data: int
    """Bytes of all else that is read or written."""


@dataclass
class KernelRow:
    """All calls of one kernel in a run."""

    name: str
    operations: str
    nodes: tuple[str, ...]
    choice: Choice
    calls: int = 0
    seconds: float = 0.0
    flops: int = 0
    bytes: int = 0
    limits: dict[str, float] = field(default_factory=dict[str, float])
    """The seconds that arithmetic, and reading and writing each level of memory, take at least."""

    @property
    def bound(self) -> str:
        """What takes longest at least."""
        return max(self.limits, key=lambda name: self.limits[name], default="")

    @property
    def reached(self) -> float:
        """The share of the limit that is reached: 1 where the kernel could not be faster."""
        return max(self.limits.values(), default=0.0) / self.seconds if self.seconds else 0.0


def kernel_rows(
    graph: Graph, calls: Iterable[Call], cpu: CpuTarget, peaks: Peaks, threads: int = 1
) -> list[KernelRow]:
    """The kernels of a prepared graph that ran, those that took longest first.

    All constants together are in the nearest level of memory that holds them; so is the rest that
    a kernel takes. Threads multiply what a core can do.
    """
    sources = sources_of(graph)
    constants = sum(_constant_bytes(op) for op in graph.walk())
    rows: dict[str, KernelRow] = {}
    for call in calls:
        source = sources.get(call.name)
        if source is None:
            continue
        row = rows.setdefault(call.name, _row(source, cpu))
        work = work_of(source, call.arguments)
        row.calls += 1
        row.seconds += call.seconds
        row.flops += work.flops
        row.bytes += work.weights + work.data
        _add(row.limits, "compute", work.flops / peaks.flops / row.choice.rate / threads)
        for amount, size in ((work.weights, constants), (work.data, work.data)):
            level = peaks.level(size)
            _add(row.limits, level.name, amount / level.bandwidth / threads)
    return sorted(rows.values(), key=lambda row: -row.seconds)


def _constant_bytes(op: Op) -> int:
    blob = op.result.blob if op.name == "const" else None
    return 0 if blob is None else blob.size * -(-blob.type.dtype.width // 8)


def _add(limits: dict[str, float], name: str, seconds: float) -> None:
    if seconds:
        limits[name] = limits.get(name, 0.0) + seconds


def sources_of(graph: Graph) -> dict[str, KernelSource]:
    """The kernels of a prepared graph by their names."""
    found: dict[str, KernelSource] = {}
    for region in scopes(graph):
        for op in region:
            if op.name not in (*NO_CODE, *CONTROL, "extents"):
                source = kernel_source(op)
                found.setdefault(source.name, source)
    return found


def _row(source: KernelSource, cpu: CpuTarget) -> KernelRow:
    operations = [op for op in source.graph if op.name not in SILENT]
    nodes = dict.fromkeys(node for op in operations for node in op.location.nodes)
    names = " ".join(op.name for op in operations)
    return KernelRow(source.name, names, tuple(nodes), choice(source.graph, cpu))


def work_of(source: KernelSource, arguments: Sequence[Argument]) -> Work:
    """What a call with these arguments (inputs, scalars, outputs) has to do."""
    weights = data = 0
    for index, argument in enumerate(arguments):
        if isinstance(argument, int):
            continue
        shape, bits = argument
        size = -(-bits // 8)
        for extent in shape:
            size *= extent
        is_weight = index < len(source.inputs) and source.inputs[index].blob is not None
        weights, data = (weights + size, data) if is_weight else (weights, data + size)
    own = kernel_source(source.op).graph
    sizes = _sizes(source, arguments)
    for value in (*own.inputs, *(value for op in own for value in op.results)):
        shape = tuple(_known(dim, sizes) for dim in value.type.shape)
        value.type = TensorType(value.type.dtype, shape)
    return Work(sum(_flops(op) for op in own), weights, data)


def _sizes(source: KernelSource, arguments: Sequence[Argument]) -> Mapping[str, Dim]:
    """The extents that the arguments tell."""
    sizes: dict[str, Dim] = {}
    for value, argument in zip(source.graph.inputs, arguments, strict=False):
        if isinstance(argument, int) or len(argument[0]) != value.type.rank:
            continue
        for dim, extent in zip(value.type.shape, argument[0], strict=True):
            if isinstance(dim, Expr) and str(dim) in symbols(dim):
                sizes.setdefault(str(dim), extent)
    count = len(source.inputs)
    scalars = arguments[count : count + len(source.scalars)]
    for name, scalar in zip(source.scalars, scalars, strict=False):
        if isinstance(scalar, int):
            sizes.setdefault(name, scalar)
    return sizes


def _known(dim: Dim, sizes: Mapping[str, Dim]) -> Dim:
    return substitute(dim, dict(sizes)) if isinstance(dim, Expr) else dim


def _flops(op: Op) -> int:
    """As `flops_of`, for packed operations too."""
    if op.name not in PACKED and op.name not in CONVOLUTIONS:
        return flops_of(op)
    count = 2
    for dim in op.results[0].type.shape:
        count *= dim if isinstance(dim, int) else 1
    if op.name in CONVOLUTIONS:
        blocked = op.results[0].type.extents[1] * op.results[0].type.extents[-1]
        return count // blocked * op.int("filters") * _products(op) // 1
    _, depth, _, *together = op.operands[1].type.extents
    return count * depth * (together[0] if together else 1)


def _products(op: Op) -> Fraction:
    """How many products an output of a convolution takes, by the algorithm that was chosen."""
    channels = op.int("channels")
    if op.name == "packed_halved_conv":
        return Fraction(7 * channels, 8)
    if op.name.startswith("packed_winograd"):
        outputs = OUTPUTS if op.name.endswith("_bf16") else op.int("outputs")
        return Fraction(op.operands[1].type.extents[0] * channels, outputs**2)
    taps = Fraction(math.prod(op.ints("kernel_shape")))
    return taps if op.attrs["depthwise"] else taps * (channels // op.int("group"))
