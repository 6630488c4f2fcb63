"""Older forms of ONNX's operators, brought to their newest: one small rule for each change.

A rule is listed with the opset that changed the operator and applies to nodes written for an
older one; rules of one operator apply in ascending order. It changes the call in place, or gives
the results where the old meaning takes more than one operation.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import TypeAlias

import numpy as np

from leptonc.ir.diagnostics import LeptonError
from leptonc.ir.graph import Value
from leptonc.onnx_attributes import plain
from leptonc.onnx_random import training_dropout
from leptonc.onnx_scope import Call
from leptonc.onnx_short_floats import float8_product

Rule: TypeAlias = Callable[[Call], "Sequence[Value] | None"]


def upgrade(call: Call) -> Sequence[Value] | None:
    """Bring `call` to the newest form of its operator; the results, where that made them."""
    if call.domain:
        return None
    done: set[tuple[int, str]] = set()
    while True:
        steps = RULES.get(call.op_type, ())
        step = next(
            ((since, rule) for since, rule in steps
             if call.opset < since and (since, call.op_type) not in done),
            None,
        )  # fmt: skip
        if step is None:
            return None
        done.add((step[0], call.op_type))
        results = step[1](call)
        if results is not None:
            return results


def _integers(call: Call, values: Sequence[int]) -> Value:
    return call.build.const(np.array(values, np.int64))


def _ints_to_operand(name: str, index: int) -> Rule:
    """An attribute of integers that became an operand."""

    def rule(call: Call) -> None:
        values = call.take(name, "ints")
        if values is not None:
            call.set_operand(index, _integers(call, values))

    return rule


def _required_ints_to_operand(name: str, index: int) -> Rule:
    def rule(call: Call) -> None:
        values = call.take(name, "ints")
        if values is None:
            raise LeptonError(f"attribute {name!r} of {call.op_type} is missing", code="E015")
        call.set_operand(index, _integers(call, values))

    return rule


def _number_like(call: Call, value: float) -> Value:
    """A scalar of the first operand's element type."""
    return call.build.const(np.array(value, call.required(0).type.dtype.numpy))


def _broadcast_7(call: Call) -> None:
    """Broadcasting was asked for, and could align the second operand with an axis of the first."""
    asked, axis = call.take("broadcast", "int", 0), call.take("axis", "int")
    if asked and axis is not None:
        _align(call, 1, axis)


def _align(call: Call, index: int, axis: int) -> None:
    """Give the operand trailing dimensions of 1, so that it starts at `axis` of the first."""
    rank, value = call.required(0).type.rank, call.required(index)
    axis = axis + rank if axis < 0 else axis
    behind = rank - axis - value.type.rank
    if behind < 0:
        raise LeptonError(
            f"{value.type} does not fit {call.required(0).type} from axis {axis} on", code="E107"
        )
    if behind:
        axes = range(value.type.rank, value.type.rank + behind)
        call.set_operand(index, call.build.unsqueeze(value, _integers(call, list(axes))))


def _p_relu_7(call: Call) -> None:
    """One slope for each channel; now slopes broadcast like any operand."""
    if call.required(0).type.rank > 1 and call.required(1).type.shape not in ((), (1,)):
        _align(call, 1, 1)


def _gemm_7(call: Call) -> None:
    call.take("broadcast", "int")


def _batch_normalization_7(call: Call) -> None:
    if call.take("is_test", "int", 0):
        call.outputs = call.outputs[:1]


def _dropout_7(call: Call) -> None:
    if not call.take("is_test", "int", 0):
        raise LeptonError("Dropout of opset 6 is a training step here (is_test=0)", code="E013")


def _clip(call: Call) -> None:
    for index, name in enumerate(("min", "max"), 1):
        value = call.take(name, "float")
        if value is not None:
            call.set_operand(index, _number_like(call, value))


def _pad(call: Call) -> None:
    pads, value = call.take("pads", "ints", ()), call.take("value", "float")
    call.set_operand(1, _integers(call, pads))
    if value is not None:
        call.set_operand(2, _number_like(call, value))


def _slice(call: Call) -> None:
    starts, ends, axes = (call.take(name, "ints") for name in ("starts", "ends", "axes"))
    for index, values in enumerate((starts, ends, axes), 1):
        if values is not None:
            call.set_operand(index, _integers(call, values))


def _top_k(call: Call) -> None:
    call.set_operand(1, _integers(call, [call.take("k", "int", 0)]))


def _split(call: Call) -> None:
    if call.operand(1) is None:
        call.attributes.update(plain({"num_outputs": len(call.outputs)}))


def _split_count(call: Call) -> None:
    split, count = call.operand(1), call.attributes.get("num_outputs", ("", None))[1]
    if split is not None and split.type.rank == 1 and isinstance(split.type.shape[0], int):
        count = split.type.shape[0]
    if count is not None and count != len(call.outputs):
        raise LeptonError(
            f"Split makes {count} parts and has {len(call.outputs)} outputs", code="E015"
        )


def _dropout(call: Call) -> None:
    call.take("ratio", "float")
    del call.operands[1:]


def _batch_normalization_14(call: Call) -> None:
    if any(call.outputs[1:]):
        call.attributes.update(plain({"training_mode": 1}))


def _batch_normalization_9(call: Call) -> Sequence[Value] | None:
    """`spatial=0` keeps statistics for each element: then it is plain arithmetic."""
    if call.take("spatial", "int", 1):
        return None
    build = call.build
    x, scale, bias, mean, variance = (call.required(index) for index in range(5))
    epsilon = build.const(np.array(call.take("epsilon", "float", 1e-5), x.type.dtype.numpy))
    deviation = build.sqrt(build.add(variance, epsilon))
    normal = build.div(build.sub(x, mean), deviation)
    return [build.add(build.mul(normal, scale), bias)]


