"""Rows that only say another shape for the same elements, and that read shapes."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from leptonc.ir.blob import Array
from leptonc.ir.diagnostics import LeptonError
from leptonc.ir.dims import Dim, bounds, floordiv, maximum, product
from leptonc.ir.graph import Content
from leptonc.ir.ops.broadcasting import normalized_axis, shown_shape
from leptonc.ir.ops.contents import check_rank, content_of, known_integers, moved, required_integers
from leptonc.ir.table import Attr, Evaluation, Inference, Trait, define
from leptonc.ir.types import DType, TensorType

VIEW = (Trait.VIEW, Trait.INJECTIVE)


def normalized_axes(call: Inference, axes: Sequence[int], rank: int) -> tuple[int, ...]:
    """`axes` counted from the front; raises E107 for one that does not exist or comes twice."""
    found = tuple(normalized_axis(call, axis, rank) for axis in axes)
    if len(set(found)) != len(found):
        raise LeptonError(
            f"{call.definition.name}: axes {list(axes)} name one axis twice", code="E107"
        )
    return found


def differ(a: Dim, b: Dim) -> bool:
    """True where two extents differ whatever the symbols are."""
    low, high = bounds(a - b)
    return low > 0 or high < 0


def window(call: Inference, rank: int) -> tuple[int, int]:
    """The dimensions `start` to `end` that `shape` tells, clamped to what there is."""
    start, end = call.attrs["start"], call.attrs["end"]
    first = start if isinstance(start, int) else 0
    last = end if isinstance(end, int) else rank
    first, last = (min(max(i + rank if i < 0 else i, 0), rank) for i in (first, last))
    return first, max(first, last)


def _shape_infer(call: Inference) -> TensorType:
    first, last = window(call, call[0].type.rank)
    return TensorType(DType.I64, (last - first,))


def _shape_evaluate(call: Evaluation) -> Array:
    return np.array(call[0].shape, np.int64)[call.attrs["start"] : call.attrs["end"]]  # pyright: ignore[reportArgumentType]


def _shape_content(call: Inference) -> Content:
    first, last = window(call, call[0].type.rank)
    content = np.empty(last - first, dtype=object)
    content[:] = call[0].type.shape[first:last]
    return content


define(
    "shape(x)", "The extents of a tensor, from dimension `start` to `end`.",
    infer=_shape_infer, evaluate=_shape_evaluate, content=_shape_content,
    attrs={"start": Attr("int", 0), "end": Attr("int")},
    traits=[Trait.SHAPE_ONLY], onnx="Shape", since=25,
)  # fmt: skip

define(
    "size(x)", "The number of elements of a tensor.",
    infer=lambda call: TensorType(DType.I64, ()),
    evaluate=lambda call: np.array(call[0].size, np.int64),
    content=lambda call: _scalar(product(call[0].type.shape)),
    traits=[Trait.SHAPE_ONLY], onnx="Size", since=25,
)  # fmt: skip


def _scalar(dim: Dim) -> Content:
    content = np.empty((), dtype=object)
    content[()] = dim
    return content


def reshaped(call: Inference) -> tuple[Dim, ...]:
    """The result's extents of a `reshape`."""
    source = call[0].type
    (extent,) = call[1].type.shape if call[1].type.rank == 1 else (None,)
    if extent is None:
        raise LeptonError(f"reshape: shape is {call[1].type}, should be of rank 1", code="E103")
    content = content_of(call[1])
    if content is None and extent == 0:
        content = np.empty(0, object)  # the shape of one number, whatever it comes from
    if content is None:
        if not isinstance(extent, int):
            raise LeptonError("reshape: the rank of the result is not known", code="E109")
        check_rank(call, extent)
        return tuple(call.unknown(index) for index in range(extent))
    wanted: list[Dim] = list(content)
    kept: list[int] = []
    if not call.int("allowzero"):
        kept = [axis for axis, dim in enumerate(wanted) if dim == 0 and axis < source.rank]
    for axis in kept:
        wanted[axis] = source.shape[axis]
    return _completed(source, wanted, kept)


