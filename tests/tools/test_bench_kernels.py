"""What is told of kernels: their times, what bounds them, and what was chosen for them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import leptonc
from leptonc.backends.cpu.choices import choice
from leptonc.backends.cpu.peaks import Level, Peaks, measure_peaks
from leptonc.backends.cpu.prepare import prepare
from leptonc.backends.cpu.target import by_name, with_threads
from leptonc.driver import Options, compile_model
from leptonc.ir.text import parse_graph
from leptonc.runtime import load
from leptonc.runtime.lanes import GO_ON
from leptonc.tools.bench_kernels import KernelRow, kernel_rows, sources_of, work_of
from leptonc.tools.bench_profile import Call, profile
from tests.commands import run

NATIVE = with_threads(by_name("native"), 1)
PEAKS = Peaks(1e9, (Level("L2", 1000, 2e9), Level("memory", 1 << 62, 1e9)))
TEXT = """
graph @two(%x: f32[n,8], %y: f32[n,4]) -> (o: f32[n,4], z: f32[n,8]) {
  %w = const() {value = random(7)} : f32[8,4]
  %p = linear(%x, %w) : f32[n,4] loc("MatMul_3")
  %r = relu(%p) : f32[n,4] loc("Relu_4")
  %s = softmax(%r) : f32[n,4] loc("Softmax_5")
  %o = mul(%s, %y) : f32[n,4] loc("Mul_6")
  %z = exp(%x) : f32[n,8] loc("Exp_7")
  return %o, %z
}"""


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> tuple[leptonc.Graph, Path]:
    """A prepared graph and its artefact."""
    path = tmp_path_factory.mktemp("kernels") / "two.lepton"
    graph = parse_graph(TEXT)
    compile_model(graph, path, Options(isolated=False))
    return graph, path


FEEDS = {"x": np.ones((5, 8), np.float32), "y": np.ones((5, 4), np.float32)}


@pytest.mark.parametrize("threads", [1, 2])
def test_a_profile_has_every_kernel_with_its_arguments(
    compiled: tuple[leptonc.Graph, Path], threads: int
) -> None:
    graph, path = compiled
    with load(path, threads) as session:
        before = session.run(FEEDS)
        found = profile(session, FEEDS, 0.02)
        after = session.run(FEEDS)
    assert {call.name for call in found.calls} == set(sources_of(graph))
    assert all(call.seconds >= 0 for call in found.calls)
    assert sum(call.seconds for call in found.calls) <= found.seconds * 1.001
    shapes = [argument for call in found.calls for argument in call.arguments]
    assert ((5, 8), 32) in shapes
    for name, array in before.items():
        np.testing.assert_array_equal(array, after[name])


def test_only_what_runs_inside_is_observed(compiled: tuple[leptonc.Graph, Path]) -> None:
    seen: list[str] = []

    def look(function: object, name: str, before: bool, *rest: object) -> int:
        seen.append(name)
        return GO_ON

    with load(compiled[1], 1) as session:
        with session.observed(look):
            session.run(FEEDS)
        count = len(seen)
        session.run(FEEDS)
    assert count > 0
    assert len(seen) == count


def rows_of(compiled: tuple[leptonc.Graph, Path], threads: int = 1) -> list[KernelRow]:
    graph, _ = compiled
    sources = sources_of(graph)
    product = next(s for s in sources.values() if any(op.name == "packed_linear" for op in s.graph))
    shapes = [value.type.extents for value in product.inputs if value.blob is not None]
    arguments = (((5, 8), 32), (shapes[0], 32), ((5, 4), 32))
    calls = [Call(product.name, arguments, 2e-6), Call(product.name, arguments, 4e-6)]
    return kernel_rows(graph, [*calls, Call("k_unknown", (), 1.0)], NATIVE, PEAKS, threads)


def test_calls_of_one_kernel_are_added_up(compiled: tuple[leptonc.Graph, Path]) -> None:
    (row,) = rows_of(compiled)
    assert row.calls == 2
    assert row.seconds == pytest.approx(6e-6)
    assert row.operations.split()[:2] == ["packed_linear", "relu"]
    assert row.nodes[:2] == ("MatMul_3", "Relu_4")
    assert row.flops == 2 * (2 * 5 * 8 * 4 + 5 * 4)
    assert row.choice.algorithm == "packed product"


@pytest.mark.parametrize(
    ("kernel", "how", "products"),
    [
        (1, "strides = [1, 1]", 64), (3, "pads = [1, 1, 1, 1]", 9 * 64),
        (1, "halved = true", 7 * 64 / 8), (3, "tile = 2, pads = [1, 1, 1, 1]", 16 / 4 * 64),
        (3, "tile = 4, pads = [1, 1, 1, 1]", 36 / 16 * 64),
    ],
)  # fmt: skip
def test_convolutions_count_the_products_of_their_algorithm(
    kernel: int, how: str, products: float
) -> None:
    graph = parse_graph(
        "graph @g(%x: f32[1,4,16,16,16]) -> (y: f32[1,8,16,16,16]) {"
        f" %w = const() {{value = random(1)}} : f32[128,64,{kernel},{kernel}]"
        f" %y = conv_blocked(%x, %w) {{lanes = 16, {how}}} : f32[1,8,16,16,16] return %y }}"
    )  # fmt: skip
    prepare(graph, by_name("avx512"))
    ((_, source),) = sources_of(graph).items()
    arguments = [(tuple(value.type.extents), 32) for value in source.inputs]
    flops = work_of(source, (*arguments, ((1, 8, 16, 16, 16), 32))).flops
    assert flops == 2 * 128 * 16 * 16 * products


def test_what_takes_longest_at_least_is_the_bound(compiled: tuple[leptonc.Graph, Path]) -> None:
    (row,) = rows_of(compiled)
    assert row.limits["compute"] == pytest.approx(row.flops / 1e9)
    assert row.limits["L2"] == pytest.approx(row.bytes / 2e9)
    assert row.bound == max(row.limits, key=lambda name: row.limits[name])
    assert row.reached == pytest.approx(row.limits[row.bound] / 6e-6)
    (shared,) = rows_of(compiled, threads=2)
    assert shared.reached == pytest.approx(row.reached / 2)


def test_data_too_large_for_a_cache_comes_from_the_next_level() -> None:
    graph = parse_graph(
        "graph @g(%x: f32[4096]) -> (y: f32[4096]) {"
        " %y = exp(%x) : f32[4096] return %y }"
    )  # fmt: skip
    ((name, source),) = sources_of(graph).items()
    arguments = (((4096,), 32), ((4096,), 32))
    assert work_of(source, arguments).data == 2 * 4 * 4096
    (row,) = kernel_rows(graph, [Call(name, arguments, 1e-3)], NATIVE, PEAKS)
    assert set(row.limits) == {"compute", "memory"}


def test_the_tile_that_was_chosen_stands_first(compiled: tuple[leptonc.Graph, Path]) -> None:
    graph, _ = compiled
    product = next(
        s for s in sources_of(graph).values() if any(op.name == "packed_linear" for op in s.graph)
    )
    made = choice(product.graph, NATIVE)
    panel = next(v.type.extents[-1] for v in product.inputs if v.blob is not None)
    assert made.candidates[0].name.endswith(f"x {panel}")
    assert len(made.candidates) > 1
    assert all(each.cycles > 0 for each in made.candidates)


@pytest.mark.parametrize(("target", "rate"), [("avx2", 2), ("avx512-vnni", 4)])
def test_products_of_bytes_are_faster_than_those_of_floats(target: str, rate: int) -> None:
    graph = parse_graph(
        "graph @g(%x: u8[16,8]) -> (y: i32[16,24]) {"
        " %w = const() {value = splat(3)} : i8[8,24]"
        " %y = integer_linear(%x, %w) : i32[16,24] return %y }"
    )  # fmt: skip
    cpu = by_name(target)
    prepare(graph, cpu)
    ((name, source),) = sources_of(graph).items()
    made = choice(source.graph, cpu)
    assert made.rate == rate
    assert [each.name for each in made.candidates] == ["integers", "floats"]
    assert made.candidates[0].cycles < made.candidates[1].cycles
    shapes = (tuple(value.type.extents) for value in source.inputs)
    arguments = (*((shape, 8) for shape in shapes), ((16, 24), 32))
    assert work_of(source, arguments).flops == 2 * 16 * 8 * 24
    (row,) = kernel_rows(graph, [Call(name, arguments, 1e-3)], cpu, PEAKS)
    assert row.limits["compute"] == 2 * 16 * 8 * 24 / 1e9 / rate


def test_peaks_are_in_the_order_of_the_levels() -> None:
    peaks = measure_peaks(NATIVE)
    assert [level.name for level in peaks.levels] == ["L2", "L3", "memory"]
    assert peaks.flops > 1e8
    assert all(level.bandwidth > 1e7 for level in peaks.levels)
    assert peaks.level(1).name == "L2"
    assert peaks.level(1 << 40).name == "memory"


def test_bench_explains(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "two.lir"
    file.write_text(TEXT)
    arguments = ("bench", file, "--explain", "--seconds", "0.02", "--threads", "1")
    assert run(*arguments, "--dim", "n=5") == 0
    shown = capsys.readouterr().out
    assert "packed product" in shown
    assert "MatMul_3" in shown
    assert "one core:" in shown
    assert run(*arguments, "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert set(told) == {"kernels", "peaks", "rows", "seconds"}
    kernel = told["kernels"][0]
    assert {"bound", "reached", "choice", "calls", "seconds", "limits"} <= set(kernel)


def test_an_artefact_cannot_be_explained(
    compiled: tuple[leptonc.Graph, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("bench", compiled[1], "--explain") == 2
    assert "--explain needs the model" in capsys.readouterr().err


def test_an_artefact_is_measured_without_a_reference(
    compiled: tuple[leptonc.Graph, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("bench", compiled[1], "--seconds", "0.02", "--json") == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert row["deviation"] is None
