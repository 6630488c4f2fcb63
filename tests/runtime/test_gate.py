"""What does not fit the signature is refused with the reason, everything at once."""
# pyright: standard

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

from leptonc.ir.diagnostics import LeptonError
from leptonc.manifest import TensorSpec
from leptonc.runtime import load
from leptonc.runtime.gate import Gate
from tests.runtime.conftest import Artifacts

X = TensorSpec("x", "f32", ("N", 4))


def refused(*specs: TensorSpec, given: object, limits: dict[str, int] | None = None) -> LeptonError:
    with pytest.raises(LeptonError) as caught:
        Gate(specs, limits or {}).admit(given, cast=False)
    assert caught.value.code == "E701"
    return caught.value


def zeros(*shape: int, dtype: str = "f4") -> np.ndarray:
    return np.zeros(shape, dtype)


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (zeros(2, 3), "x: expected f32[N,4], got f32[2,3]; axis 1 is 3, should be 4"),
        (zeros(4), "x: expected f32[N,4], got f32[4]; it has 1 axes, should have 2"),
        (zeros(1, 2, 4), "x: expected f32[N,4], got f32[1,2,4]; it has 3 axes, should have 2"),
        (
            zeros(2, 4, dtype="f8"),
            'x: expected f32[N,4], got f64[2,4]; pass x.astype("float32") or run(..., cast=True)',
        ),
        (
            zeros(2, 4, dtype="i4"),
            'x: expected f32[N,4], got i32[2,4]; pass x.astype("float32") or run(..., cast=True)',
        ),
        (
            zeros(2, 4).astype(ml_dtypes.bfloat16),
            'x: expected f32[N,4], got bf16[2,4]; pass x.astype("float32") or run(..., cast=True)',
        ),
        (np.full((2, 4), "a"), "x: expected f32[N,4], got an array of <U1 elements"),
        (np.full((2, 4), None), "x: expected f32[N,4], got an array of object elements"),
        (
            np.ma.masked_array(zeros(2, 4)),
            "x: masked arrays would lose their mask; pass x.filled(value)",
        ),
        (None, "x: expected f32[N,4], got None"),
        ({}, "x: expected f32[N,4], got dict"),
        ("text", "x: expected f32[N,4], got str"),
        (
            np.zeros(2, [("a", "f4")]),
            "x: expected f32[N,4], got an array of [('a', '<f4')] elements",
        ),
    ],
)
def test_an_array_that_does_not_fit_is_refused(array: object, message: str) -> None:
    assert refused(X, given={"x": array}).message == message


def test_narrow_types_name_the_cast_of_ml_dtypes() -> None:
    error = refused(TensorSpec("x", "bf16", (2,)), given={"x": zeros(2)})
    assert error.message == (
        "x: expected bf16[2], got f32[2]; pass x.astype(ml_dtypes.bfloat16) or run(..., cast=True)"
    )


@pytest.mark.parametrize("given", [None, [1, 2], np.zeros(3), 5])
def test_inputs_that_are_no_mapping_are_refused(given: object) -> None:
    assert "inputs should be a dict of 'x', got" in refused(X, given=given).message


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "input 'input_ids' is missing: f32[N,4]"),
        (
            {"input_ids": zeros(1, 4), "other": 1},
            "there is no input 'other'; there are 'input_ids'",
        ),
    ],
)
def test_names_are_checked(given: dict[str, object], message: str) -> None:
    spec = TensorSpec("input_ids", "f32", ("N", 4))
    assert refused(spec, given=given).message == message


def test_a_misspelt_name_gets_the_nearest_one() -> None:
    spec = TensorSpec("input_ids", "f32", ("N", 4))
    error = refused(spec, given={"inptu_ids": zeros(1, 4)})
    assert error.notes[0] == "there is no input 'inptu_ids'; did you mean 'input_ids'"


def test_a_name_from_outside_is_escaped() -> None:
    error = refused(X, given={"x": zeros(1, 4), "\x1b[2J" + "y" * 1000: 1})
    assert str(error).isprintable()
    assert len(str(error)) < 300


def test_all_problems_are_said_at_once() -> None:
    specs = [TensorSpec(name, "f32", ("N", 4)) for name in ("a", "b", "c")]
    error = refused(*specs, given={"a": None, "b": zeros(2, 4, dtype="f8"), "d": 1})
    assert error.message == "4 things are wrong with the inputs"
    assert len(error.notes) == 4
    shapes = refused(*specs, given={"a": zeros(1, 3), "b": zeros(4), "c": zeros(1, 5)})
    assert len(shapes.notes) == 3


def test_one_symbol_has_one_size() -> None:
    specs = [TensorSpec(name, "f32", ("N", 4)) for name in ("a", "b")]
    error = refused(*specs, given={"a": zeros(2, 4), "b": zeros(3, 4)})
    assert error.message == "N has two sizes: 2 in axis 0 of a, 3 in axis 0 of b"


def test_expressions_are_evaluated() -> None:
    specs = [TensorSpec("a", "f32", ("s",)), TensorSpec("m", "i64", ("2*s+1", "floordiv(s,2)"))]
    gate = Gate(specs, {})
    arrays = gate.admit({"a": zeros(5), "m": zeros(11, 2, dtype="i8")}, cast=False)
    assert [array.shape for array in arrays] == [(5,), (11, 2)]
    error = refused(*specs, given={"a": zeros(5), "m": zeros(11, 3, dtype="i8")})
    assert error.message == (
        "m: expected i64[2*s+1,floordiv(s,2)], got i64[11,3]; "
        "axis 1 is 3, should be floordiv(s,2) = 2"
    )


def test_a_size_beyond_the_plan_is_refused() -> None:
    error = refused(X, given={"x": zeros(9, 4)}, limits={"N": 8})
    assert error.message == "N is 9 in axis 0 of x, at most 8 was compiled for"


