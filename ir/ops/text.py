"""Rows on text: capitals and small letters, and the parts of strings."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import MappingProxyType

import numpy as np

from leptonc.ir.blob import Array
from leptonc.ir.diagnostics import LeptonError
from leptonc.ir.table import Attr, Evaluation, Inference, define
from leptonc.ir.types import DType, TensorType

CASES: MappingProxyType[str, Callable[[str], str]] = MappingProxyType(
    {"UPPER": str.upper, "LOWER": str.lower}
)


def parts_of(text: str, delimiter: str | None, maxsplit: int | None) -> list[str]:
    """The parts of a string; without a delimiter, what white space separates."""
    return text.split(delimiter or None, -1 if maxsplit is None else maxsplit)


def _check_text(call: Inference) -> TensorType:
    type = call[0].type
    if type.dtype is not DType.STR:
        raise LeptonError(f"{call.definition.name} of {type}, should be text", code="E102")
    return type


def _case_infer(call: Inference) -> TensorType:
    if call.str("action") not in CASES:
        raise LeptonError(
            f"string_case: action is {call.str('action')!r}, should be UPPER or LOWER", code="E108"
        )
    return _check_text(call)


def _each(array: Array, function: Callable[[str], object]) -> Array:
    result: Array = np.empty(array.size, object)
    result[:] = [function(str(text)) for text in array.reshape(-1).tolist()]
    return result.reshape(array.shape)


define(
    "string_case(x)",
    "Every string in capitals, or in small letters, as Unicode maps them in no language's way.",
    infer=_case_infer,
    evaluate=lambda call: _each(call[0], CASES[call.str("action")]),
    attrs={"action": Attr("str", required=True)},
)


def _split_infer(call: Inference) -> Sequence[TensorType]:
    type = _check_text(call)
    return [type.with_shape(*type.shape, call.unknown()), type.with_dtype(DType.I64)]


def _split_evaluate(call: Evaluation) -> list[Array]:
    delimiter, maxsplit = call.attrs["delimiter"], call.attrs["maxsplit"]
    assert delimiter is None or isinstance(delimiter, str)
    assert maxsplit is None or isinstance(maxsplit, int)
    texts = [str(text) for text in call[0].reshape(-1).tolist()]
    lists = [parts_of(text, delimiter, maxsplit) for text in texts]
    counts = np.array([len(parts) for parts in lists], np.int64)
    result = np.full((len(lists), int(counts.max(initial=0))), "", object)
    for row, parts in zip(result, lists, strict=True):
        row[: len(parts)] = parts
    shape = call[0].shape
    return [result.reshape(*shape, result.shape[1]), counts.reshape(shape)]


define(
    "string_split(x)",
    "The parts of each string between delimiters, or what white space separates, with empty ones "
    "at the end of shorter rows; and how many there are.",
    infer=_split_infer,
    evaluate=_split_evaluate,
    attrs={"delimiter": Attr("str"), "maxsplit": Attr("int")},
    onnx="StringSplit",
    since=20,
)