def _flattening(default_axis: int = 1) -> Rule:
    """Softmax and its kin worked on the matrix that `axis` splits the operand into."""

    def rule(call: Call) -> Sequence[Value] | None:
        build, x = call.build, call.required(0)
        axis = call.take("axis", "int", default_axis)
        rank = x.type.rank
        if not -rank <= axis <= rank or not rank:
            raise LeptonError(f"axis {axis} does not exist in {x.type}", code="E107")
        axis = axis % rank if axis < rank else axis
        if axis == rank - 1:
            call.attributes.update(plain({"axis": -1}))
            return None
        if all(dim == 1 for dim in x.type.shape[axis + 1 :]) and axis < rank:
            call.attributes.update(plain({"axis": axis}))
            return None
        rows = build.flatten(x, axis=axis)
        name = {"Softmax": "softmax", "LogSoftmax": "log_softmax", "Hardmax": "hardmax"}
        result = build.op(name[call.op_type], [rows], {"axis": -1}).result
        return [build.reshape(result, build.shape(x))]

    return rule


def _upsample_9(call: Call) -> None:
    scales = call.take("scales", "floats", ())
    call.set_operand(1, call.build.const(np.array(scales, np.float32)))


def _rename(call: Call) -> None:
    call.op_type = RENAMED[call.op_type]


def _resize_11(call: Call) -> None:
    scales = call.required(1)
    call.set_operand(1, None)
    call.set_operand(2, scales)
    call.attributes.update(
        plain({"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"})
    )


def _resize_13(call: Call) -> None:
    """Tensors without elements stood for operands that are absent (and still do in practice)."""
    for index in (1, 2, 3):
        value = call.operand(index)
        if value is not None and value.type.shape == (0,):
            call.set_operand(index, None)


def _roi_align(call: Call) -> None:
    call.attributes.update(plain({"coordinate_transformation_mode": "output_half_pixel"}))


def _grid_sample(call: Call) -> None:
    mode: str = call.take("mode", "str", "bilinear")
    newer = {"bilinear": "linear", "bicubic": "cubic"}.get(mode, mode)
    call.attributes.update(plain({"mode": newer}))


def _dft(call: Call) -> None:
    axis = call.take("axis", "int", 1)
    call.set_operand(2, call.build.const(np.array(axis, np.int64)))


def _group_normalization(call: Call) -> None:
    """Scale and bias were given for each group, and now are for each channel."""
    build, x = call.build, call.required(0)
    groups, channels = call.attributes.get("num_groups", ("int", 1))[1], x.type.shape[1]
    if not isinstance(channels, int) or groups < 1 or channels % groups:
        raise LeptonError(f"{channels} channels do not make {groups} groups", code="E107")
    for index in (1, 2):
        column = build.reshape(call.required(index), _integers(call, [groups, 1]))
        spread = build.expand(column, _integers(call, [groups, channels // groups]))
        call.set_operand(index, build.reshape(spread, _integers(call, [channels])))


def _families() -> dict[str, Sequence[tuple[int, Rule]]]:
    names = ("L1", "L2", "LogSum", "LogSumExp", "Max", "Mean", "Min", "Prod", "SumSquare")
    rules: dict[str, Sequence[tuple[int, Rule]]] = {
        f"Reduce{name}": ((18, _ints_to_operand("axes", 1)),) for name in names
    }
    rules["ReduceSum"] = ((13, _ints_to_operand("axes", 1)),)
    aligned = ("Add", "And", "Div", "Equal", "Greater", "Less", "Mul", "Or", "Pow", "Sub", "Xor")
    return rules | dict.fromkeys(aligned, ((7, _broadcast_7),))


RENAMED = MappingProxyType({"Upsample": "Resize", "Scatter": "ScatterElements"})
"""Operators that ONNX dropped, and what took their place."""

ALWAYS = 10_000
"""An opset newer than any: the rule is for models of every opset."""

RULES: Mapping[str, Sequence[tuple[int, Rule]]] = MappingProxyType({
    **_families(),
    "BatchNormalization": (
        (7, _batch_normalization_7), (9, _batch_normalization_9), (14, _batch_normalization_14),
    ),
    "Clip": ((11, _clip),),
    "DFT": ((20, _dft),),
    "Dropout": ((7, _dropout_7), (12, _dropout), (ALWAYS, training_dropout)),
    "Gemm": ((7, _gemm_7),),
    "GridSample": ((20, _grid_sample),),
    "GroupNormalization": ((21, _group_normalization),),
    "Hardmax": ((13, _flattening()),),
    "LogSoftmax": ((13, _flattening()),),
    "PRelu": ((7, _p_relu_7),),
    "Pad": ((11, _pad),),
    "QLinearMatMul": ((ALWAYS, float8_product),),
    "Resize": ((11, _resize_11), (ALWAYS, _resize_13)),
    "RoiAlign": ((16, _roi_align),),
    "Scatter": ((ALWAYS, _rename),),
    "Slice": ((10, _slice),),
    "Softmax": ((13, _flattening()),),
    "Split": ((13, _ints_to_operand("split", 1)), (18, _split), (ALWAYS, _split_count)),
    "Squeeze": ((13, _ints_to_operand("axes", 1)),),
    "TopK": ((10, _top_k),),
    "Unsqueeze": ((13, _required_ints_to_operand("axes", 1)),),
    "Upsample": ((9, _upsample_9), (ALWAYS, _rename)),
})  # fmt: skip
"""For each operator, the opsets that changed it and what brings an older node there."""
