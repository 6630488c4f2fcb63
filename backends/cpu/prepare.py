"""The last rewrites before code generation: products get weights packed for this CPU's kernels."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from leptonc.backends.cpu.bf16_packing import (
    bf16_conv_weight_shape,
    pack_bf16_conv_weight,
    pack_bf16_weight,
)
from leptonc.backends.cpu.decision import UNDECIDED, Decision, Decisions
from leptonc.backends.cpu.fourier_tables import tabulate
from leptonc.backends.cpu.integer_packing import integer_weight_shape
from leptonc.backends.cpu.packed import Chooser, Packing, decided_panel
from leptonc.backends.cpu.packing import (
    ConvWeight,
    channel_blocks,
    conv_weight_shape,
    matmul_weight_shape,
    pack_channels,
    pack_conv_weight,
    pack_depthwise_weight,
    pack_matmul_weight,
)
from leptonc.backends.cpu.prepare_integers import integer_conv, integer_linear
from leptonc.backends.cpu.recurrent_packing import (
    pack_input_weight,
    pack_recurrent_bias,
    pack_recurrent_weight,
    recurrent_weight,
)
from leptonc.backends.cpu.target import CpuTarget
from leptonc.backends.cpu.tiles import (
    bf16_panel,
    bytes_panel,
    conv_panel,
    matmul_panel,
)
from leptonc.backends.cpu.winograd_tables import (
    PAIRS,
    TAPS,
    Transform,
    band_tiles,
    pack_winograd_weight,
    winograd_weight_shape,
)
from leptonc.backends.tvm.source import kernel_source
from leptonc.ir.blob import Array, Blob
from leptonc.ir.build import Builder
from leptonc.ir.dims import ceildiv, product
from leptonc.ir.graph import Graph, Op, Region, Value
from leptonc.ir.ops.bf16 import OPERANDS
from leptonc.ir.types import DType, TensorType

_KEPT_BY_CONV = ("strides", "dilations", "pads", "group", "plain", "lanes")


Made = dict[tuple[Value, TensorType, object], Value]


def prepare(
    graph: Graph, cpu: CpuTarget, decisions: Decisions | None = None
) -> list[tuple[str, Op]]:
    """Replace products with constant weights by packed forms. Data is packed when it is read.

    Where `decisions` has the workload of a product, it goes before the formulas. With decisions,
    even if there are none, each packed product's workload and kernel are told.
    """
    made: Made = {}
    kernels: list[tuple[str, Op]] = []
    products = list(products_of(graph))
    workloads = [_workload(op, holder, decisions) for op, holder in products]
    for (op, holder), workload in zip(products, workloads, strict=True):
        blobs = constants_of(op, holder)
        decision = (decisions or {}).get(workload, UNDECIDED)
        packing = PACKINGS[op.name](op, blobs, cpu, decision) if "w" in blobs else None
        if packing is not None:
            kernels.append((workload, _replace(op, holder, packing, made)))
    tabulate(graph)
    inner = [region for op in graph.walk() for region in op.regions]
    for region in (*reversed(inner), graph):
        _erase_unread_constants(region)
    return kernels if decisions is not None else []


def _workload(op: Op, holder: Op | None, decisions: Decisions | None) -> str:
    """The kernel's name before anything is decided of it; not made where nobody asks."""
    return "" if decisions is None else kernel_source(holder or op).name


def _erase_unread_constants(region: Region) -> None:
    for op in reversed(region):
        if op.name == "const" and not op.result.is_used:
            region.erase(op)


def products_of(graph: Graph) -> Iterator[tuple[Op, Op | None]]:
    """Each operation that may be packed, with the group that holds it."""
    for op in graph.walk():
        if op.name in PACKINGS:
            holder = op.region.parent if op.region is not None else None
            yield op, holder if holder is not None and holder.name == "group" else None


def _outer(value: Value, holder: Op | None) -> Value:
    """What a group's input stands for outside of the group."""
    if holder is not None and value.owner is holder.regions[0]:
        return holder.operands[holder.regions[0].inputs.index(value)]
    return value


