"""A row that finds elements in a list."""

from __future__ import annotations

import numpy as np

from leptonc.ir.blob import Array
from leptonc.ir.diagnostics import LeptonError
from leptonc.ir.ops.broadcasting import INTEGERS, check_dtype, check_same_dtype
from leptonc.ir.table import Attr, Evaluation, Inference, define
from leptonc.ir.types import DType, TensorType

KEYS = INTEGERS | {DType.F32, DType.F64, DType.STR}


def _infer(call: Inference) -> TensorType:
    check_dtype(call, "x", KEYS)
    check_same_dtype(call, "x", "keys")
    keys = call[1].type
    if keys.rank != 1:
        raise LeptonError(f"lookup: keys are {keys}, should be of rank 1", code="E103")
    known = call.constant("keys")
    if known is not None and known.dtype != object and not (known[:-1] < known[1:]).all():
        raise LeptonError("lookup: keys should ascend", code="E108")
    return call[0].type.with_dtype(DType.I64)


def _evaluate(call: Evaluation) -> Array:
    x, keys = call[0], call[1]
    place = {key: at for at, key in enumerate(keys.tolist())}
    found = np.array([place.get(item, len(keys)) for item in x.reshape(-1).tolist()], np.int64)
    if call.int("strict") and (found == len(keys)).any():
        which = x.reshape(-1)[int(np.argmax(found))]
        raise LeptonError(f"lookup: {which!r} is none of the keys", code="E704")
    return found.reshape(x.shape)


define(
    "lookup(x, keys)",
    "Where each element stands among `keys`, which ascend unless they are text; their number where "
    "it is none of them, which is an error if `strict`.",
    infer=_infer,
    evaluate=_evaluate,
    attrs={"strict": Attr("int", 0)},
)
