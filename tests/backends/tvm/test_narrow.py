# pyright: standard
"""Kernels know the numbers of narrow element types: every code, and every place of rounding."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx.reference.ops.op_cast import cast_to
from tvm.sym import Analyzer

from leptonc.backends.tvm.lower.narrow import CARRIED, decode, refusal
from leptonc.backends.tvm.lowering import literal
from leptonc.ir.blob import Array, Blob
from leptonc.ir.table import all_ops
from leptonc.ir.types import DType
from leptonc.onnx_tensor import ONNX_OF_DTYPE
from tests.backends.tvm.kernel_of_row import Case, check_kernels, only_op
from tests.ir.ops.single import one_op

FLOATS8 = [DType.F8E4M3FN, DType.F8E4M3FNUZ, DType.F8E5M2, DType.F8E5M2FNUZ]
FLOATS = [*FLOATS8, DType.F8E8M0, DType.F4E2M1]
INTEGERS = [DType.I4, DType.U4, DType.I2, DType.U2]
NARROW = [*FLOATS, *INTEGERS]


def codes(dtype: DType, extent: int = 256) -> Array:
    """Every code of a type, or the first ones; unused bits of integers have any content."""
    extent = 16 if dtype is DType.F4E2M1 else extent
    return np.arange(extent).astype(np.uint8).view(dtype.numpy)


def converted(x: Array, to: DType, *, saturate: bool = True, mode: str = "up") -> Array:
    """What ONNX's own implementation of `Cast` gives."""
    number: Any = ONNX_OF_DTYPE[to]
    return cast_to(x, number, saturate, mode)


def bits(array: Array) -> Array:
    """The elements as bits, with one not-a-number of each sign."""
    array = array.copy()
    if array.dtype.kind in "fV" and not array.dtype.name.startswith(("int", "uint")):
        unknown = np.isnan(array.astype(np.float64))
        array[unknown] = np.copysign(np.float32(np.nan), 1).astype(array.dtype)
    return array.view(f"u{array.dtype.itemsize}")


def numbers(dtype: DType) -> Array:
    """f32 near which conversion to a type changes what it gives, and many others."""
    every = np.unique(codes(dtype).astype(np.float32))
    every = every[np.isfinite(every)]
    middles = (every[1:].astype(np.float64) + every[:-1]) / 2
    edges = np.concatenate([every, middles.astype(np.float32), every * 2, every * 1.0625])
    near = [np.nextafter(edges, np.float32(limit)) for limit in (-np.inf, np.inf)]
    halves = np.arange(1 << 16, dtype=np.uint16).view(np.float16).astype(np.float32)
    random = np.random.default_rng(3).integers(0, 1 << 32, 1 << 16, np.uint32).view(np.float32)
    special = np.array([np.inf, -np.inf, np.nan, 0, -0.0, 1e-45, -1e-45, 3e38], np.float32)
    return np.concatenate([edges, *near, halves, random, special])


def test_every_code_is_known_as_its_number() -> None:
    sources = [codes(dtype) for dtype in NARROW]
    targets = [DType.F32, DType.F16, DType.BF16, DType.BOOL, DType.I8]
    every = [Case("cast", [source], {"to": to}) for source in sources for to in targets]
    cases = [case for case in every if not _is_undefined(case)]
    with np.errstate(all="ignore"):
        found = check_kernels(cases)
    for case, (mine,) in zip(cases, found, strict=True):
        (source,) = case.operands
        assert source is not None
        with np.errstate(all="ignore"):
            theirs = converted(source, case.attrs["to"])
        np.testing.assert_array_equal(bits(mine), bits(theirs), err_msg=str(source.dtype))


def _is_undefined(case: Case) -> bool:
    """True for floats that no integer is near."""
    (source,) = case.operands
    assert source is not None
    dtype = DType.of(source.dtype)
    return case.attrs["to"] is DType.I8 and dtype.is_float and dtype is not DType.F4E2M1


@pytest.mark.parametrize("saturate", [1, 0])
def test_floats_are_rounded_as_the_specification_says(saturate: int) -> None:
    types = [*FLOATS8, DType.F4E2M1]
    given = [numbers(dtype) for dtype in types]
    given[-1] = given[-1][~np.isnan(given[-1])]  # what four bits hold instead is not said
    cases = [
        Case("cast", [x], {"to": dtype, "saturate": saturate})
        for x, dtype in zip(given, types, strict=True)
    ]
    with np.errstate(all="ignore"):
        found = check_kernels(cases)
        for x, dtype, (mine,) in zip(given, types, found, strict=True):
            theirs = converted(x, dtype, saturate=bool(saturate))
            np.testing.assert_array_equal(bits(mine), bits(theirs), err_msg=str(dtype))


