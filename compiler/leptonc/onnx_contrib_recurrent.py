"""Recurrent layers on weights of bytes."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from leptonc.ir.graph import Value
from leptonc.ir.table import op_named
from leptonc.ir.types import DType
from leptonc.onnx_attributes import fit
from leptonc.onnx_contrib_parts import Results, Rule, cast, refuse, reshaped, transposed
from leptonc.onnx_scope import Call


def _dynamic_quantize_lstm(call: Call) -> Results:
    """An LSTM on the real weights that the bytes stand for.

    Its operands are not quantised at run time, which would only cost accuracy.
    """
    if call.take("input_forget", "int", 0):
        raise refuse(call, "coupled gates")
    row = op_named("lstm")
    assert row is not None
    weights = [_real(call, 1, 8), _real(call, 2, 10)]
    values = [call.required(0), *weights, *(call.operand(index) for index in range(3, 8))]
    given = [
        (value, operand.name)
        for value, operand in zip(values, row.operands, strict=True)
        if value is not None
    ]
    operands, names = [value for value, _ in given], [name for _, name in given]
    return call.build.op(row, operands, fit(row, call.attributes), names=names).results


def _real(call: Call, weight: int, scale: int) -> Value:
    """The weight of each direction as LSTM has it: gates by inputs."""
    build, data = call.build, call.required(weight)
    factors, zero = call.required(scale), call.required(scale + 1)
    directions, _, gates = data.type.extents
    width = gates if factors.type.rank == 2 else 1
    factors, zero = (reshaped(build, value, directions, 1, width) for value in (factors, zero))
    centred = build.sub(cast(build, data, DType.F32), cast(build, zero, DType.F32))
    return transposed(build, build.mul(centred, factors), 0, 2, 1)


RECURRENT: Mapping[str, Rule] = MappingProxyType({
    "DynamicQuantizeLSTM": _dynamic_quantize_lstm,
})  # fmt: skip
"""Operators by name, and what takes them apart."""
