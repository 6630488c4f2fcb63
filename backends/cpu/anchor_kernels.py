# pyright: standard
"""The operations with a kernel of their own: from an operation to what its emitter takes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from tvm import tirx

from leptonc.backends.cpu.batched_matmul import BatchedMatmulSpec, batched_matmul
from leptonc.backends.cpu.bf16_conv import Bf16ConvSpec, bf16_conv
from leptonc.backends.cpu.bf16_matmul import Bf16MatmulSpec, bf16_matmul
from leptonc.backends.cpu.bf16_packing import OUTPUTS as BF16_OUTPUTS
from leptonc.backends.cpu.bf16_winograd import bf16_winograd
from leptonc.backends.cpu.conv import conv
from leptonc.backends.cpu.conv_single import SingleConvSpec, single_conv
from leptonc.backends.cpu.conv_spec import ConvSpec
from leptonc.backends.cpu.decision import Decision
from leptonc.backends.cpu.depthwise import DepthwiseSpec, depthwise
from leptonc.backends.cpu.emit import Epilogue, Extent, Shape
from leptonc.backends.cpu.halved_conv import HalvedConvSpec, halved_conv
from leptonc.backends.cpu.integer_conv import IntegerConvSpec, integer_conv
from leptonc.backends.cpu.integer_depthwise import IntegerDepthwiseSpec, integer_depthwise
from leptonc.backends.cpu.integer_matmul import IntegerMatmulSpec, integer_matmul
from leptonc.backends.cpu.integer_planes import integer_planes
from leptonc.backends.cpu.integer_winograd import IntegerWinogradSpec, integer_winograd
from leptonc.backends.cpu.integer_winograd_packing import OUTPUTS
from leptonc.backends.cpu.layout import LayoutSpec, pack, unpack
from leptonc.backends.cpu.matmul import MatmulSpec, matmul
from leptonc.backends.cpu.packing import ConvWeight
from leptonc.backends.cpu.pool import MeanSpec, PoolSpec, global_mean, pool
from leptonc.backends.cpu.rows import NormSpec, SoftmaxSpec, norm, softmax
from leptonc.backends.cpu.target import CpuTarget
from leptonc.backends.cpu.whole import WholeSpec, whole
from leptonc.backends.cpu.window import Window
from leptonc.backends.cpu.winograd import WinogradSpec, winograd
from leptonc.backends.cpu.winograd_strided import strided_winograd
from leptonc.backends.tvm.lowering import TVM_DTYPE, DimTable
from leptonc.ir.graph import Op
from leptonc.ir.ops.bf16 import OPERANDS
from leptonc.ir.types import DType, TensorType


@dataclass(frozen=True)
class Anchor:
    """An operation with a kernel of its own, and what the kernel's emitter needs of its group."""

    op: Op
    dims: DimTable
    epilogue: Epilogue
    out_dtype: str
    cpu: CpuTarget

    def shape(self, type: TensorType) -> Shape:
        """Extents as the emitters take them."""
        return tuple(
            dim if isinstance(dim, int) else self.dims.expression(dim) for dim in type.shape
        )


def _packed_linear(anchor: Anchor) -> tirx.PrimFunc | None:
    x, w, *bias = anchor.op.operands
    _, depth, panel = w.type.extents
    spec = MatmulSpec(
        anchor.shape(x.type)[:-1],
        depth,
        anchor.op.int("columns"),
        panel,
        bool(bias),
        anchor.epilogue,
        anchor.out_dtype,
        decision=_decision(anchor.op),
    )
    return matmul("kernel", spec, anchor.cpu)


def _packed_linear_bytes(anchor: Anchor) -> tirx.PrimFunc | None:
    x, w, *_ = anchor.op.operands
    _, depth, panel = w.type.extents
    spec = MatmulSpec(
        anchor.shape(x.type)[:-1], depth, anchor.op.int("columns"), panel, False,
        anchor.epilogue, anchor.out_dtype, "int8", anchor.op.int("block_size"),
    )  # fmt: skip
    return matmul("kernel", spec, anchor.cpu)


def _packed_linear_bf16(anchor: Anchor) -> tirx.PrimFunc | None:
    op = anchor.op
    x, w, *bias = op.operands
    *lead, depth = anchor.shape(x.type)
    if not isinstance(depth, int):
        return None
    spec = Bf16MatmulSpec(
        tuple(lead), depth, op.int("columns"), w.type.extents[2], bool(bias), anchor.epilogue,
        anchor.out_dtype, op.attrs["rounds"] == OPERANDS,
    )  # fmt: skip
    return bf16_matmul("kernel", spec, anchor.cpu)


