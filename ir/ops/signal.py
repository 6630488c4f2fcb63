"""Rows of signal processing: Fourier transforms, and blocks put together again."""

from __future__ import annotations

import math
from itertools import product as all_of

import numpy as np

from leptonc.ir.blob import Array
from leptonc.ir.diagnostics import LeptonError
from leptonc.ir.dims import Dim, bounds, floordiv, maximum, product
from leptonc.ir.graph import Value
from leptonc.ir.ops.broadcasting import FLOATS, INTEGERS, check_dtype, normalized_axis
from leptonc.ir.ops.contents import content_of, known_integers, required_integers
from leptonc.ir.ops.movement import wanted_extents
from leptonc.ir.ops.shape import differ
from leptonc.ir.table import Attr, Evaluation, Inference, define
from leptonc.ir.types import DType, TensorType


def transformed_axis(call: Inference) -> int:
    """The axis of a `dft`."""
    (axis,) = required_integers(call, "axis") if call.get("axis") is not None else (-2,)
    found = normalized_axis(call, axis, call[0].type.rank)
    if found == call[0].type.rank - 1:
        raise LeptonError("dft: the last axis holds real and imaginary parts", code="E107")
    return found


def transform_length(call: Inference) -> Dim:
    """How many numbers a `dft` of known axis transforms."""
    if call.get("dft_length") is not None:
        length = one_number(call, "dft_length")
        return call.unknown() if length is None else length
    extent = call[0].type.shape[transformed_axis(call)]
    return (extent - 1) * 2 if call.int("inverse") and call.int("onesided") else extent


def one_number(call: Inference, name: str) -> Dim | None:
    """What a scalar operand holds, None where that is not known."""
    value = call.get(name)
    content = content_of(value) if value is not None else None
    return None if content is None else content.reshape(-1)[0]


def _dft_infer(call: Inference) -> TensorType:
    type = call[0].type
    check_dtype(call, "x", FLOATS)
    if type.rank < 2 or type.shape[-1] not in (1, 2):
        raise LeptonError(
            f"dft of {type}, the last extent should be 1 (real) or 2 (complex)", code="E103"
        )
    inverse, onesided = call.int("inverse"), call.int("onesided")
    real = inverse and onesided
    if call.get("axis") is not None and known_integers(call, "axis") is None:
        outer = [call.unknown(axis) for axis in range(type.rank - 1)]
        return type.with_shape(*outer, 1 if real else 2)
    axis, length = transformed_axis(call), transform_length(call)
    extent = floordiv(length, 2) + 1 if onesided and not inverse else length
    return type.with_shape(*type.shape[:axis], extent, *type.shape[axis + 1 : -1], 1 if real else 2)


def _complex(x: Array) -> Array:
    """The numbers that real and imaginary parts along the last axis stand for."""
    parts = x if x.dtype.name in ("float32", "float64") else x.astype(np.float32)
    if x.shape[-1] == 1:
        return parts[..., 0]
    return parts[..., 0] + parts[..., 1] * np.asarray(1j, np.complex64)