def constants_of(op: Op, holder: Op | None) -> dict[str, Blob]:
    """The constants among the operands of an operation, by the operands' names."""
    found: dict[str, Blob] = {}
    for name, value in zip(op.operand_names, op.operands, strict=True):
        blob = _outer(value, holder).blob
        if blob is not None:
            found[name] = blob
    return found


def _replace(op: Op, holder: Op | None, packing: Packing, made: Made) -> Op:
    """Put the packed operation in place of `op`, its constants beside the original ones.

    The operation or group that is a kernel then.
    """
    operands = list(op.operands)
    for slot, name in enumerate(op.operand_names):
        if name not in packing.blobs:
            continue
        outer, blob = _outer(op.operands[slot], holder), packing.blobs[name]
        key = (outer, blob.type, op.attrs.get("transposed"))
        if key not in made:
            made[key] = _constant_beside(outer, holder, blob)
        operands[slot] = _as_input(holder, op.operands[slot], made[key]) if holder else made[key]
    names = [*op.operand_names]
    for name in sorted(packing.blobs.keys() - set(names)):
        names.append(name)
        operands.append(_more(op, holder, (name, packing.blobs[name]), made))
    region = op.region
    assert region is not None
    build = Builder(region, before=op, location=op.location)
    types = [value.type for value in op.results]
    new = build.op(packing.row, operands, packing.attrs, names=names, result_types=types)
    for old, result in zip(op.results, new.results, strict=True):
        result.name = old.name
        old.replace_uses_with(result)
    region.erase(op)
    return holder or new


def _more(op: Op, holder: Op | None, constant: tuple[str, Blob], made: Made) -> Value:
    """A constant that the original operation does not have, beside its weight."""
    name, blob = constant
    weight = _outer(op.operands[op.operand_names.index("w")], holder)
    key = (weight, blob.type, name)
    if key not in made:
        made[key] = _constant_beside(weight, holder, blob)
    return _new_input(holder, made[key]) if holder else made[key]


def _constant_beside(value: Value, holder: Op | None, blob: Blob) -> Value:
    """A constant where that of `value` stands, or before the group that has it inside."""
    producer = value.producer
    assert producer is not None
    inside = holder is not None and producer.region is holder.regions[0]
    anchor = holder if holder is not None and inside else producer
    region = anchor.region
    assert region is not None
    build = Builder(region, before=anchor, location=producer.location)
    constant = build.const(blob)
    constant.name = value.name
    return constant


def _as_input(holder: Op, inner: Value, outer: Value) -> Value:
    """The group's input for `outer`, in the slot of `inner` if only the packed one reads that."""
    region = holder.regions[0]
    if len(inner.uses) == 1 and inner in region.inputs:
        holder.set_operand(region.inputs.index(inner), outer)
        inner.type = outer.type
        return inner
    return _new_input(holder, outer)


def _new_input(holder: Op, outer: Value) -> Value:
    value = holder.regions[0].add_input(Value(outer.type))
    holder.set_operands([*holder.operands, outer])
    return value


def _linear(
    op: Op, blobs: Mapping[str, Blob], cpu: CpuTarget, decision: Decision
) -> Packing | None:
    x, blob = op.operands[0].type, blobs["w"]
    if x.dtype is not DType.F32 or x.rank < 1:
        return None
    transposed = bool(op.attrs["transposed"])
    depth, columns = blob.type.extents[::-1] if transposed else blob.type.extents
    if depth == 0 or columns == 0:
        return None
    rows = product(x.shape[:-1])
    panel = decided_panel(decision, cpu) or matmul_panel(
        rows if isinstance(rows, int) else None, columns, depth, cpu
    )
    if op.attrs["rounds"]:
        known = rows if isinstance(rows, int) else None
        pairs = op.attrs["rounds"] == OPERANDS
        panel = decided_panel(decision, cpu) or bf16_panel(known, columns, depth, cpu, pairs=pairs)
        return _linear_bf16(op, blob, (depth, columns), panel)
    packed = Blob(
        TensorType(DType.F32, matmul_weight_shape(depth, columns, panel)),
        lambda: pack_matmul_weight(blob.array, panel, transposed=transposed),
    )
    attrs = {"columns": columns, "decision": decision.text}
    return Packing("packed_linear", attrs, {"w": packed})


