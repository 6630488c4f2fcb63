# pyright: standard
"""Casts agree with ONNX's tables and reference; dropout keeps everything in inference."""

import ml_dtypes
import numpy as np
import pytest

from leptonc.ir.diagnostics import LeptonError
from leptonc.ir.types import DType
from tests.ir.ops.single import check_row, one_op, result_types, run

NUMBERS = [
    DType.F32, DType.F16, DType.BF16, DType.F64, DType.I8, DType.I16, DType.I32, DType.I64,
    DType.U8, DType.U16, DType.U32, DType.U64, DType.BOOL,
]  # fmt: skip
FLOATS8 = [DType.F8E4M3FN, DType.F8E4M3FNUZ, DType.F8E5M2, DType.F8E5M2FNUZ]
SMALL = [DType.I4, DType.U4, DType.I2, DType.U2, DType.F4E2M1]
EDGES = np.array([0, 1, -1, 0.3, np.nan, np.inf, -np.inf, 1e6, -1e6, 448, 464, 500], np.float32)


@pytest.fixture(autouse=True)
def quiet():
    with np.errstate(all="ignore"):
        yield


def convert(x, to, **attrs):
    (found,) = run(one_op("cast", [x], {"to": to, **attrs}), [x])
    return found


@pytest.mark.parametrize("source", NUMBERS)
def test_numbers_of_all_types(source):
    x = np.array([0, 1, 2, 100, 3], np.float32).astype(source.numpy)
    for to in NUMBERS:
        check_row("cast", [x], {"to": to})


def test_integers_drop_high_bits():
    x = np.array([200, -129, 70000, -1, 2**40 + 5], np.int64)
    for to in NUMBERS[4:]:
        check_row("cast", [x], {"to": to})
    for to in SMALL[:4]:
        check_row("cast", [x], {"to": to})


def test_fractions_are_cut_and_any_other_number_is_true():
    x = np.array([1.9, -1.9, 0.1, -0.0, np.nan], np.float32)
    assert convert(x[:3], DType.I32).tolist() == [1, -1, 0]
    assert convert(x, DType.BOOL).tolist() == [True, True, True, False, True]


@pytest.mark.parametrize("to", FLOATS8)
@pytest.mark.parametrize("saturate", [0, 1])
def test_floats_of_8_bits(to, saturate):
    for dtype in (np.float32, np.float16, np.float64):
        check_row("cast", [EDGES.astype(dtype)], {"to": to, "saturate": saturate})


@pytest.mark.parametrize("to", FLOATS8)
def test_saturation_follows_the_table(to):
    largest = float(ml_dtypes.finfo(to.numpy).max)
    found = convert(EDGES, to).astype(np.float32)
    assert np.isnan(found[4])
    assert found[[5, 6, 7, 8]].tolist() == [largest, -largest, largest, -largest]
    loose = convert(EDGES, to, saturate=0).astype(np.float32)
    beyond = np.inf if to is DType.F8E5M2 else np.nan
    np.testing.assert_array_equal(np.abs(loose[[5, 6]]), [beyond, beyond])


@pytest.mark.parametrize("mode", ["up", "down", "nearest"])
@pytest.mark.parametrize("saturate", [0, 1])
def test_exponents_alone(mode, saturate):
    x = np.array([1, 1.25, 1.5, 1.75, 3, 0.1, 1e-40, 3e-39, 7e-39, 3e38, 3.4e38], np.float32)
    attrs = {"to": DType.F8E8M0, "round_mode": mode, "saturate": saturate}
    check_row("cast", [x], attrs)


def test_from_narrow_types():
    for source in (*FLOATS8, *SMALL):
        x = np.array([0, 1, 1, 0], np.float32).astype(source.numpy)
        for to in (DType.F32, DType.F16, DType.I8, DType.BOOL):
            check_row("cast", [x], {"to": to})


def test_texts():
    x = np.array([1.5, -2, np.inf], np.float32)
    assert convert(x, DType.STR).tolist() == ["1.5", "-2.0", "inf"]
    texts = np.array(["3.25", "1e-3", "-INF", "NaN", "+inf"], object)
    np.testing.assert_array_equal(
        convert(texts, DType.F32), np.array([3.25, 1e-3, -np.inf, np.nan, np.inf], np.float32)
    )
    whole = np.array(["12", "9223372036854775807"], object)
    assert convert(whole, DType.I64).tolist() == [12, 2**63 - 1]
    with pytest.raises(LeptonError, match="could not convert") as caught:
        convert(np.array(["hello"], object), DType.F32)
    assert caught.value.code == "E115"


def test_the_type_of_another_tensor():
    check_row("cast_like", [EDGES[:4], np.zeros((3, 1), np.int32)])
    assert result_types("cast_like", ["f32[a,2]", "f16[]"]) == ["f16[a,2]"]


def test_copies():
    for x in (EDGES, np.array(["a"], object), np.array([1j])):
        assert run(one_op("identity", [x]), [x])[0] is x


def test_dropout_keeps_everything_in_inference():
    x, ratio = EDGES.reshape(3, 4), np.array(0.5, np.float32)
    for operands in ([x], [x, ratio], [x, ratio, np.array(False)]):
        kept, mask = run(one_op("dropout", operands), operands)
        np.testing.assert_array_equal(kept, x)
        assert mask.all()
        assert mask.shape == x.shape


def test_dropout_in_training_drops_by_its_seed():
    x = np.ones((50, 40), np.float32)
    operands = [x, np.array(0.75, np.float32), np.array(True)]
    kept, mask = run(one_op("dropout", operands, {"seed": 3}), operands)
    assert 0.2 < mask.mean() < 0.3
    np.testing.assert_array_equal(kept, np.where(mask, 4, 0))
    again, _ = run(one_op("dropout", operands, {"seed": 3}), operands)
    np.testing.assert_array_equal(again, kept)


@pytest.mark.parametrize(
    ("name", "types", "attrs", "code"),
    [
        ("cast", ["c64[2]"], {"to": DType.F32}, "E102"),
        ("cast", ["f32[2]"], {"to": DType.C64}, "E102"),
        ("cast", ["f32[2]"], {}, "E106"),
        ("cast", ["f32[2]"], {"to": DType.F16, "round_mode": "odd"}, "E108"),
        ("dropout", ["f32[2]", "f32[2]"], {}, "E103"),
    ],
)
def test_mistakes_are_named(name, types, attrs, code):
    with pytest.raises(LeptonError) as caught:
        result_types(name, types, attrs)
    assert caught.value.code == code
