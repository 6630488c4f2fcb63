# pyright: standard
"""Tensors as bytes by their own range: as the interpreter has them, bit by bit."""

from __future__ import annotations

import numpy as np
import pytest
from tvm import tirx

import leptonc
from leptonc.backends.cpu import emit
from leptonc.backends.cpu.dynamic_quantize import DynamicBuffers, DynamicSpec, dynamic_quantize
from leptonc.backends.cpu.target import CpuTarget, by_name, with_threads
from leptonc.ir.blob import Array
from leptonc.ir.interpret import interpret
from leptonc.ir.ops.blocked import pack_array, unpack_array
from leptonc.ir.text import parse_graph
from tests.backends.cpu.kernels import EMULATED, NATIVE, SPELLED, Kernel, misaligned

RNG = np.random.default_rng(31)
TEXT = """graph @g(%x: f32[{shape}]) -> (y: u8[{shape}], s: f32[], z: u8[]) {{
  %y, %s, %z = dynamic_quantize_linear(%x) : u8[{shape}], f32[], u8[]
  return %y, %s, %z
}}
"""
CPUS = [*SPELLED, EMULATED, with_threads(by_name("avx2"), 1), with_threads(by_name("sse"), 1)]


def numbers(kind: str, shape: tuple[int, ...]) -> Array:
    """Some that are awkward."""
    x = RNG.normal(size=shape).astype(np.float32)
    return {
        "of both signs": lambda: x,
        "from zero on": lambda: np.abs(x),
        "below zero": lambda: -np.abs(x) - 1,
        "halves": lambda: np.rint(x * 9).astype(np.float32) / 2,
        "zeros": lambda: np.zeros_like(x) * -1,
        "tiny": lambda: x * np.float32(1e-41),
        "huge": lambda: x * np.float32(1e37),
        "infinite": lambda: np.where(x > 1, np.inf, x).astype(np.float32),
        "not a number": lambda: np.where(x > 1, np.nan, x).astype(np.float32),
    }[kind]()


KINDS = (
    "of both signs", "from zero on", "below zero", "halves", "zeros", "tiny", "huge", "infinite",
    "not a number",
)  # fmt: skip


def run(
    x: Array, cpu: CpuTarget = NATIVE, channels: int = 0, *, free: bool = False,
    factor: Array | None = None,
) -> list[Array]:  # fmt: skip
    """Bytes, scale and zero point, by the kernel."""
    shape = tuple(tirx.Var(f"n{at}", "int64") if free else size for at, size in enumerate(x.shape))
    if channels:
        shape = (*shape[:-1], x.shape[-1])
    parameters = [
        ("x", shape, "float32"), ("y", shape, "uint8"), ("s", (), "float32"), ("z", (), "uint8"),
    ]  # fmt: skip
    if factor is not None:
        parameters.append(("factor", (*shape[:2], 1, 1, shape[-1]), "float32"))
    function = emit.function(
        "main", parameters,
        lambda *each: dynamic_quantize(DynamicSpec(shape, channels), cpu, DynamicBuffers(*each)),
    )  # fmt: skip
    results = [np.full(x.shape, 7, np.uint8), np.zeros((), np.float32), np.zeros((), np.uint8)]
    more = [] if factor is None else [factor]
    Kernel(function, cpu).call(misaligned(x)[0], *results, *more)
    return results


def wanted(x: Array) -> list[Array]:
    """The same by the interpreter."""
    graph = parse_graph(TEXT.format(shape=",".join(map(str, x.shape))), "test")
    with np.errstate(all="ignore"):
        found = interpret(graph, {"x": x})
    return [found[name] for name in ("y", "s", "z")]


def check(ours: list[Array], theirs: list[Array]) -> None:
    for got, want in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", [(3,), (5, 7), (4, 133), (16, 64)])
def test_known_sizes(kind: str, shape: tuple[int, ...]) -> None:
    x = numbers(kind, shape)
    check(run(x), wanted(x))


@pytest.mark.parametrize("shape", [(1, 1), (2, 9), (4, 133)])
def test_sizes_of_run_time(shape: tuple[int, ...]) -> None:
    x = numbers("of both signs", shape)
    check(run(x, free=True), wanted(x))


@pytest.mark.parametrize("cpu", CPUS, ids=lambda cpu: cpu.name)
@pytest.mark.parametrize("kind", KINDS)
def test_other_processors(kind: str, cpu: CpuTarget) -> None:
    x = numbers(kind, (3, 47))
    check(run(x, cpu), wanted(x))


@pytest.mark.parametrize(("shape", "channels"), [((3, 50_001), 0), ((2, 40, 61, 67), 40)])
@pytest.mark.parametrize("free", [False, True])
@pytest.mark.parametrize("kind", ["of both signs", "not a number"])
def test_threads_share_elements(
    shape: tuple[int, ...], channels: int, free: bool, kind: str
) -> None:
    x, cpu = numbers(kind, shape), with_threads(NATIVE, 2)
    given = pack_array(x, cpu.lanes) if channels else x
    y, scale, point = run(given, cpu, channels, free=free)
    check([unpack_array(y, channels) if channels else y, scale, point], wanted(x))


@pytest.mark.parametrize("channels", [5, 16, 40])
@pytest.mark.parametrize("free", [False, True])
def test_what_fills_up_blocks_tells_nothing(channels: int, free: bool) -> None:
    x = np.abs(numbers("of both signs", (2, channels, 5, 7)))
    blocked = pack_array(x, NATIVE.lanes)
    used = channels % NATIVE.lanes
    if used:
        blocked[:, -1, ..., used:] = np.nan
    y, scale, point = run(blocked, channels=channels, free=free)
    check([unpack_array(y, channels), scale, point], wanted(x))


@pytest.mark.parametrize("channels", [5, 16, 40])
@pytest.mark.parametrize("threads", [1, 2])
def test_channels_times_numbers_of_their_own(channels: int, threads: int) -> None:
    size = (2, channels, 5, 7) if threads == 1 else (2, channels, 61, 301)
    x, factor = numbers("of both signs", size), numbers("of both signs", (2, channels, 1, 1))
    lanes, cpu = NATIVE.lanes, with_threads(NATIVE, threads)
    given, by = pack_array(x, lanes), pack_array(factor, lanes)
    used = channels % lanes
    if used:
        given[:, -1, ..., used:] = np.nan
    y, scale, point = run(given, cpu, channels, factor=by, free=channels == 40)
    check([unpack_array(y, channels), scale, point], wanted(x * factor))


def test_quotients_are_those_of_a_division() -> None:
    session = leptonc.compile(parse_graph(TEXT.format(shape="n"), "test"), isolated=False)
    for size in (0, *[20_000] * 100):
        x = (RNG.normal(size=size) * np.exp(RNG.normal() * 5)).astype(np.float32)
        check(list(session.run({"x": x}).values()), wanted(x))