def test_powers_of_two_are_rounded_in_every_mode() -> None:
    exponents = np.arange(256, dtype=np.uint32) << 23
    fractions = np.array([0, 1, 0x3FFFFF, 0x400000, 0x400001, 0x7FFFFF], np.uint32)
    x = (exponents[:, None] | fractions).reshape(-1).view(np.float32)
    modes = [(s, mode) for s in (0, 1) for mode in ("up", "down", "nearest")]
    with np.errstate(all="ignore"):
        found = check_kernels([
            Case("cast", [x], {"to": DType.F8E8M0, "saturate": s, "round_mode": mode})
            for s, mode in modes
        ])  # fmt: skip
    for (s, mode), (mine,) in zip(modes, found, strict=True):
        theirs = converted(x, DType.F8E8M0, saturate=bool(s), mode=mode)
        np.testing.assert_array_equal(mine.view(np.uint8), theirs.view(np.uint8), err_msg=mode)


def test_conversions_between_all_types() -> None:
    sources: list[Array] = [
        np.array([True, False]),
        np.arange(-300, 300, 7, dtype=np.int64),
        np.array([0.1, -7.5, 3.0, 0.4375], np.float64),
        np.array([0.1, -7.5, 3.0, 0.4375], DType.BF16.numpy),
        codes(DType.I4), codes(DType.F8E5M2, 0x7C), codes(DType.F4E2M1),
    ]  # fmt: skip
    targets = [DType.F8E4M3FN, DType.F8E5M2FNUZ, DType.F8E8M0, DType.F4E2M1, DType.I4, DType.U2]
    cases = [Case("cast", [source], {"to": dtype}) for source in sources for dtype in targets]
    for case, (mine,) in zip(cases, check_kernels(cases), strict=True):
        (source,) = case.operands
        assert source is not None
        wide = source.astype(np.float32) if source.dtype.kind == "V" else source
        theirs = converted(wide, case.attrs["to"])
        what = f"{source.dtype} to {case.attrs['to']}"
        np.testing.assert_array_equal(bits(mine), bits(theirs), err_msg=what)


def test_constants_are_within_the_limits_of_the_simplifier() -> None:
    analyzer: Any = Analyzer()
    for dtype in NARROW:
        for code in codes(dtype):
            number = decode(literal(code, dtype), dtype)
            assert str(analyzer.simplify(number).ty) == str(number.ty)


def test_what_no_specification_allows_is_refused() -> None:
    x = codes(DType.F8E5M2, 4)
    adding = one_op("scatter_nd", [x, np.array([[1]]), x[:1]], {"reduction": "add"})
    assert refusal(only_op(adding)) == (
        "scatter_nd has no kernel for element type f8e5m2 on this target"
    )
    assert refusal(only_op(one_op("scatter_nd", [x, np.array([[1]]), x[:1]]))) == ""
    assert set(all_ops()) >= CARRIED


def test_elements_are_moved_as_they_are() -> None:
    x = codes(DType.F8E4M3FNUZ, 24).reshape(2, 3, 4)
    y = codes(DType.I4, 16).reshape(1, 4, 2, 2)
    ints: Any = lambda *items: np.array(items, np.int64)  # noqa: E731
    scatter = [x, ints(1, 0).reshape(2, 1), x[::-1]]
    found = check_kernels([
        Case("concat", [x, x, x], {"axis": 1}),
        Case("slice", [x, ints(3), ints(-5), ints(2), ints(-2)]),
        Case("split", [y], {"axis": 1, "num_outputs": 2}),
        Case("gather", [x, ints(2, 0, -1)], {"axis": 1}),
        Case("gather_elements", [x, np.ones((2, 3, 1), np.int64)], {"axis": 2}),
        Case("gather_nd", [x, ints(1, 2, 0, 0).reshape(2, 2)]),
        Case("scatter_nd", scatter),
        Case("scatter_elements", [y, np.zeros((1, 1, 2, 2), np.int64), y[:, 2:3]], {"axis": 1}),
        Case("where", [np.array([True, False, True, False]), x, x[:, ::-1]]),
        Case("pad", [x, ints(1, 0, 0, 0, 2, 0), x[0, 0, 3]]),
        Case("pad", [y, ints(0, 0, 1, 0, 0, 0, 1, 1)], {"mode": "edge"}),
        Case("expand", [x[:, :1], ints(2, 3, 4)]),
        Case("tile", [x, ints(1, 2, 3)]),
        Case("transpose", [x], {"perm": (2, 0, 1)}),
        Case("trilu", [x]),
        Case("depth_to_space", [y], {"blocksize": 2}),
        Case("space_to_depth", [y], {"blocksize": 2}),
        Case("one_hot", [ints(0, 3, -1), ints(4), x[0, 0, 1:3]]),
        Case("constant_of_shape", [ints(2, 3)], {"value": Blob.of(x[1, 0, :1])}),
        Case("reverse_sequence", [x.reshape(2, 12), ints(2, 1)], {"time_axis": 1, "batch_axis": 0}),
        Case("center_crop_pad", [x, ints(5, 2, 4)]),
        Case("identity", [y]),
        Case("leading", [x.reshape(6, 4), ints(4)]),
        Case("bit_cast", [x], {"to": DType.I8}),
        Case("bit_cast", [y], {"to": DType.F4E2M1}),
    ])  # fmt: skip
    assert all(array.size for arrays in found for array in arrays)