def _packed_integer_linear(anchor: Anchor) -> tirx.PrimFunc | None:
    op = anchor.op
    x, w, *_ = (value.type for value in op.operands)
    *lead, depth = anchor.shape(x)
    if not isinstance(depth, int):
        return None
    extra = op.operand("extra")
    spec = IntegerMatmulSpec(
        tuple(lead), depth, op.int("columns"), w.extents[2], anchor.epilogue,
        anchor.out_dtype, TVM_DTYPE[x.dtype], TVM_DTYPE[w.dtype],
        0 if extra is None else extra.type.extents[0], op.int("folds"), _decision(op),
    )  # fmt: skip
    return integer_matmul("kernel", spec, anchor.cpu)


def _packed_conv(anchor: Anchor) -> tirx.PrimFunc | None:
    op = anchor.op
    _, w, *bias = op.operands
    batch, _, height, width = _blocked_extents(anchor, plain=bool(op.attrs["plain"]))
    window, channels = _window(op), op.int("channels")
    if op.attrs["depthwise"]:
        single = DepthwiseSpec(
            batch, channels, height, width, window, bool(bias), anchor.epilogue,
            anchor.out_dtype, _decision(op),
        )  # fmt: skip
        return depthwise("kernel", single, anchor.cpu)
    sizes = ConvWeight(
        channels, op.int("filters"), window.kernel, op.int("group"), bool(op.attrs["plain"])
    )
    lanes, panel = anchor.cpu.lanes, w.type.extents[2]
    given = (
        batch, height, width, sizes, window, max(panel, lanes), bool(bias), anchor.epilogue,
        anchor.out_dtype, _decision(op),
    )  # fmt: skip
    if panel < lanes:
        return single_conv("kernel", SingleConvSpec(*given), anchor.cpu)
    if op.name == "packed_conv_bf16":
        carried = TVM_DTYPE[op.operands[0].type.dtype]
        return bf16_conv("kernel", Bf16ConvSpec(*given, x_dtype=carried), anchor.cpu)
    return conv("kernel", ConvSpec(*given), anchor.cpu)


def _packed_halved_conv(anchor: Anchor) -> tirx.PrimFunc | None:
    op = anchor.op
    _, w, *bias = op.operands
    batch, channels, height, width = _blocked_extents(anchor)
    sizes = ConvWeight(channels, op.int("filters"), (1, 1))
    spec = HalvedConvSpec(
        batch, height, width, sizes, _window(op), w.type.extents[3], bool(bias), anchor.epilogue,
        anchor.out_dtype, _decision(op),
    )  # fmt: skip
    return halved_conv("kernel", spec, anchor.cpu)


def _packed_integer_conv(anchor: Anchor) -> tirx.PrimFunc | None:
    op = anchor.op
    plain = bool(op.attrs["plain"])
    batch, channels, height, width = _blocked_extents(anchor, plain=plain)
    window, extra = _window(op), op.operand("extra")
    sizes = ConvWeight(channels, op.int("filters"), window.kernel, plain=plain)
    spec = IntegerConvSpec(
        batch, height, width, sizes, window,
        op.operands[1].type.extents[2], False, anchor.epilogue, anchor.out_dtype, _decision(op),
        op.int("filler"), 0 if extra is None else extra.type.extents[0], op.int("folds"),
        op.operand("point") is not None,
    )  # fmt: skip
    if plain:
        return integer_planes("kernel", spec, anchor.cpu)
    return integer_conv("kernel", spec, anchor.cpu)


def _packed_integer_depthwise(anchor: Anchor) -> tirx.PrimFunc | None:
    op = anchor.op
    batch, channels, height, width = _blocked_extents(anchor)
    spec = IntegerDepthwiseSpec(
        batch, channels, height, width, _window(op), op.int("filler"), anchor.epilogue,
        anchor.out_dtype, _decision(op), op.operand("point") is not None,
    )  # fmt: skip
    return integer_depthwise("kernel", spec, anchor.cpu)


