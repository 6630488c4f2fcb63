"""Norms, images, searches and quantised operators of com.microsoft are what onnxruntime does."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from leptonc.ir.blob import Array
from leptonc.ir.diagnostics import LeptonError
from leptonc.onnx_import import import_model
from tests.contrib import Operands, check, interpreted, lone

RNG = np.random.default_rng(6)
PAIR, TRIPLE = np.array([1, 1, 0], np.int32), np.array([1, 1, 1], np.int32)


def f32(*shape: int) -> Array:
    return RNG.standard_normal(shape).astype(np.float32)


def of(number: Any, dtype: Any = np.float32) -> Array:
    return np.array(number, dtype)


def u8(number: Any) -> Array:
    return np.array(number, np.uint8)


def i8(number: Any) -> Array:
    return np.array(number, np.int8)


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize("form", ["all", "no bias", "one skip for all", "simplified"])
def test_norms_of_sums(form: str, dtype: Any) -> None:
    def numbers(*shape: int) -> Array:
        return f32(*shape).astype(dtype)

    operands: dict[str, Array | None] = {
        "x": numbers(2, 3, 16), "skip": numbers(2, 3, 16), "g": numbers(16), "b": numbers(16),
        "c": numbers(16),
    }  # fmt: skip
    near = 2e-5 if dtype == np.float32 else 4e-3
    op = "SkipLayerNormalization"
    if form == "simplified":
        op = "SkipSimplifiedLayerNormalization"
        del operands["c"]
    elif form != "all":
        del operands["b"], operands["c"]
    if form == "one skip for all":
        operands["skip"] = numbers(3, 16)
    check(op, operands, ("y", "", "", "sum"), near=near)


IDS = RNG.integers(0, 10, (2, 3)).astype(np.int32)
TABLES = {"w": f32(10, 16), "p": f32(10, 16), "s": f32(2, 16), "g": f32(16), "b": f32(16)}
EMBED: dict[str, Operands] = {
    "without a mask": {"x": IDS, "seg": IDS % 2, **TABLES},
    "mask": {"x": IDS, "seg": IDS % 2, **TABLES, "m": np.stack([PAIR, TRIPLE])},
    "one kind": {"x": IDS, "seg": None, **TABLES, "s": None},
    "places": {"x": IDS, "seg": IDS % 2, **TABLES, "m": None, "at": IDS[:, ::-1].copy()},
}


@pytest.mark.parametrize("name", EMBED)
def test_embeddings(name: str) -> None:
    check("EmbedLayerNormalization", EMBED[name], ("y", "index", "sum"))


@pytest.mark.parametrize("masked", [False, True])
def test_embeddings_on_bytes(*, masked: bool) -> None:
    shapes = {"w": (10, 16), "p": (10, 16), "s": (2, 16), "g": (16,), "b": (16,)}
    tables = {
        name: RNG.integers(0, 255, shape).astype(np.uint8) for name, shape in shapes.items()
    }  # fmt: skip
    operands: dict[str, Array | None] = {
        "x": IDS, "seg": IDS % 2, **tables,
        "m": np.stack([PAIR, TRIPLE]) if masked else None,
        **{f"scale{n}": of(0.01 * (n + 1)) for n in range(5)},
        **{f"zero{n}": u8(100 + n) for n in range(5)},
    }  # fmt: skip
    check("QEmbedLayerNormalization", operands, ("y", "index"))


BOXES = of([[0, 0, 1, 1], [0.1, 0.2, 0.9, 0.7], [-0.2, 0.3, 1.3, 0.6], [0.8, 0.9, 0.2, 0.1]])
CUT: dict[str, Array] = {"x": f32(2, 3, 7, 9), "r": BOXES, "n": of([0, 1, 1, 0], np.int32)}
WORDS = of([[1, 2, 3, 1, 2], [4, 4, 4, 4, 4], [5, 6, 7, 8, 9]], np.int64)
PLACES = (RNG.random((2, 6, 7, 2)) * 2.4 - 1.2).astype(np.float32)
FILTER, IMAGE = f32(3, 2, 3, 3), f32(1, 2, 5, 5)

CASES: dict[str, tuple[str, Operands, dict[str, Any]]] = {
    "product": ("TransposeMatMul", {"x": f32(2, 3, 4), "b": f32(2, 5, 4)},
                {"transB": 1, "alpha": 0.5}),
    "gemm and tanh": ("FusedGemm", {"x": f32(3, 4), "b": f32(4, 5), "c": f32(5)},
                      {"activation": "Tanh"}),
    "convolution and hard sigmoid": (
        "FusedConv", {"x": IMAGE, "w": FILTER},
        {"activation": "HardSigmoid", "activation_params": [0.3, 0.4]}),
    "triangle": ("Trilu", {"x": f32(3, 4)}, {"upper": 0}),
    "gather": ("GatherND", {"x": f32(3, 4), "i": of([[0, 1], [2, 3]], np.int64)}, {}),
    "last axis": ("ExpandDims", {"x": f32(3, 4), "a": of(-1, np.int32)}, {}),
    "inner axis": ("ExpandDims", {"x": f32(3, 4), "a": of(1, np.int32)}, {}),
    "pad": ("Pad", {"x": f32(3, 4), "p": of([1, 0, 0, 2], np.int64), "v": of([1.5])}, {}),
    "reflect": ("Pad", {"x": f32(3, 4), "p": of([[1, 0, 0, 2]], np.int64)}, {"mode": "reflect"}),
    "windows": ("UnfoldTensor", {"x": f32(3, 9, 2)}, {"dim": 1, "size": 3, "step": 2}),
    "last windows": ("UnfoldTensor", {"x": f32(3, 9)}, {"dim": -1, "size": 4, "step": 1}),
    "transposed convolution": (
        "ConvTransposeWithDynamicPads",
        {"x": IMAGE, "w": f32(2, 3, 3, 3), "p": of([1, 1, 1, 1], np.int64), "b": f32(3)},
        {"strides": [2, 2]}),
    "crop": ("CropAndResize", {**CUT, "size": of([4, 5], np.int32)},
             {"extrapolation_value": 2.5}),
    "crop nearest": ("CropAndResize", {**CUT, "size": of([4, 5], np.int32)},
                     {"mode": "nearest"}),
    "crop to one": ("CropAndResize", {**CUT, "size": of([1, 1], np.int32)}, {}),
    "runs of 3": ("NGramRepeatBlock", {"words": WORDS, "x": f32(3, 12)}, {"ngram_size": 3}),
    "runs of 1": ("NGramRepeatBlock", {"words": WORDS, "x": f32(3, 12)}, {"ngram_size": 1}),
    "squared distances": ("CDist", {"x": f32(5, 7), "b": f32(4, 7)}, {}),
    "distances": ("CDist", {"x": f32(5, 7), "b": f32(4, 7)}, {"metric": "euclidean"}),
    **{f"{mode} sampling, {pads}": (
        "GridSample", {"x": f32(2, 3, 5, 6), "g": PLACES},
        {"mode": mode, "padding_mode": pads, "align_corners": int(pads == "border")})
       for mode in ("bilinear", "nearest", "bicubic") for pads in ("zeros", "border", "reflection")
       if (mode, pads) != ("bicubic", "border")},
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_as_onnxruntime(name: str) -> None:
    op, operands, attributes = CASES[name]
    check(op, operands, near=1e-4, **attributes)


@pytest.mark.parametrize(("start", "step"), [(of(1), None), (of(2, np.int32), of(3, np.int32))])
def test_ranges(start: Array, step: Array | None) -> None:
    operands: dict[str, Array | None] = {"x": start, "limit": (start * 0 + 9), "step": step}
    if step is None:
        del operands["step"]
    check("Range", operands)


def test_unique_elements_in_order() -> None:
    check("Unique", {"x": of([3, 1, 3, 2, 1, 5])}, ("y", "places", "counts"))


BYTES = RNG.integers(0, 255, (2, 3, 4, 4)).astype(np.uint8)
SIGNED = (BYTES.astype(int) - 128).astype(np.int8)
GIVEN: dict[str, Array] = {"x": BYTES, "xs": of(0.0513), "xz": u8(100)}
MINUS: dict[str, Array] = {"x": SIGNED, "xs": of(0.0513), "xz": i8(-3)}
TO: dict[str, Array] = {"ys": of(0.0317), "yz": u8(90)}
SHARE: dict[str, Array] = {"ys": of(1 / 256), "yz": u8(0)}
CHOICE = RNG.integers(0, 2, (3, 4, 4)).astype(bool)
SMALL = RNG.integers(-30, 30, (5, 3, 3, 3)).astype(np.int8)
ROWS = RNG.integers(-60, 60, (4, 4)).astype(np.int8)
FOUR = i8([1, 2, 3, 4])

QUANTISED: dict[str, tuple[str, Operands, dict[str, Any]]] = {
    "sigmoid": ("QLinearSigmoid", {**MINUS, "ys": of(0.004), "yz": i8(-128)}, {}),
    "leaky relu": ("QLinearLeakyRelu", {**MINUS, "ys": of(0.04), "yz": i8(-12)}, {"alpha": 0.2}),
    "softmax": ("QLinearSoftmax", {**GIVEN, **SHARE}, {"axis": -1, "opset": 13}),
    "softmax along channels": ("QLinearSoftmax", {**GIVEN, **SHARE}, {"axis": 1, "opset": 13}),
    "softmax of matrices": (
        "QLinearSoftmax", {**GIVEN, "xs": of(0.01), "ys": of(1 / 2560), "yz": u8(0)},
        {"axis": 1, "opset": 12}),
    "mean of images": ("QLinearGlobalAveragePool", {**GIVEN, **TO}, {"channels_last": 1}),
    "mean, signed": ("QLinearGlobalAveragePool", {**MINUS, "ys": of(0.03), "yz": i8(9)}, {}),
    "means": ("QLinearAveragePool", {**GIVEN, **TO},
              {"channels_last": 1, "kernel_shape": [2, 2], "strides": [2, 1]}),
    "means with pads": (
        "QLinearAveragePool", {**GIVEN, **TO},
        {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1], "count_include_pad": 1}),
    "choice": (
        "QLinearWhere",
        {"c": CHOICE, **GIVEN, "b": BYTES[::-1].copy(), "bs": of(0.03), "bz": u8(9), **TO}, {}),
    "concatenation": (
        "QLinearConcat",
        {**TO, **GIVEN, "b": BYTES[::-1].copy(), "bs": of(0.02), "bz": u8(3)}, {"axis": 2}),
    "sum": (
        "QLinearAdd",
        {**MINUS, "b": SIGNED[::-1].copy(), "bs": of(0.0217), "bz": i8(3), "ys": of(0.0631),
         "yz": i8(4)}, {}),
    "sum with a row": (
        "QLinearAdd",
        {**GIVEN, "b": BYTES[0, :, :1, :1], "bs": of(0.0217), "bz": u8(3), **TO}, {}),
    "convolution, channels last": (
        "QLinearConv",
        {**GIVEN, "x": BYTES.transpose(0, 2, 3, 1).copy(), "w": SMALL,
         "ws": of([0.01, 0.02, 0.003, 0.015, 0.02]), "wz": i8([0] * 5), "ys": of(0.3),
         "yz": u8(90), "b": of([900, -500, 3, 40, -7], np.int32)},
        {"channels_last": 1, "pads": [1, 1, 1, 1]}),
    "convolution": (
        "QLinearConv",
        {**GIVEN, "w": SMALL, "ws": of(0.02), "wz": i8(0), "ys": of(0.3), "yz": u8(90)}, {}),
    "largest": ("NhwcMaxPool", {"x": BYTES}, {"kernel_shape": [2, 2]}),
    "largest, signed": ("NhwcMaxPool", {"x": SIGNED},
                        {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1], "strides": [2, 2]}),
    "wide product": (
        "MatMulInteger16",
        {"x": RNG.integers(-3000, 3000, (3, 8)).astype(np.int16),
         "b": RNG.integers(-3000, 3000, (8, 4)).astype(np.int16)}, {}),
    "gemm": (
        "QGemm",
        {**MINUS, "x": SIGNED[0, 0], "b": ROWS, "bs": of([0.01, 0.02, 0.005, 0.01]), "bz": FOUR,
         "c": of([1, 2, 3, 4], np.int32), "ys": of(1.0), "yz": i8(3)}, {}),
    "real product": (
        "MatMulIntegerToFloat",
        {"x": SIGNED[0], "b": ROWS, "xs": of(0.05), "bs": of([0.1, 0.2, 0.5, 0.3]), "xz": i8(10),
         "bz": FOUR}, {}),
    "least real product": (
        "MatMulIntegerToFloat", {"x": BYTES[0], "b": ROWS, "xs": of(0.05), "bs": of(0.02)}, {}),
    "dynamic product": (
        "DynamicQuantizeMatMul", {"x": f32(2, 3, 4), "b": ROWS, "bs": of([0.1, 0.2, 0.5, 0.3])},
        {}),
    "dynamic product and bias": (
        "DynamicQuantizeMatMul",
        {"x": f32(2, 3, 4), "b": ROWS, "bs": of([0.1, 0.2, 0.5, 0.3]), "bz": FOUR,
         "bias": f32(4)}, {}),
    "16 bits": ("QuantizeLinear", {"x": f32(2, 3, 4), "s": of(0.001), "z": of(30000, np.uint16)},
                {}),
    "by row": ("QuantizeLinear", {"x": f32(2, 3, 4), "s": of([0.1, 0.2, 0.3]), "z": i8([1, 2, 3])},
               {"axis": 1}),
    "32 bits back": ("DequantizeLinear", {"x": of([[-999, 7]], np.int32), "s": of(0.1)}, {}),
    "by row back": (
        "DequantizeLinear", {"x": BYTES[0], "s": of([0.1, 0.2, 0.3]), "z": u8([1, 2, 3])},
        {"axis": 0}),
}  # fmt: skip


@pytest.mark.parametrize("name", QUANTISED)
def test_quantised_as_onnxruntime(name: str) -> None:
    op, operands, attributes = QUANTISED[name]
    check(op, operands, near=1e-4, **attributes)


# Those that onnxruntime has no kernels for on this processor.


def test_group_norms() -> None:
    x, skip, gamma, beta = f32(2, 4, 5, 6), f32(2, 6), f32(6), f32(6)

    def expected(x: Array) -> Array:
        groups = x.reshape(2, 20, 3, 2).astype(np.float64)
        centred = groups - groups.mean((1, 3), keepdims=True)
        normal = centred / np.sqrt(groups.var((1, 3), keepdims=True) + 1e-5)
        return normal.reshape(x.shape) * gamma + beta

    operands: dict[str, Array | None] = {"x": x, "g": gamma, "b": beta}
    (ours,) = interpreted(lone("GroupNorm", operands, groups=3, activation=0), operands)
    np.testing.assert_allclose(ours, expected(x), rtol=1e-4, atol=1e-4)
    first = {name: x.transpose(0, 3, 1, 2) if name == "x" else a for name, a in operands.items()}
    source = lone("GroupNorm", first, groups=3, activation=1, channels_last=0)
    (ours,) = interpreted(source, first)
    normal = expected(x).transpose(0, 3, 1, 2)
    np.testing.assert_allclose(ours, normal / (1 + np.exp(-normal)), rtol=1e-4, atol=1e-4)
    operands |= {"skip": skip, "bias": f32(6)}
    ours, total = interpreted(
        lone("SkipGroupNorm", operands, ("y", "s"), groups=3, activation=0), operands
    )
    assert operands["bias"] is not None
    np.testing.assert_allclose(total, x + skip[:, None, None] + operands["bias"], rtol=1e-6)
    np.testing.assert_allclose(ours, expected(total), rtol=1e-4, atol=1e-4)


def test_channels_last() -> None:
    plain, addend = {"x": IMAGE, "w": FILTER}, f32(1, 3, 3, 3)
    (expected,) = interpreted(lone("FusedConv", plain, activation="Relu"), plain)
    turned = {name: array.transpose(0, 2, 3, 1) for name, array in plain.items()}
    (ours,) = interpreted(lone("NhwcFusedConv", turned, activation="Relu"), turned)
    np.testing.assert_allclose(ours, expected.transpose(0, 2, 3, 1), rtol=1e-5, atol=1e-5)
    (linear,) = interpreted(lone("NhwcConv", turned), turned)
    np.testing.assert_array_equal(np.maximum(linear, 0), ours)
    more = {**turned, "b": None, "z": addend}
    (ours,) = interpreted(lone("NhwcFusedConv", more), more)
    np.testing.assert_allclose(ours, linear + addend, rtol=1e-5, atol=1e-5)


def test_sums_around_activations() -> None:
    x, bias, skip = f32(2, 3, 8), f32(8), f32(2, 3, 8)
    operands: dict[str, Array | None] = {"x": x, "b": bias, "s": skip}
    (ours,) = interpreted(lone("BiasAdd", operands), operands)
    np.testing.assert_allclose(ours, x + bias + skip, rtol=1e-6)
    ours, mask = interpreted(lone("BiasDropout", operands, ("y", "m")), operands)
    np.testing.assert_allclose(ours, x + bias + skip, rtol=1e-6)
    assert mask.all()
    operands = {"x": x, "b": bias}
    (ours,) = interpreted(lone("BiasSplitGelu", operands), operands)
    half = {"x": (x + bias)[..., 4:]}
    (gelu,) = interpreted(lone("Gelu", half), half)
    np.testing.assert_allclose(ours, (x + bias)[..., :4] * gelu, rtol=1e-5, atol=1e-6)
    operands = {"x": f32(4, 2, 3, 5), "b": f32(4, 1, 3, 5)}
    (ours,) = interpreted(lone("BiasSoftmax", operands, axis=2, is_inner_broadcast=1), operands)
    assert operands["x"] is not None
    assert operands["b"] is not None
    exponents = np.exp(operands["x"] + operands["b"])
    expected = exponents / exponents.sum((2, 3), keepdims=True)
    np.testing.assert_allclose(ours, expected, rtol=1e-5)


def test_transforms() -> None:
    x = f32(2, 3, 8)
    (ours,) = interpreted(lone("Rfft", {"x": x}), {"x": x})
    spectrum = np.fft.rfft(x)
    np.testing.assert_allclose(ours[..., 0] + 1j * ours[..., 1], spectrum, rtol=1e-4, atol=1e-4)
    (back,) = interpreted(lone("Irfft", {"x": ours}), {"x": ours})
    np.testing.assert_allclose(back, x, rtol=1e-4, atol=1e-4)


def test_quantised_mean() -> None:
    operands: Operands = {**GIVEN, **TO}
    (ours,) = interpreted(lone("QLinearReduceMean", operands, axes=[1], keepdims=0), operands)
    mean = ((BYTES.astype(np.float64) - 100) * 0.0513).mean(1)
    expected = np.clip(np.rint(mean / 0.0317) + 90, 0, 255)
    assert np.abs(ours - expected).max() <= 1
    assert (ours != expected).mean() < 0.05


def test_integers_and_checks() -> None:
    operands: Operands = {"a": BYTES, "az": u8(3), "x": BYTES[0], "xz": None}
    (ours,) = interpreted(lone("MulInteger", operands), operands)
    np.testing.assert_array_equal(ours, (BYTES.astype(int) - 3) * BYTES[0].astype(int))
    given: Operands = {"x": SIGNED}
    (ours,) = interpreted(lone("ReduceSumInteger", given, axes=[1, 2], keepdims=0), given)
    np.testing.assert_array_equal(ours, SIGNED.astype(int).sum((1, 2)))
    for last, finite in ((1.0, True), (np.inf, False), (np.nan, False)):
        numbers: Operands = {"x": f32(2, 3), "b": of([1.0, last])}
        (ours,) = interpreted(lone("IsAllFinite", numbers), numbers)
        assert bool(ours) is finite


@pytest.mark.parametrize(
    ("op", "operands", "attributes", "what"),
    [
        ("CDist", {"x": f32(5, 7), "b": f32(4, 7)}, {"metric": "cosine"}, "the metric 'cosine'"),
        ("Rfft", {"x": f32(2, 8)}, {"onesided": 0}, "both sides"),
        ("GridSample", {"x": f32(2, 3, 5, 6), "g": PLACES},
         {"mode": "bicubic", "padding_mode": "border"}, "bicubic sampling"),
        ("BeamSearch", {"x": IDS}, {}, "BeamSearch"),
        ("MoE", {"x": f32(2, 3)}, {}, "MoE"),
    ],
)  # fmt: skip
def test_forms_that_are_refused(
    op: str, operands: Operands, attributes: dict[str, Any], what: str
) -> None:
    with pytest.raises(LeptonError) as caught:
        import_model(lone(op, operands, **attributes))
    assert what in str(caught.value)
