"""Lowered mel weights and pooled regions, and transforms whose sizes data decides."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import leptonc
from leptonc.ir.interpret import interpret
from leptonc.ir.text import parse_graph
from tests.backends.tvm.kernel_of_row import Case, RowKernel, check_kernels, check_lowering
from tests.ir.ops.against_onnx import normal
from tests.ir.ops.single import check_refusal


def number(value: float, dtype: Any = np.int64) -> Any:
    """A scalar."""
    return np.array(value, dtype)


def test_mel_weights() -> None:
    edges = [number(0, np.float32), number(4096, np.float32)]
    cases = [
        Case("mel_weight_matrix", [number(8), number(64), number(8192), *edges], tolerance=1e-6),
        Case(
            "mel_weight_matrix",
            [number(40), number(400), number(16000), *(edge.astype(np.float64) for edge in edges)],
            {"output_datatype": "f64"},
            tolerance=1e-12,
        ),
    ]
    for weights in check_kernels(cases[:1]):
        assert (weights[0].max(0) == 1).all()


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16])
def test_pooled_regions(dtype: Any) -> None:
    rois = np.array(
        [[0, 0, 0, 7, 5], [1, 2, 1, 2, 1], [1, 3, 2, 20, 9], [0, -4, -4, 1, 1], [0, 9, 9, 12, 12]],
        dtype,
    )
    x = normal(2, 3, 6, 8, dtype=dtype)
    x[0, 1, 2, 3] = np.nan
    attrs: dict[str, Any] = {"pooled_shape": [2, 3], "spatial_scale": 0.75}
    check_lowering("max_roi_pool", [x, rois], scale=0, **attrs)


def test_pooled_regions_of_symbolic_extents() -> None:
    sizes = [
        [normal(n, 2, size, size), np.array([[0, 0, 0, size, 3]] * count, np.float32)]
        for n, size, count in ((1, 4, 1), (2, 7, 3), (1, 5, 0))
    ]
    sizes[2][1] = sizes[2][1].reshape(0, 5)
    kernel = RowKernel(
        "max_roi_pool", sizes[0], {"pooled_shape": (2, 2)},
        shapes={0: ["n", "c", "h", "w"], 1: ["r", 5]},
    )  # fmt: skip
    for operands in sizes:
        kernel.check(operands)


def compiled_and_meant(text: str, *runs: dict[str, Any]) -> None:
    """Compile a graph once; hold each run against the interpreter."""
    model = leptonc.compile(parse_graph(text), target="cpu", threads=1, cache=False, isolated=False)
    for feeds in runs:
        expected = interpret(parse_graph(text), feeds)["y"]
        found = model.run(feeds)["y"]
        assert found.shape == expected.shape
        near = 1e-5 * np.abs(expected).max(initial=1)
        np.testing.assert_allclose(found, expected, 1e-5, near)


def test_axes_and_lengths_of_run_time() -> None:
    x = normal(2, 5, 6, 2)
    compiled_and_meant(
        "graph @m(%x: f32[2,5,6,2], %n: i64[], %a: i64[]) -> (y: f32[u1_,u2_,u3_,2]) {\n"
        "  %y = dft(%x, dft_length=%n, axis=%a) {onesided = 1} : f32[u1_,u2_,u3_,2]\n"
        "  return %y\n}",
        *({"x": x, "n": number(n), "a": number(a)} for n, a in ((4, 0), (7, -2), (5, 1))),
    )


def test_frames() -> None:
    known = (
        "graph @m(%x: f32[b,t,1], %w: f32[8]) -> (y: f32[b,N,5,2]) {\n"
        "  %s = const() {value = dense([3])} : i64[]\n"
        "  %y = stft(%x, %s, window=%w) : f32[b,N,5,2]\n  return %y\n}"
    ).replace("N", "max(floordiv(t-8,3)+1,0)")
    sizes = ((1, 8), (2, 30), (1, 100), (2, 5), (0, 9))
    runs = [{"x": normal(b, t, 1), "w": normal(8)} for b, t in sizes]
    compiled_and_meant(known, *runs)
    open_sizes = (
        "graph @m(%x: f32[2,40,2], %s: i64[], %n: i64[]) -> (y: f32[2,u1_,u2_,2]) {\n"
        "  %y = stft(%x, %s, frame_length=%n) {onesided = 0} : f32[2,u1_,u2_,2]\n  return %y\n}"
    )
    steps = ((8, 16), (1, 40), (5, 7))
    compiled_and_meant(
        open_sizes, *({"x": normal(2, 40, 2), "s": number(s), "n": number(n)} for s, n in steps)
    )


def test_mel_weights_of_run_time() -> None:
    compiled_and_meant(
        "graph @m(%n: i64[], %d: i64[], %r: i64[], %l: f32[], %h: f32[]) -> (y: f32[u1_,u2_]) {\n"
        "  %y = mel_weight_matrix(%n, %d, %r, %l, %h) : f32[u1_,u2_]\n  return %y\n}",
        *(
            {"n": number(n), "d": number(d), "r": number(16000),
             "l": number(20, np.float32), "h": number(7600, np.float32)}
            for n, d in ((10, 256), (3, 64))
        ),
    )  # fmt: skip


def test_frames_longer_than_the_signal_are_refused() -> None:
    check_refusal("stft", ["f32[1,10,1]", number(2), "f32[16]"], {}, "E103", "do not fit")