def _packed_integer_winograd(anchor: Anchor) -> tirx.PrimFunc | None:
    op = anchor.op
    batch, channels, height, width = _blocked_extents(anchor)
    spec = IntegerWinogradSpec(
        batch, channels, op.int("filters"), height, width, _window(op).pads, OUTPUTS,
        op.operands[1].type.extents[3], False, anchor.epilogue, anchor.out_dtype, _decision(op),
        filler=op.int("filler"),
    )  # fmt: skip
    return integer_winograd("kernel", spec, anchor.cpu)


def _packed_winograd(anchor: Anchor) -> tirx.PrimFunc | None:
    op = anchor.op
    _, w, *bias = op.operands
    batch, _, height, width = _blocked_extents(anchor)
    rounds, window = op.name == "packed_winograd_bf16", _window(op)
    spec = WinogradSpec(
        batch, op.int("channels"), op.int("filters"), height, width, window.pads,
        BF16_OUTPUTS if rounds else op.int("outputs"), w.type.extents[3], bool(bias),
        anchor.epilogue, anchor.out_dtype, _decision(op), window.strides[0],
    )  # fmt: skip
    if window.strides[0] > 1:
        return strided_winograd("kernel", spec, anchor.cpu)
    return (bf16_winograd if rounds else winograd)("kernel", spec, anchor.cpu)


def _blocked_extents(anchor: Anchor, *, plain: bool = False) -> tuple[Extent, int, Extent, Extent]:
    """Batch, channels (those that fill up included), height and width of the operand."""
    type = anchor.op.operands[0].type
    shape = anchor.shape(type)
    channels = type.shape[1] if plain else type.shape[1] * type.shape[-1]
    assert isinstance(channels, int)
    return shape[0], channels, shape[2], shape[3]


def _max_pool(anchor: Anchor) -> tirx.PrimFunc | None:
    return _pool(anchor, "max", count_pads=False)


def _average_pool(anchor: Anchor) -> tirx.PrimFunc | None:
    return _pool(anchor, "mean", count_pads=bool(anchor.op.int("count_include_pad")))


def _pool(anchor: Anchor, kind: str, *, count_pads: bool) -> tirx.PrimFunc | None:
    if anchor.op.attrs["auto_pad"] not in ("NOTSET", "VALID"):
        return None
    dtype = anchor.op.operands[0].type.dtype
    batch, channels, height, width = _blocked_extents(anchor)
    spec = PoolSpec(
        kind, batch, channels, height, width,
        _window(anchor.op), bool(anchor.op.int("ceil_mode")), count_pads,
        anchor.epilogue, anchor.out_dtype, TVM_DTYPE[dtype],
    )  # fmt: skip
    return pool("kernel", spec, anchor.cpu)


def _global_average_pool(anchor: Anchor) -> tirx.PrimFunc | None:
    spec = MeanSpec(*_blocked_extents(anchor), anchor.epilogue, anchor.out_dtype)
    return global_mean("kernel", spec, anchor.cpu)


def _pack(anchor: Anchor) -> tirx.PrimFunc | None:
    type = anchor.op.operands[0].type
    if type.dtype is not DType.F32 or type.rank != 4 or anchor.op.int("lanes") != anchor.cpu.lanes:
        return None
    return pack("kernel", LayoutSpec(*_blocked_extents(anchor, plain=True)), anchor.cpu)


def _unpack(anchor: Anchor) -> tirx.PrimFunc | None:
    type = anchor.op.operands[0].type
    if type.dtype is not DType.F32 or type.rank != 5 or type.shape[-1] != anchor.cpu.lanes:
        return None
    batch, _, height, width = _blocked_extents(anchor)
    return unpack("kernel", LayoutSpec(batch, anchor.op.int("channels"), height, width), anchor.cpu)


def _is_f32(op: Op) -> bool:
    return all(value.type.dtype is DType.F32 for value in (*op.operands, op.results[0]))


def _is_last(op: Op) -> bool:
    """True where the operation works along the last axis."""
    rank = op.operands[0].type.rank
    return rank > 0 and op.int("axis") % rank == rank - 1


def _softmax(anchor: Anchor) -> tirx.PrimFunc | None:
    op = anchor.op
    if not _is_f32(op) or not _is_last(op):
        return None
    *lead, width = anchor.shape(op.operands[0].type)
    logarithm = op.name == "log_softmax"
    spec = SoftmaxSpec(tuple(lead), width, logarithm, anchor.epilogue, anchor.out_dtype)
    return softmax("kernel", spec, anchor.cpu)