def _linear_bf16(op: Op, weight: Blob, extents: tuple[int, int], panel: int) -> Packing:
    """A weight in bf16, two elements of the depth side by side."""
    depth, columns = extents
    transposed = bool(op.attrs["transposed"])

    def pack() -> Array:
        return pack_bf16_weight(weight.array, panel, transposed=transposed)

    type = TensorType(DType.U16, integer_weight_shape(depth, columns, panel, 2))
    attrs = {"columns": columns, "rounds": op.attrs["rounds"]}
    return Packing("packed_linear_bf16", attrs, {"w": Blob(type, pack)})


def _linear_bytes(
    op: Op, blobs: Mapping[str, Blob], cpu: CpuTarget, decision: Decision
) -> Packing | None:
    x, blob = op.operands[0].type, blobs["w"]
    depth, columns = blob.type.extents
    if depth == 0 or columns == 0 or ("scales" in op.operand_names and "scales" not in blobs):
        return None
    rows = product(x.shape[:-1])
    panel = decided_panel(decision, cpu) or bytes_panel(
        rows if isinstance(rows, int) else None, columns, depth, cpu
    )

    def packed(source: Blob) -> Blob:
        shape = matmul_weight_shape(source.type.extents[0], columns, panel)
        data = TensorType(source.type.dtype, shape)
        return Blob(data, lambda: pack_matmul_weight(source.array, panel))

    found = {name: packed(blobs[name]) for name in ("w", "scales") if name in blobs}
    attrs = {"columns": columns, "block_size": op.int("block_size")}
    return Packing("packed_linear_bytes", attrs, found)


def _conv(op: Op, blobs: Mapping[str, Blob], cpu: CpuTarget, decision: Decision) -> Packing | None:
    blob, group, lanes = blobs["w"], op.int("group"), op.int("lanes")
    filters, part, height, width = blob.type.extents
    tile = op.int("tile")
    if decision.tile is not None and may_filter(op):
        tile = decision.tile if decision.tile in PAIRS else 0
    if tile:
        return _winograd(op, blobs, tile, cpu, decision)
    depthwise = part == 1 and group == filters and group > 1
    sizes = ConvWeight(part * group, filters, (height, width), group, bool(op.attrs["plain"]))
    pixels = product(op.result.type.shape[2:4])
    panel = decided_panel(decision, cpu) or conv_panel(
        filters // group, pixels if isinstance(pixels, int) else None, cpu, part * height * width
    )

    def pack() -> Array:
        weight = blob.array
        return (
            pack_depthwise_weight(weight, lanes)
            if depthwise
            else pack_conv_weight(weight, sizes, panel, lanes)
        )

    blocks = channel_blocks(filters, lanes)
    shape = (blocks, height, width, lanes) if depthwise else conv_weight_shape(sizes, panel)
    packed = {"w": _packed(shape, pack), **_bias(blobs, filters, lanes)}
    if op.attrs["rounds"]:
        bits = TensorType(DType.U16, bf16_conv_weight_shape(sizes, panel))
        packed["w"] = Blob(bits, lambda: pack_bf16_conv_weight(blob.array, sizes, panel, lanes))
    attrs = {
        **{name: op.attrs[name] for name in _KEPT_BY_CONV},
        "kernel_shape": (height, width),
        "channels": sizes.channels,
        "filters": filters,
        "depthwise": depthwise,
        "decision": decision.text,
    }  # fmt: skip
    return Packing("packed_conv_bf16" if op.attrs["rounds"] else "packed_conv", attrs, packed)


def may_filter(op: Op) -> bool:
    """Whether Winograd's tiles can compute a blocked convolution with a constant weight."""
    once = all(n == 1 for name in ("strides", "dilations") for n in op.ints(name) or ())
    weight = op.operands[1].type
    return (
        weight.dtype is DType.F32 and weight.extents[2:] == (TAPS, TAPS) and once
        and op.int("group") == 1 and not op.attrs["plain"] and not op.attrs["rounds"]
    )  # fmt: skip