def _completed(source: TensorType, wanted: list[Dim], kept: Sequence[int]) -> tuple[Dim, ...]:
    open_axes = [axis for axis, dim in enumerate(wanted) if dim == -1]
    total = product(dim for axis, dim in enumerate(source.shape) if axis not in kept)
    given = product(dim for axis, dim in enumerate(wanted) if dim != -1 and axis not in kept)
    text = f"reshape: {source} to {shown_shape(wanted)}"
    if len(open_axes) > 1 or any(isinstance(dim, int) and dim < -1 for dim in wanted):
        raise LeptonError(f"{text} leaves more than one extent open", code="E103")
    if not open_axes:
        if differ(total, given):
            raise LeptonError(
                f"{text} changes the number of elements: {total}, should be {given}", code="E103"
            )
        return tuple(wanted)
    if given == 0:
        rest: Dim = 0
    else:
        rest = floordiv(total, given)
        if rest * given != total:
            if isinstance(total, int) and isinstance(given, int):
                raise LeptonError(
                    f"{text}: {total} elements are no multiple of {given}", code="E103"
                )
            rest = floordiv(total, maximum(given, 1))
    wanted[open_axes[0]] = rest
    return tuple(wanted)


def _reshape_evaluate(call: Evaluation) -> Array:
    source, shape = call[0], [int(extent) for extent in call[1]]
    if min(shape, default=0) < -1 or shape.count(-1) > 1:
        raise LeptonError(
            f"reshape: {shown_shape(shape)} leaves more than one extent open", code="E103"
        )
    kept: list[int] = []
    if not call.attrs["allowzero"]:
        kept = [axis for axis, extent in enumerate(shape) if extent == 0 and axis < source.ndim]
    total = math.prod(n for axis, n in enumerate(source.shape) if axis not in kept)
    given = math.prod(n for axis, n in enumerate(shape) if n != -1 and axis not in kept)
    for axis in kept:  # these cancel, so that an extent of 0 leaves the one of -1 as it is
        shape[axis] = source.shape[axis]
    rest = total // given if given else 0
    return source.reshape([rest if extent == -1 else extent for extent in shape])


define(
    "reshape(x, shape!)",
    "The same elements in row-major order with another shape; 0 keeps an extent unless "
    "`allowzero`, -1 is computed.",
    infer=lambda call: call[0].type.with_shape(*reshaped(call)),
    evaluate=_reshape_evaluate,
    content=moved(_reshape_evaluate, "x"),
    attrs={"allowzero": Attr("int", 0)},
    traits=VIEW,
    onnx="Reshape",
    since=25,
)


def _flatten_infer(call: Inference) -> TensorType:
    type, axis = call[0].type, call.int("axis")
    if axis != type.rank:
        axis = normalized_axis(call, axis, type.rank)
    return type.with_shape(product(type.shape[:axis]), product(type.shape[axis:]))


def _flatten_evaluate(call: Evaluation) -> Array:
    axis = call.int("axis")
    head = call[0].shape[:axis]
    return call[0].reshape(math.prod(head), math.prod(call[0].shape[len(head) :]))


define(
    "flatten(x)", "A matrix: dimensions before `axis` are the rows, the others the columns.",
    infer=_flatten_infer, evaluate=_flatten_evaluate, content=moved(_flatten_evaluate, "x"),
    attrs={"axis": Attr("int", 1)}, traits=VIEW, onnx="Flatten", since=25,
)  # fmt: skip


