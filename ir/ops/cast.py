"""Changes of element type, copies, and dropout as inference sees it."""

from __future__ import annotations

from typing import Any

import numpy as np

from leptonc.ir.blob import Array
from leptonc.ir.diagnostics import LeptonError
from leptonc.ir.dims import Dim
from leptonc.ir.graph import Content
from leptonc.ir.ops import contents
from leptonc.ir.ops.broadcasting import COMPLEX, FLOATS, FLOATS8, check_dtype
from leptonc.ir.ops.rows import fit, is_narrow, widened
from leptonc.ir.table import Attr, Evaluation, Inference, Trait, define
from leptonc.ir.types import DType, TensorType

_MODES = ("up", "down", "nearest")


def cast(x: Array, to: DType, *, saturate: bool = True, round_mode: str = "up") -> Array:
    """`x` converted as ONNX converts: integers drop high bits, floats overflow to infinity.

    8-bit floats hold the largest finite number instead of what is out of range, if `saturate`.
    """
    if to is DType.STR:
        return _as_text(x)
    if x.dtype.kind in "OU":
        return _from_text(x, to)
    if to is DType.BOOL:
        return np.asarray(widened(x) != 0)
    if to is DType.F8E8M0:
        return _as_exponent(widened(x).astype(np.float32), saturate, round_mode)
    if to in FLOATS8 and saturate:
        import ml_dtypes

        largest = float(ml_dtypes.finfo(to.numpy).max)  # pyright: ignore
        return np.clip(widened(x), -largest, largest).astype(to.numpy)
    if to.is_integer and is_narrow(x) and x.dtype.kind in "Vf":
        x = _exact(x)
    return x.astype(to.numpy)


def _exact(x: Array) -> Array:
    """Narrow floats and integers in a type that converts to every other without loss."""
    return x.astype(np.int32) if "int" in x.dtype.name else x.astype(np.float32)


def _as_text(x: Array) -> Array:
    items = [str(item) for item in widened(x).reshape(-1)]
    result: Array = np.empty(len(items), dtype=object)
    result[:] = items
    return result.reshape(x.shape)


def _from_text(x: Array, to: DType) -> Array:
    try:
        numbers = [_number(str(item), to) for item in x.reshape(-1)]
    except ValueError as error:
        raise LeptonError(f"cast: {error}", code="E115") from error
    wide = np.array(numbers, np.int64 if to.is_integer else np.float64)
    return wide.astype(to.numpy).reshape(x.shape)


def _number(text: str, to: DType) -> float | int:
    if to.is_integer:
        try:
            return int(text)
        except ValueError:
            return int(float(text))
    return float(text)


def _as_exponent(x: Array, saturate: bool, round_mode: str) -> Array:
    """Powers of two: the exponent field of f32, rounded by what the mantissa says."""
    bits = np.ascontiguousarray(x).view(np.uint32).reshape(x.shape)
    exponent, mantissa = (bits >> 23) & 0xFF, bits & 0x7FFFFF
    if round_mode == "up":
        rises = mantissa > 0
    elif round_mode == "nearest":
        # half of a subnormal number's distance needs more than its first bit
        rises = np.where(exponent > 0, mantissa >= 0x400000, mantissa > 0x400000)
    else:
        rises = np.zeros(x.shape, bool)
    rises = rises & (exponent < (0xFE if saturate else 0xFF))
    code = (exponent + rises).astype(np.uint8)
    return code.view(DType.F8E8M0.numpy)


def _check_cast(call: Inference) -> None:
    check_dtype(call, call.names[0], frozenset(DType) - COMPLEX)
    if call.str("round_mode") not in _MODES:
        mode = call.str("round_mode")
        raise LeptonError(
            f'{call.definition.name}.round_mode is "{mode}", should be {", ".join(_MODES)}',
            code="E108",
        )