def _dft_evaluate(call: Evaluation) -> Array:
    x, given, axis = call[0], call.get("dft_length"), call.get("axis")
    at = (int(axis.reshape(-1)[0]) if axis is not None else -2) % x.ndim
    inverse, onesided = bool(call.int("inverse")), bool(call.int("onesided"))
    length = int(given.reshape(-1)[0]) if given is not None else None
    signal = _complex(x)
    if inverse and onesided:
        return np.fft.irfft(signal, length, at)[..., None].astype(x.dtype)
    result = (np.fft.ifft if inverse else np.fft.fft)(signal, length, at)
    if onesided:
        result = np.take(result, range(result.shape[at] // 2 + 1), at)
    return np.stack([result.real, result.imag], -1).astype(x.dtype)


define(
    "dft(x, dft_length?!, axis?!, table?)",
    "The discrete Fourier transform along `axis`, or its inverse; `table` is for kernels.",
    infer=_dft_infer, evaluate=_dft_evaluate,
    attrs={"inverse": Attr("int", 0), "onesided": Attr("int", 0)}, onnx="DFT", since=20,
)  # fmt: skip


def frame_length(signal: Dim, window: Value | None, given: Dim | None) -> Dim:
    """How many samples the frames of an `stft` have: as told, as the window, or all of them."""
    if given is not None:
        return given
    return signal if window is None else window.type.shape[0]


def frame_count(signal: Dim, length: Dim, step: Dim | None) -> Dim:
    """How many frames lie in the signal; `step` is known."""
    if isinstance(step, int) and step <= 0:
        raise LeptonError(f"stft: frame_step is {step}, should be at least 1", code="E108")
    count = floordiv(signal - length, maximum(step or 0, 1)) + 1
    if isinstance(count, int) and count < 0:
        raise LeptonError(f"stft: frames of {length} do not fit {signal} samples", code="E103")
    return maximum(count, 0)


def _stft_infer(call: Inference) -> TensorType:
    type = call[0].type
    check_dtype(call, "x", FLOATS)
    if type.rank != 3 or type.shape[-1] not in (1, 2):
        raise LeptonError(
            f"stft of {type}, should be [batch,length,1] or [batch,length,2]", code="E103"
        )
    step, given = one_number(call, "frame_step"), one_number(call, "frame_length")
    length = call.unknown(1)
    if given is not None or call.get("frame_length") is None:
        length = frame_length(type.shape[1], call.get("window"), given)
    frames = call.unknown(0) if step is None else frame_count(type.shape[1], length, step)
    bins = floordiv(length, 2) + 1 if call.int("onesided") else length
    return type.with_shape(type.shape[0], frames, bins, 2)


def _stft_evaluate(call: Evaluation) -> Array:
    x, window, given = call[0], call.get("window"), call.get("frame_length")
    step = int(call[1].reshape(-1)[0])
    length = x.shape[1] if window is None else window.size
    if given is not None:
        length = int(given.reshape(-1)[0])
    starts = range(0, x.shape[1] - length + 1, step)
    places = np.array([range(at, at + length) for at in starts], np.int64).reshape(-1, length)
    pieces = np.take(x, places, axis=1)
    if window is not None:
        pieces = pieces * window[:, None]
    result = np.fft.fft(_complex(pieces), axis=2)
    if call.int("onesided"):
        result = result[:, :, : length // 2 + 1]
    return np.stack([result.real, result.imag], -1).astype(x.dtype)


define(
    "stft(x, frame_step!, window?, frame_length?!)",
    "The Fourier transforms of windows that slide over a signal.",
    infer=_stft_infer,
    evaluate=_stft_evaluate,
    attrs={"onesided": Attr("int", 1)},
    onnx="STFT",
    since=17,
)


def _mel_infer(call: Inference) -> TensorType:
    for name in ("num_mel_bins", "dft_length", "sample_rate"):
        check_dtype(call, name, INTEGERS)
    bins, length = one_number(call, "num_mel_bins"), one_number(call, "dft_length")
    rows = call.unknown(0) if length is None else floordiv(length, 2) + 1
    return TensorType(
        call.dtype("output_datatype"), (rows, call.unknown(1) if bins is None else bins)
    )


def _mel_evaluate(call: Evaluation) -> Array:
    bins, length, rate = (int(array.reshape(-1)[0]) for array in call.items[:3])
    low, high = (
        2595 * math.log10(1 + float(array.reshape(-1)[0]) / 700) for array in call.items[3:]
    )
    mels = np.arange(bins + 2) * ((high - low) / (bins + 2)) + low
    hertz = 700 * (10 ** (mels / 2595) - 1)
    edges = ((length + 1) * hertz // rate).astype(np.int64)
    result = np.zeros((length // 2 + 1, bins))
    for at, (left, center, right) in enumerate(zip(edges, edges[1:], edges[2:], strict=False)):
        if left == center:
            result[center, at] = 1
        else:
            result[left : center + 1, at] = np.arange(center - left + 1) / (center - left)
        if right > center:
            result[center:right, at] = np.arange(right - center, 0, -1) / (right - center)
    return result.astype(call.dtype("output_datatype").numpy)


define(
    "mel_weight_matrix(num_mel_bins!, dft_length!, sample_rate!, lower_edge_hertz, "
    "upper_edge_hertz)",
    "Weights that take a linear spectrum to the mel scale.",
    infer=_mel_infer,
    evaluate=_mel_evaluate,
    attrs={"output_datatype": Attr("dtype", DType.F32)},
    onnx="MelWeightMatrix",
    since=17,
)


def _columns_infer(call: Inference) -> TensorType:
    type = call[0].type
    image, block = wanted_extents(call, "image_shape"), wanted_extents(call, "block_shape")
    if content_of(call[2]) is None:
        return type.with_shape(type.shape[0], call.unknown(len(image)), *image)
    if type.rank != 3 or len(image) != len(block):
        raise LeptonError(
            f"col2im of {type} with image_shape {image} and block_shape {block}, should be "
            "[N,C*block,L]",
            code="E103",
        )
    strides, pads, dilations = column_window(call, len(block))
    count = product(
        floordiv(
            extent + pads[i] + pads[i + len(block)] - (block[i] - 1) * dilations[i] - 1, strides[i]
        )
        + 1
        for i, extent in enumerate(image)
    )
    inner = product(block)
    if bounds(inner)[1] < 1:
        raise LeptonError(f"col2im: block_shape {block} should be at least 1", code="E108")
    channels = type.shape[1]
    divides = not (isinstance(channels, int) and isinstance(inner, int)) or channels % inner == 0
    if differ(count, type.shape[2]) or not divides:
        raise LeptonError(
            f"col2im of {type}: blocks of {inner} elements, {count} of them, should fit",
            code="E103",
        )
    return type.with_shape(type.shape[0], floordiv(channels, maximum(inner, 1)), *image)


def column_window(
    call: Inference | Evaluation, rank: int
) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
    """Strides, pads and dilations of a `col2im`."""
    ones = (1,) * rank
    strides, dilations = call.ints("strides") or ones, call.ints("dilations") or ones
    pads = call.ints("pads") or (0,) * (2 * rank)
    if len(strides) != rank or len(dilations) != rank or len(pads) != 2 * rank:
        raise LeptonError(
            f"col2im of {rank} dimensions has {len(strides)} strides, {len(dilations)} dilations "
            f"and {len(pads)} pads",
            code="E108",
        )
    if min((*strides, *dilations), default=1) < 1:
        raise LeptonError(
            f"col2im: strides {list(strides)} and dilations {list(dilations)} should be at least 1",
            code="E108",
        )
    return strides, pads, dilations


def _columns_evaluate(call: Evaluation) -> Array:
    x, image, block = call[0], [int(n) for n in call[1]], [int(n) for n in call[2]]
    strides, pads, dilations = column_window(call, len(block))
    inner = math.prod(block)
    counts = [
        (image[i] + pads[i] + pads[i + len(block)] - dilations[i] * (block[i] - 1) - 1)
        // strides[i]
        + 1
        for i in range(len(block))
    ]
    padded = np.zeros(
        (
            x.shape[0],
            x.shape[1] // inner,
            *(n + pads[i] + pads[i + len(block)] for i, n in enumerate(image)),
        ),
        x.dtype,
    )
    columns = x.reshape(x.shape[0], x.shape[1] // inner, inner, *counts)
    for at, tap in enumerate(all_of(*map(range, block))):
        where = [
            slice(t * d, t * d + (n - 1) * s + 1, s)
            for t, d, n, s in zip(tap, dilations, counts, strides, strict=True)
        ]
        padded[(slice(None), slice(None), *where)] += columns[:, :, at]
    kept = [slice(pads[i], pads[i] + n) for i, n in enumerate(image)]
    return np.ascontiguousarray(padded[(slice(None), slice(None), *kept)])


define(
    "col2im(x, image_shape!, block_shape!)",
    "Blocks, one a column, added up into the image that they were cut from.",
    infer=_columns_infer,
    evaluate=_columns_evaluate,
    attrs={"dilations": Attr("ints"), "pads": Attr("ints"), "strides": Attr("ints")},
    onnx="Col2Im",
    since=18,
)