def _norm(anchor: Anchor) -> tirx.PrimFunc | None:
    op = anchor.op
    x, *affine = op.operands
    if not _is_f32(op) or not _is_last(op) or any(result.is_used for result in op.results[1:]):
        return None
    if any(value.type.shape != x.type.shape[-1:] for value in affine):
        return None
    *lead, width = anchor.shape(x.type)
    spec = NormSpec(
        tuple(lead), width, op.float("epsilon"),
        op.name == "layer_normalization", True, len(affine) == 2,
        anchor.epilogue, anchor.out_dtype,
    )  # fmt: skip
    return norm("kernel", spec, anchor.cpu)


def _whole(anchor: Anchor) -> tirx.PrimFunc | None:
    """Reductions over all axes."""
    op = anchor.op
    x, result = op.operands[0].type, op.results[0].type
    if not _is_f32(op) or len(op.operands) > 1 or op.int("noop_with_empty_axes") or x.rank == 0:
        return None
    kind = op.name.removeprefix("reduce_")
    spec = WholeSpec(
        anchor.shape(x), kind, anchor.shape(result), anchor.epilogue, anchor.out_dtype
    )  # fmt: skip
    return whole("kernel", spec, anchor.cpu)


def _matmul(anchor: Anchor) -> tirx.PrimFunc | None:
    op = anchor.op
    a, b = op.operands[0].type, op.operands[1].type
    if not _is_f32(op) or a.rank != b.rank or a.rank < 2:
        return None
    if (
        any(op.attrs.get(name) for name in ("transBatchA", "transBatchB"))
        or op.attrs.get("alpha", 1.0) != 1.0
    ):
        return None
    turned = bool(op.attrs.get("transA")), bool(op.attrs.get("transB"))
    left, right = anchor.shape(a), anchor.shape(b)
    rows, depth = left[-2:] if not turned[0] else left[:-3:-1]
    columns = right[-2] if turned[1] else right[-1]
    batch = anchor.shape(op.results[0].type)[:-2]
    spec = BatchedMatmulSpec(
        left[:-2], right[:-2], rows, depth, columns, *turned, anchor.epilogue, anchor.out_dtype,
        batch,
    )  # fmt: skip
    return batched_matmul("kernel", spec, anchor.cpu)


def _decision(op: Op) -> Decision:
    return Decision.parse(op.str("decision"))


def _window(op: Op) -> Window:
    pads = op.ints("pads") or (0, 0, 0, 0)
    return Window(
        _pair(op.ints("kernel_shape")),
        _pair(op.ints("strides") or (1, 1)),
        _pair(op.ints("dilations") or (1, 1)),
        (pads[0], pads[1], pads[2], pads[3]),
    )  # fmt: skip


def _pair(values: Sequence[int]) -> tuple[int, int]:
    return values[0], values[1]


Emitter = Callable[[Anchor], "tirx.PrimFunc | None"]

ANCHORS: Mapping[str, Emitter] = {
    "packed_linear": _packed_linear,
    "packed_linear_bytes": _packed_linear_bytes,
    "packed_linear_bf16": _packed_linear_bf16,
    "packed_integer_linear": _packed_integer_linear,
    "packed_conv": _packed_conv,
    "packed_conv_bf16": _packed_conv,
    "packed_halved_conv": _packed_halved_conv,
    "packed_integer_conv": _packed_integer_conv,
    "packed_integer_depthwise": _packed_integer_depthwise,
    "packed_integer_winograd": _packed_integer_winograd,
    "packed_winograd": _packed_winograd,
    "packed_winograd_bf16": _packed_winograd,
    "max_pool_blocked": _max_pool,
    "average_pool_blocked": _average_pool,
    "global_average_pool_blocked": _global_average_pool,
    "softmax": _softmax,
    "log_softmax": _softmax,
    "layer_normalization": _norm,
    "rms_normalization": _norm,
    "reduce_sum": _whole,
    "reduce_max": _whole,
    "reduce_min": _whole,
    "matmul": _matmul,
    "fused_matmul": _matmul,
    "pack_channels": _pack,
    "unpack_channels": _unpack,
}
"""The operations with a kernel of their own, which takes elementwise operations behind it."""

ROUNDING = frozenset({
    "packed_conv", "packed_conv_bf16", "packed_halved_conv", "packed_winograd",
    "packed_winograd_bf16",
})  # fmt: skip
"""Those whose kernel rounds what it stores where that is bf16."""

PLAIN = frozenset({"pack_channels", "unpack_channels"})
"""Those whose kernel takes nothing behind it."""
