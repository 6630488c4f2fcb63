"""Fourier transforms as whole kernels, planned ones and those of lengths that only a run knows."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import leptonc
from leptonc.backends.cpu.fourier_plan import plan_of, table_of
from leptonc.ir.text import parse_graph

Array = np.ndarray[Any, np.dtype[Any]]


def transform(x: Array, axis: int, length: int | None, *, inverse: int, onesided: int) -> Array:
    """What numpy makes of it in double precision."""
    parts, axis = x.astype(np.float64), axis % x.ndim
    signal = parts[..., 0] + 1j * parts[..., 1] if x.shape[-1] == 2 else parts[..., 0]
    if inverse and onesided:
        return np.fft.irfft(signal, length, axis)[..., None]
    result = (np.fft.ifft if inverse else np.fft.fft)(signal, length, axis)
    if onesided:
        result = np.take(result, range(result.shape[axis] // 2 + 1), axis)
    return np.stack([result.real, result.imag], -1)


def graph(type: str, result: str, axis: int, attrs: str, length: str | None = None) -> Any:
    """A graph of one transform."""
    given = "" if length is None else ", dft_length=%n"
    number = "" if length is None else f"  %n = const() {{value = dense([{length}])}} : i64[]\n"
    return parse_graph(
        f"graph @one(%x: {type}) -> (y: {result}) {{\n"
        f"  %a = const() {{value = dense([{axis}])}} : i64[]\n{number}"
        f"  %y = dft(%x{given}, axis=%a){attrs} : {result}\n  return %y\n}}\n"
    )


def check(model: Any, x: Array, axis: int, length: int | None, inverse: int, onesided: int) -> None:
    near = {"float64": 1e-13, "float32": 1e-6, "float16": 2e-3, "bfloat16": 2e-2}[x.dtype.name]
    found = model.run({"x": x})["y"].astype(np.float64)
    expected = transform(x, axis, length, inverse=inverse, onesided=onesided)
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, near, near * np.abs(expected).max(initial=1e-3))


@pytest.mark.parametrize("length", [1, 2, 12, 13, 17, 64, 37 * 3, 1001])
def test_the_table_of_a_plan(length: int) -> None:
    plan = plan_of(length)
    assert np.prod(plan.radices, dtype=int) == plan.size
    assert plan.is_convolution == (length in (17, 37 * 3))
    table = table_of(plan, np.dtype(np.float64))
    assert table.shape == (plan.entries, 2)
    roots = table[: plan.size, 0] + 1j * table[: plan.size, 1]
    np.testing.assert_allclose(roots**plan.size, 1, atol=1e-11)


@pytest.mark.parametrize(
    ("shape", "axis", "flags", "length"),
    [
        ((3, 16, 1), 1, (0, 0), None),
        ((2, 10, 3, 2), 1, (1, 0), None),
        ((9, 37, 2), 1, (1, 0), None),
        ((1, 17, 1), -2, (0, 1), None),
        ((2, 5, 2), 1, (1, 1), 13),
        ((20, 30, 1), 1, (0, 1), 64),
        ((5, 3, 11, 2), 0, (0, 0), 8),
        ((1, 1001, 2), 1, (0, 0), None),
    ],
)
def test_planned_transforms(
    shape: tuple[int, ...], axis: int, flags: tuple[int, int], length: int | None
) -> None:
    x = np.random.default_rng(0).standard_normal(shape)
    inverse, onesided = flags
    attrs = f" {{inverse = {inverse}, onesided = {onesided}}}" if any(flags) else ""
    for dtype, name in ((np.float32, "f32"), (np.float64, "f64"), (np.float16, "f16")):
        result = transform(x, axis, length, inverse=inverse, onesided=onesided).shape
        types = [f"{name}[{','.join(map(str, dims))}]" for dims in (shape, result)]
        one = graph(types[0], types[1], axis, attrs, None if length is None else str(length))
        model = leptonc.compile(one, target="cpu", threads=1, cache=False, isolated=False)
        check(model, x.astype(dtype), axis, length, inverse, onesided)
        if dtype is np.float32 and shape[0] != 9:
            break


def test_lengths_that_only_a_run_knows() -> None:
    one = graph("f32[b,n,2]", "f32[b,n,2]", 1, "")
    model = leptonc.compile(one, target="cpu", threads=1, cache=False, isolated=False)
    back = graph("f32[b,n,2]", "f32[b,2*n-2,1]", 1, " {inverse = 1, onesided = 1}")
    inverse = leptonc.compile(back, target="cpu", threads=1, cache=False, isolated=False)
    for batch, length in ((1, 1), (2, 16), (3, 97), (1, 360), (0, 4)):
        x = np.random.default_rng(0).standard_normal((batch, length, 2)).astype(np.float32)
        check(model, x, 1, None, 0, 0)
        if length > 1 and batch:
            check(inverse, x, 1, None, 1, 1)


def test_as_many_lines_as_a_run_brings() -> None:
    one = graph("f32[b,24,1]", "f32[b,13,2]", 1, " {onesided = 1}")
    model = leptonc.compile(one, target="cpu", threads=1, cache=False, isolated=False)
    for batch in (0, 1, 8, 21):
        x = np.random.default_rng(0).standard_normal((batch, 24, 1)).astype(np.float32)
        check(model, x, 1, None, 0, 1)
