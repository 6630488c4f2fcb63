# pyright: standard
"""The elementary functions against numpy in fp64."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import tvm
from numpy.typing import NDArray
from tvm import s_tir, te, tirx
from tvm.tirx.script import builder as T  # noqa: N812

from leptonc.backends.cpu import emit
from leptonc.backends.cpu.target import CpuTarget, spelled_out, tvm_target
from leptonc.backends.tvm import vector_activation as activation
from leptonc.backends.tvm import vector_math as elementary
from leptonc.backends.tvm import vector_power as power
from leptonc.backends.tvm import vector_trigonometry as trigonometry
from leptonc.backends.tvm.binding import PrimExpr
from leptonc.backends.tvm.pipeline import PIPELINE
from tests.backends.cpu.kernels import AVX512, NATIVE, Kernel, assembly

Array = NDArray[np.float64]
COUNT = 4096
LANES = 8
EDGES = [0.0, -0.0, math.inf, -math.inf, math.nan, 1e-40, -1e-45, 3.4e38, -3.4e38, 1000.0, -1000.0,
         88.7, -103.0, 1.0, -1.0, 2.0]  # fmt: skip
erf = np.vectorize(math.erf, otypes=[np.float64])

# function, reference, range, units in the last place (of at least the smallest normal number).
# The worst that was seen is 3.8, of tanh and erf.
FUNCTIONS: dict[
    str, tuple[Callable[..., PrimExpr], Callable[[Array], Array], tuple[float, float], float]
] = {
    "exp": (elementary.exp, np.exp, (-104, 89), 1.5),
    "exp2": (elementary.exp2, np.exp2, (-151, 129), 1.5),
    "expm1": (elementary.expm1, np.expm1, (-20, 89), 1.5),
    "log": (elementary.log, np.log, (0, 100), 1.5),
    "log2": (elementary.log2, np.log2, (0, 100), 2.5),
    "log10": (elementary.log10, np.log10, (0, 100), 2.5),
    "log1p": (elementary.log1p, np.log1p, (-1, 3), 2),
    "tanh": (activation.tanh, np.tanh, (-10, 10), 4),
    "erf": (activation.erf, erf, (-5, 5), 4),
    "softplus": (activation.softplus, lambda x: np.logaddexp(0, x), (-80, 90), 3),
    "sin": (trigonometry.sin, np.sin, (-1e4, 1e4), 2),
    "cos": (trigonometry.cos, np.cos, (-1e4, 1e4), 2),
    "tan": (trigonometry.tan, np.tan, (-100, 100), 4),
    "sinh": (trigonometry.sinh, np.sinh, (-90, 90), 3),
    "cosh": (trigonometry.cosh, np.cosh, (-90, 90), 3),
    "asin": (trigonometry.asin, np.arcsin, (-1, 1), 3),
    "acos": (trigonometry.acos, np.arccos, (-1, 1), 2),
    "atan": (trigonometry.atan, np.arctan, (-100, 100), 3),
    "asinh": (trigonometry.asinh, np.arcsinh, (-100, 100), 3),
    "acosh": (trigonometry.acosh, np.arccosh, (1, 100), 3),
    "atanh": (trigonometry.atanh, np.arctanh, (-1, 1), 3),
    "rsqrt": (power.rsqrt, lambda x: 1 / np.sqrt(x), (0, 100), 2),
}
# Absolute tolerances: the references cancel in their tails.
ACTIVATIONS: dict[str, tuple[Callable[..., PrimExpr], Callable[[Array], Array], float]] = {
    "sigmoid": (activation.sigmoid, lambda x: 1 / (1 + np.exp(-x)), 2e-7),
    "silu": (activation.silu, lambda x: x / (1 + np.exp(-x)), 2e-6),
    "gelu": (activation.gelu, lambda x: x * 0.5 * (1 + erf(x / math.sqrt(2))), 2e-6),
    "gelu_tanh": (
        activation.gelu_tanh,
        lambda x: x * 0.5 * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))),
        2e-6,
    ),
}


def mapped(
    function: Callable[..., PrimExpr], arguments: int = 1, lanes: int = LANES
) -> tirx.PrimFunc:
    """A function over vectors of so many elements."""

    def body(*buffers: tirx.Buffer) -> None:
        *inputs, out = buffers
        with emit.serial(COUNT // lanes) as step, emit.vectorized(lanes) as lane:
            place = [step * lanes + lane]
            T.buffer_store(out, function(*(emit.load(x, place) for x in inputs)), place)

    names = [*(f"x{i}" for i in range(arguments)), "out"]
    return emit.function("main", [(name, (COUNT,), "float32") for name in names], body)


def samples(low: float, high: float) -> NDArray[np.float32]:
    rng = np.random.default_rng(0)
    x = rng.uniform(low, high, COUNT).astype(np.float32)
    x[::3] = (low + high) / 2 + rng.standard_normal(len(x[::3])) * (high - low) / 100
    x[: len(EDGES)] = EDGES
    return x


def check_kinds(got: Array, want: Array) -> None:
    """Not-a-number and the infinities are where they are in the reference, rounded to fp32."""
    rounded = want.astype(np.float32)
    np.testing.assert_array_equal(np.isnan(got), np.isnan(rounded))
    np.testing.assert_array_equal(np.isposinf(got), np.isposinf(rounded))
    np.testing.assert_array_equal(np.isneginf(got), np.isneginf(rounded))


@pytest.mark.parametrize("name", FUNCTIONS)
def test_units_in_the_last_place(name: str) -> None:
    function, reference, (low, high), most = FUNCTIONS[name]
    x = samples(low, high)
    if reference in (np.sin, np.cos, np.tan):
        x[np.abs(x) > 2.0**40] = 0.5  # beyond, the reduction means nothing
    got = Kernel(mapped(function))([x], (COUNT,)).astype(np.float64)
    with np.errstate(all="ignore"):
        want = reference(x.astype(np.float64))
        check_kinds(got, want)
        unit = np.spacing(np.maximum(np.abs(want.astype(np.float32)), np.float32(1.2e-38)))
        finite = np.isfinite(got)
        worst = np.max(np.abs(got[finite] - want[finite]) / unit[finite])
    assert worst <= most


def test_powers_of_two_are_flushed_where_they_are_tiny() -> None:
    x = samples(-130, 126)
    x[np.isposinf(x) | (x >= 127)] = 3.0
    got = Kernel(mapped(elementary.exp2_flushed))([x], (COUNT,)).astype(np.float64)
    want = np.where(x <= -126.5, 0.0, np.exp2(x.astype(np.float64)))
    check_kinds(got, want)
    sound = ~np.isnan(x) & (np.abs(x + 126.25) > 0.5)
    np.testing.assert_allclose(got[sound], want[sound], rtol=2e-7)


@pytest.mark.parametrize("lanes", [LANES, 16])
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations(name: str, lanes: int) -> None:
    function, reference, most = ACTIVATIONS[name]
    x = samples(-12, 12)
    got = Kernel(mapped(function, lanes=lanes))([x], (COUNT,)).astype(np.float64)
    with np.errstate(all="ignore"):
        want = reference(x.astype(np.float64))
    check_kinds(got, want)
    finite = np.isfinite(want)
    size = np.maximum(1.0, np.abs(want[finite]))
    assert np.max(np.abs(got[finite] - want[finite]) / size) <= most


def test_the_logistic_function_has_instructions_on_whole_vectors_of_512_bits() -> None:
    def code(lanes: int, cpu: CpuTarget) -> str:
        module = tvm.IRModule({"main": mapped(activation.silu, lanes=lanes)})
        compiled = tvm.compile(module, target=tvm_target(cpu), tir_pipeline=PIPELINE)
        return compiled.mod.inspect_source("asm")

    assert "vscalefps" in code(16, AVX512)
    assert "vreduceps" in code(16, AVX512)
    assert "vscalefps" not in code(8, AVX512)
    assert "vscalefps" not in code(16, spelled_out(AVX512))


@pytest.mark.parametrize("lanes", [LANES, 16])
def test_the_logistic_function_far_from_zero(lanes: int) -> None:
    x = np.linspace(-104, 104, COUNT).astype(np.float32)
    got = Kernel(mapped(activation.sigmoid, lanes=lanes))([x], (COUNT,)).astype(np.float64)
    want = 1 / (1 + np.exp(-x.astype(np.float64)))
    assert np.max(np.abs(got - want)) <= 1e-7
    normal = x > -87
    assert np.max(np.abs(got / want - 1)[normal]) <= 4e-6


def test_powers_of_everything() -> None:
    rng = np.random.default_rng(0)
    x = np.exp(rng.uniform(-20, 20, COUNT)).astype(np.float32)
    y = rng.uniform(-6, 6, COUNT).astype(np.float32)
    x[::5], y[::5] = -x[::5], np.round(y[::5])
    bases = np.array([*EDGES, -2.0, 3.0, -0.5], np.float32)
    exponents = np.array([*EDGES, 3.0, -3.0, 0.5, -2.0], np.float32)
    pairs = np.stack(np.meshgrid(bases, exponents), axis=-1).reshape(-1, 2)
    x[: len(pairs)], y[: len(pairs)] = pairs.T
    got = Kernel(mapped(power.pow, 2))([x, y], (COUNT,)).astype(np.float64)
    with np.errstate(all="ignore"):
        want = np.power(x.astype(np.float64), y.astype(np.float64))
        check_kinds(got, want)
        finite = np.isfinite(want.astype(np.float32))
        unit = np.spacing(np.maximum(np.abs(want.astype(np.float32)), np.float32(1.2e-38)))
        assert np.max(np.abs(got[finite] - want[finite]) / unit[finite]) <= 1.5


@pytest.mark.parametrize("name", ["exp", "log", "tanh", "erf", "sin", "softplus"])
def test_nothing_calls_libm(name: str) -> None:
    text = assembly(mapped(FUNCTIONS[name][0]), NATIVE)
    calls = [line.split()[-1] for line in text.splitlines() if "\tcall" in line]
    assert all("tvm" in call.lower() or "main" in call for call in calls)


def test_bindings_survive_tensor_expressions_and_schedules() -> None:
    x = te.placeholder((COUNT,), "float32", name="x")
    y = te.compute((COUNT,), lambda i: activation.gelu(elementary.exp(x[i])), name="y")
    schedule = s_tir.Schedule(tvm.IRModule({"main": te.create_prim_func(list[Any]([x, y]))}))
    (loop,) = schedule.get_loops(schedule.get_sblock("y"))
    _, inner = schedule.split(loop, [None, LANES])
    schedule.vectorize(inner)
    executable = tvm.compile(schedule.mod, target=tvm_target(NATIVE))
    values = np.linspace(-3, 3, COUNT, dtype=np.float32)
    out = tvm.runtime.tensor(np.zeros(COUNT, np.float32))
    executable.jit()["main"](tvm.runtime.tensor(values), out)
    z = np.exp(values.astype(np.float64))
    np.testing.assert_allclose(out.numpy(), z * 0.5 * (1 + erf(z / math.sqrt(2))), rtol=1e-6)


@pytest.mark.parametrize(("dtype", "tolerance"), [("float64", 1e-14), ("float16", 1e-3)])
def test_other_floats(dtype: str, tolerance: float) -> None:
    x = te.placeholder((64,), dtype, name="x")
    y = te.compute((64,), lambda i: activation.silu(x[i]), name="y")
    module = tvm.IRModule({"main": te.create_prim_func(list[Any]([x, y]))})
    values = np.linspace(-5, 5, 64).astype(dtype)
    out = tvm.runtime.tensor(np.zeros(64, dtype))
    tvm.compile(module, target=tvm_target(NATIVE)).jit()["main"](tvm.runtime.tensor(values), out)
    wide = values.astype(np.float64)
    np.testing.assert_allclose(
        out.numpy(), wide / (1 + np.exp(-wide)), rtol=tolerance, atol=tolerance
    )