def _cast_infer(call: Inference) -> TensorType:
    _check_cast(call)
    to = call.dtype("to")
    if to in COMPLEX:
        raise LeptonError(f"cast.to is {to}, should be a real type", code="E102")
    return call[0].type.with_dtype(to)


def _cast_evaluate(call: Evaluation) -> Array:
    saturate = bool(call.int("saturate"))
    to = call.dtype("to") if "to" in call.attrs else DType.of(call[1].dtype)
    return cast(call[0], to, saturate=saturate, round_mode=call.str("round_mode"))


def _cast_content(call: Inference) -> Content | None:
    source, to = call[0].type.dtype, call.attrs.get("to", call[len(call) - 1].type.dtype)
    if not (source.is_integer or source is DType.BOOL) or not isinstance(to, DType):
        return None

    def convert(dim: Dim, *_: Dim) -> Dim | None:
        if to is not DType.BOOL:
            return dim
        zero = contents.equal(dim, 0)
        return None if zero is None else contents.negation(zero)

    known = contents.content_of(call[0])
    if known is None:
        return None
    items = [convert(item) for item in known.reshape(-1)]
    if any(item is None for item in items):
        return None
    result: Content = np.empty(len(items), dtype=object)
    result[:] = items
    return fit(result.reshape(known.shape), to)


_CAST_ATTRS = {"saturate": Attr("int", 1), "round_mode": Attr("str", "up")}

CAST = define(
    "cast(x)",
    "The elements converted to another type.",
    infer=_cast_infer,
    evaluate=_cast_evaluate,
    content=_cast_content,
    attrs={"to": Attr("dtype", required=True), **_CAST_ATTRS},
    traits=(Trait.ELEMENTWISE,),
    onnx="Cast",
    since=28,
)


def _cast_like_infer(call: Inference) -> TensorType:
    _check_cast(call)
    return call[0].type.with_dtype(call[1].type.dtype)


CAST_LIKE = define(
    "cast_like(x, target_type)",
    "The elements converted to the type of another tensor.",
    infer=_cast_like_infer,
    evaluate=_cast_evaluate,
    content=_cast_content,
    attrs=_CAST_ATTRS,
    onnx="CastLike",
    since=25,
)
IDENTITY = define(
    "identity(x)",
    "The operand itself.",
    infer=lambda call: call[0].type,
    evaluate=lambda call: call[0],
    content=lambda call: contents.content_of(call[0]),
    traits=(Trait.ELEMENTWISE, Trait.INJECTIVE, Trait.VIEW),
    onnx="Identity",
    since=25,
)


def _dropout_infer(call: Inference) -> tuple[TensorType, TensorType]:
    check_dtype(call, "x", FLOATS | FLOATS8)
    for name, allowed in (("ratio", FLOATS | FLOATS8), ("training_mode", {DType.BOOL})):
        type = call.type(name)
        if type is None:
            continue
        check_dtype(call, name, allowed)
        if type.shape not in ((), (1,)):
            raise LeptonError(f"dropout.{name} is {type}, should be a scalar", code="E103")
    return call[0].type, call[0].type.with_dtype(DType.BOOL)


def _dropout(call: Evaluation) -> tuple[Array, Array]:
    x, training, given = call[0], call.get("training_mode"), call.get("ratio")
    ratio = 0.5 if given is None else float(widened(given).reshape(()))
    if training is None or not training.reshape(()) or ratio == 0:
        return x, np.ones(x.shape, bool)
    seed = call.attrs["seed"]
    generator: Any = np.random.RandomState(seed if isinstance(seed, int) else None)
    mask: Array = np.asarray(generator.uniform(0, 1, x.shape) >= ratio)
    return np.where(mask, widened(x) / (1 - ratio), 0).astype(x.dtype), mask


DROPOUT = define(
    "dropout(x, ratio?, training_mode?)",
    "The operand and an all-true mask, unless in training mode, which drops elements at random.",
    infer=_dropout_infer,
    evaluate=_dropout,
    attrs={"seed": Attr("int")},
    onnx="Dropout",
    since=22,
)