def squeezed_axes(call: Inference) -> tuple[int, ...]:
    """The axes that a `squeeze` removes."""
    type = call[0].type
    if call.get("axes") is None:
        return tuple(axis for axis, dim in enumerate(type.shape) if dim == 1)
    axes = normalized_axes(call, required_integers(call, "axes"), type.rank)
    for axis in axes:
        if differ(type.shape[axis], 1):
            raise LeptonError(
                f"squeeze: axis {axis} of {type} is {type.shape[axis]}, should be 1", code="E103"
            )
    return axes


def _without_axes(call: Inference, sign: int) -> TensorType | None:
    """The type for axes that are not known before run time; None where they are known."""
    type = call.type("axes")
    if type is None or known_integers(call, "axes") is not None:
        return None
    count = type.shape[0] if type.rank == 1 else 1
    if not isinstance(count, int):
        raise LeptonError(f"{call.definition.name}: the number of axes is not known", code="E109")
    rank = call[0].type.rank + sign * count
    check_rank(call, rank)
    return call[0].type.with_shape(*(call.unknown(i) for i in range(rank)))


def _squeeze_infer(call: Inference) -> TensorType:
    unknown = _without_axes(call, -1)
    if unknown is not None:
        return unknown
    axes = squeezed_axes(call)
    kept = [dim for axis, dim in enumerate(call[0].type.shape) if axis not in axes]
    return call[0].type.with_shape(*kept)


def _squeeze_evaluate(call: Evaluation) -> Array:
    axes = call.get("axes")
    return np.squeeze(call[0], None if axes is None else tuple(map(int, axes.tolist())))


define(
    "squeeze(x, axes?!)", "Dimensions of extent 1 removed: those in `axes`, or all.",
    infer=_squeeze_infer, evaluate=_squeeze_evaluate, content=moved(_squeeze_evaluate, "x"),
    traits=VIEW, onnx="Squeeze", since=25,
)  # fmt: skip


def unsqueezed_axes(call: Inference) -> tuple[int, ...]:
    """The axes of an `unsqueeze`'s result that it adds."""
    axes = required_integers(call, "axes")
    return normalized_axes(call, axes, call[0].type.rank + len(axes))


def _unsqueeze_infer(call: Inference) -> TensorType:
    unknown = _without_axes(call, 1)
    if unknown is not None:
        return unknown
    shape = list(call[0].type.shape)
    for axis in sorted(unsqueezed_axes(call)):
        shape.insert(axis, 1)
    return call[0].type.with_shape(*shape)


def _unsqueeze_evaluate(call: Evaluation) -> Array:
    return np.expand_dims(call[0], tuple(int(axis) for axis in call[1].reshape(-1)))


define(
    "unsqueeze(x, axes!)", "Dimensions of extent 1 added at `axes` of the result.",
    infer=_unsqueeze_infer, evaluate=_unsqueeze_evaluate, content=moved(_unsqueeze_evaluate, "x"),
    traits=VIEW, onnx="Unsqueeze", since=25,
)  # fmt: skip


def permutation(call: Inference) -> tuple[int, ...]:
    """The axis of the operand that each dimension of a `transpose`'s result is."""
    rank = call[0].type.rank
    perm = call.ints("perm")
    if perm is None:
        return tuple(reversed(range(rank)))
    axes = normalized_axes(call, perm, rank)
    if len(axes) != rank:
        raise LeptonError(
            f"transpose: perm {list(perm)} has {len(axes)} axes, {call[0].type} has {rank}",
            code="E107",
        )
    return axes


def _transpose_evaluate(call: Evaluation) -> Array:
    return np.transpose(call[0], call.ints("perm"))


define(
    "transpose(x)",
    "Dimensions in the order `perm`; reversed by default.",
    infer=lambda call: call[0].type.with_shape(
        *(call[0].type.shape[axis] for axis in permutation(call))
    ),
    evaluate=_transpose_evaluate,
    content=moved(_transpose_evaluate, "x"),
    attrs={"perm": Attr("ints")},
    traits=[Trait.INJECTIVE],
    onnx="Transpose",
    since=25,
)