def _bias(blobs: Mapping[str, Blob], filters: int, lanes: int) -> dict[str, Blob]:
    """The bias filled up to whole blocks, if there is one."""
    if "bias" not in blobs:
        return {}
    bias = blobs["bias"]
    shape = (channel_blocks(filters, lanes) * lanes,)
    return {"bias": _packed(shape, lambda: pack_channels(bias.array, lanes))}


def _winograd(
    op: Op, blobs: Mapping[str, Blob], outputs: int, cpu: CpuTarget, decision: Decision
) -> Packing:
    blob, lanes = blobs["w"], op.int("lanes")
    filters, channels = blob.type.extents[:2]
    transform = Transform(outputs)
    rows = decision.band or band_tiles(channels, filters, outputs, cpu)
    all_rows = product(ceildiv(extent, outputs) for extent in op.result.type.shape[2:4])
    if isinstance(all_rows, int):
        rows = min(rows, all_rows)
    panel = decided_panel(decision, cpu) or conv_panel(filters, rows, cpu)
    shape = winograd_weight_shape(transform.points, channels, filters, panel)
    packed = {
        "w": _packed(shape, lambda: pack_winograd_weight(blob.array, outputs, panel)),
        **_bias(blobs, filters, lanes),
    }
    attrs = {
        "pads": op.attrs["pads"], "kernel_shape": (3, 3), "lanes": lanes,
        "channels": channels, "filters": filters, "outputs": outputs,
        "values": tuple(float(v) for v in transform.weight_matrix().reshape(-1)),
        "decision": decision.text,
    }  # fmt: skip
    return Packing("packed_winograd", attrs, packed)


def _recurrent(
    op: Op, blobs: Mapping[str, Blob], cpu: CpuTarget, decision: Decision
) -> Packing | None:
    """Layers of f32 with constant weights; their rarer forms have a kernel without packing."""
    x = op.operands[0].type
    rare = bool(op.attrs.get("input_forget")) or {"sequence_lens", "p"} & {*op.operand_names}
    fixed = "r" in blobs and ("bias" in blobs) == ("bias" in op.operand_names)
    if x.dtype is not DType.F32 or rare or not fixed or 0 in blobs["w"].type.extents:
        return None
    w, r = blobs["w"], blobs["r"]
    steps, batch = x.shape[1::-1] if op.int("layout") else x.shape[:2]
    known = tuple(extent if isinstance(extent, int) else None for extent in (steps, batch))
    shape = (w.type.extents[0], w.type.extents[2], r.type.extents[2])
    linear = bool(op.attrs.get("linear_before_reset"))
    sizes = recurrent_weight(op.name, shape, (known[0], known[1]), cpu, linear=linear)
    packed = {
        "w": _packed(sizes.input_shape, lambda: pack_input_weight(w.array, sizes)),
        "r": _packed(sizes.recurrent_shape, lambda: pack_recurrent_weight(r.array, sizes)),
    }
    if "bias" in blobs:
        bias = blobs["bias"]
        packed["bias"] = _packed(sizes.bias_shape, lambda: pack_recurrent_bias(bias.array, sizes))
    attrs = {
        **{name: value for name, value in op.attrs.items() if name != "input_forget"},
        "hidden_size": sizes.hidden,
        "layer": op.name,
        "units": tuple(phase.units for phase in sizes.phases),
    }
    return Packing("packed_recurrent", attrs, packed)


def _packed(shape: tuple[int, ...], pack: Callable[[], Array]) -> Blob:
    return Blob(TensorType(DType.F32, shape), pack)


PACKINGS: Mapping[str, Chooser] = {
    "linear": _linear, "linear_bytes": _linear_bytes, "integer_linear": integer_linear,
    "conv_blocked": _conv, "integer_conv_blocked": integer_conv,
    "lstm": _recurrent, "gru": _recurrent, "rnn": _recurrent,
}  # fmt: skip
"""The operations that take packed weights, and how."""