@pytest.mark.parametrize(
    ("dtype", "value", "expected"),
    [
        ("f32", [[1, 2.5, 3, 4]], [[1, 2.5, 3, 4]]),
        ("f32", [[1, 2, 3, 4]], [[1, 2, 3, 4]]),
        ("f32", ((1, 2, 3, 4),), [[1, 2, 3, 4]]),
        ("i8", [[1, 2, 3, -4]], [[1, 2, 3, -4]]),
        ("bf16", [[1, 2, 3, 4]], [[1, 2, 3, 4]]),
        ("bool", [[True, False, True, True]], [[True, False, True, True]]),
    ],
)
def test_lists_are_arrays_of_the_type_asked_for(
    dtype: str, value: object, expected: list[list[float]]
) -> None:
    gate = Gate([TensorSpec("x", dtype, (1, 4))], {})
    (array,) = gate.admit({"x": value}, cast=False)
    assert array.dtype == gate.kinds[0].dtype
    np.testing.assert_array_equal(array.astype("f8"), expected)


@pytest.mark.parametrize(
    ("dtype", "value", "message"),
    [
        ("i64", [1.5], "got f64[1]"),
        ("i8", [300], "not every i64 of it fits into i8"),
        ("u8", [-1], "not every i64 of it fits into u8"),
        ("f32", [[1], [2, 3]], "what numpy cannot read"),
        ("f32", ["a"], "an array of <U1 elements"),
        ("f32", [None], "an array of object elements"),
    ],
)
def test_lists_that_lose_something_are_refused(dtype: str, value: object, message: str) -> None:
    assert message in refused(TensorSpec("x", dtype, (1,)), given={"x": value}).message


@pytest.mark.parametrize(
    ("dtype", "value"),
    [
        ("f32", np.arange(4.0)),
        ("f32", np.arange(4)),
        ("i8", np.arange(4.0)),
        ("bf16", np.arange(4)),
    ],
)
def test_a_cast_converts(dtype: str, value: np.ndarray) -> None:
    gate = Gate([TensorSpec("x", dtype, (4,))], {})
    (array,) = gate.admit({"x": value}, cast=True)
    assert array.dtype == gate.kinds[0].dtype
    np.testing.assert_array_equal(array.astype("f8"), value)


@pytest.mark.parametrize("value", [[1.5], [np.nan], [np.inf], [300.0], [-200.0]])
def test_a_cast_to_integers_that_loses_something_is_refused(value: list[float]) -> None:
    gate = Gate([TensorSpec("x", "i8", (1,))], {})
    with pytest.raises(LeptonError, match="not every f64 of it fits into i8"):
        gate.admit({"x": np.array(value)}, cast=True)


def test_complex_numbers_are_never_cast() -> None:
    gate = Gate([TensorSpec("x", "f32", (1,))], {})
    with pytest.raises(LeptonError, match="complex numbers cannot be cast to f32"):
        gate.admit({"x": np.array([1j])}, cast=True)


@pytest.mark.parametrize("dtype", ["c64", "c128"])
def test_types_that_cannot_be_passed_are_refused_at_load(dtype: str) -> None:
    with pytest.raises(LeptonError, match=f"E610.*'{dtype}' cannot be passed"):
        Gate([TensorSpec("x", dtype, (1,))], {})


def test_numbers_fit_into_narrow_types_or_are_refused() -> None:
    gate = Gate([TensorSpec("x", "i4", (2,)), TensorSpec("y", "f8e5m2", (2,))], {})
    x, y = gate.admit({"x": [-8, 7], "y": [0.5, 2]}, cast=False)
    assert x.dtype.name == "int4"
    np.testing.assert_array_equal(x.astype(int), [-8, 7])
    np.testing.assert_array_equal(y.astype(float), [0.5, 2])
    with pytest.raises(LeptonError, match="fits into i4"):
        gate.admit({"x": [-8, 8], "y": [0.5, 2]}, cast=False)
    with pytest.raises(LeptonError, match=r"x\.astype\(ml_dtypes\.int4\)"):
        gate.admit({"x": np.array([1, 2]), "y": y}, cast=False)
    with pytest.raises(LeptonError, match="expected i4"):
        gate.admit({"x": [0.5, 1.0], "y": y}, cast=False)


def test_a_session_checks_before_it_runs(artifacts: Artifacts) -> None:
    with load(artifacts("paired")) as session:
        given = {"a": zeros(2, 4), "b": zeros(3, 4), "mask": zeros(5, dtype="i8")}
        for _ in range(2):
            with pytest.raises(LeptonError, match="n has two sizes"):
                session.run(given)
        given["b"] = zeros(2, 4)
        for _ in range(2):
            assert session.run(given)["sum"].shape == (2, 4)
        large = {"a": zeros(513, 4), "b": zeros(513, 4), "mask": zeros(1027, dtype="i8")}
        with pytest.raises(LeptonError, match="at most 512 was compiled for"):
            session.run(large)
        assert session.report.calls == 2


def test_a_session_casts_when_asked(artifacts: Artifacts) -> None:
    with load(artifacts("affine")) as session:
        x = np.ones((2, 4))
        with pytest.raises(LeptonError, match=r"E701.*cast=True"):
            session.run({"x": x})
        np.testing.assert_array_equal(session.run({"x": x}, cast=True)["y"], x + np.arange(1, 5))


def test_an_extent_larger_than_any_tensor_has_is_refused() -> None:
    huge = np.broadcast_to(np.float32(0), (10**9, 4))
    error = refused(X, given={"x": huge})
    assert "N is 1000000000 in axis 0 of x, at most 999999999 is possible" in str(error)
