"""Whole graphs through the code generator, run beside the interpreter."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import leptonc
from leptonc.api import make_options
from leptonc.artifact import Artifact
from leptonc.backends.cpu.target import ARM, NEON, by_name, detect, with_threads
from leptonc.backends.tvm import build as builder
from leptonc.backends.tvm import worker
from leptonc.backends.tvm.cache import Cache
from leptonc.driver import compile_model
from leptonc.ir.blob import Array
from leptonc.ir.diagnostics import LeptonBug, LeptonError
from leptonc.ir.interpret import interpret
from leptonc.ir.text import parse_graph
from leptonc.ir.types import DType

CPU = with_threads(detect(), 1)

EM_AARCH64 = 183
EXTREMES = np.array([0.0, -0.0, np.nan, np.inf, -np.inf, 1e-40, -3.5, 88.0], np.float32)

OUTPUTS_OF_EVERY_KIND = """graph @m(%x: f32[n,4]) -> \
(a: f32[n,4], b: f32[n,4], c: i64[2], d: f32[3], e: f32[2,n*2], f: f32[]) {
  %r = relu(%x) : f32[n,4]
  %s = dims() {value = [n, 2*n], shape = [2]} : i64[2]
  %k = const() {value = random(3)} : f32[3]
  %one = const() {value = dense([1.5])} : f32[]
  %to = dims() {value = [2, 2*n], shape = [2]} : i64[2]
  %v = reshape(%r, %to) : f32[2,2*n]
  return %r, %x, %s, %k, %v, %one
}"""


def compare(text: str, feeds: Mapping[str, Array], *, threads: int = 1, rtol: float = 2e-6) -> None:
    """The compiled graph gives what the interpreter gives."""
    expected = interpret(parse_graph(text), feeds)
    with leptonc.compile(parse_graph(text), threads=threads, isolated=False) as session:
        found = session.run(feeds)
    assert list(found) == list(expected)
    for name, want in expected.items():
        assert found[name].dtype == want.dtype
        np.testing.assert_allclose(found[name], want, rtol=rtol, atol=1e-6, err_msg=name)


@pytest.mark.parametrize("rows", [1, 2, 5])
def test_outputs_of_every_kind(rows: int) -> None:
    """Inputs, constants, extents, views and single numbers can all be given back."""
    compare(
        OUTPUTS_OF_EVERY_KIND,
        {"x": np.linspace(-2, 2, rows * 4, dtype=np.float32).reshape(rows, 4)},
    )


def test_an_output_may_be_named_twice_and_keeps_its_data() -> None:
    """Outputs are the caller's: the next call does not overwrite them."""
    text = """graph @m(%x: f32[4]) -> (a: f32[4], b: f32[4]) {
      %r = exp(%x) : f32[4]
      return %r, %r
    }"""
    with leptonc.compile(parse_graph(text), threads=1, isolated=False) as session:
        first = session.run({"x": np.zeros(4, np.float32)})
        second = session.run({"x": np.ones(4, np.float32)})
    np.testing.assert_allclose(first["a"], 1)
    np.testing.assert_allclose(first["b"], 1)
    np.testing.assert_allclose(second["a"], np.e, rtol=1e-6)


NORMALISED = """graph @m(%x: f32[n,33], %y: f32[n,33]) -> (z: f32[n,33]) {
  %axis = const() {value = dense([1])} : i64[1]
  %two = const() {value = dense([2.0])} : f32[]
  %s = mul(%x, %y) : f32[n,33]
  %m = reduce_mean(%s, axes=%axis) : f32[n,1]
  %c = sub(%s, %m) : f32[n,33]
  %q = pow(%c, %two) : f32[n,33]
  %v = reduce_sum(%q, axes=%axis) : f32[n,1]
  %w = sqrt(%v) : f32[n,1]
  %z = div(%c, %w) : f32[n,33]
  return %z
}"""


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("rows", [1, 7, 300])
def test_reductions_among_elementwise_operations(rows: int, threads: int) -> None:
    """Groups around reductions agree at several sizes, on one thread and on two."""
    generator = np.random.default_rng(rows)
    x, y = generator.standard_normal((2, rows, 33)).astype(np.float32)
    compare(NORMALISED, {"x": x, "y": y}, threads=threads, rtol=2e-5)


def test_extreme_numbers_go_through_as_numpy_has_them() -> None:
    """NaN, infinities, signed zeros and denormals follow numpy at every level."""
    text = """graph @m(%x: f32[8], %y: f32[8]) -> (a: f32[8], b: f32[8], c: f32[8], d: f32[8]) {
      %a = relu(%x) : f32[8]
      %b = max(%x, %y) : f32[8]
      %c = exp(%x) : f32[8]
      %d = tanh(%x) : f32[8]
      return %a, %b, %c, %d
    }"""
    compare(text, {"x": EXTREMES, "y": EXTREMES[::-1].copy()})


def test_integer_division_never_ends_the_process() -> None:
    """By 0, and of the least integer by -1, there is a number and no signal, as interpreted."""
    text = """graph @m(%x: i32[4], %y: i32[4]) -> (q: i32[4], r: i32[4]) {
      %q = div(%x, %y) : i32[4]
      %r = mod(%x, %y) : i32[4]
      return %q, %r
    }"""
    least = np.iinfo(np.int32).min
    compare(
        text,
        {"x": np.array([7, -7, least, least], np.int32), "y": np.array([0, 2, -1, 0], np.int32)},
    )


def test_bfloat16_operations_round_one_by_one() -> None:
    """A group of them gives what one operation after the other gives, constants included."""
    text = """graph @m(%x: bf16[5]) -> (y: bf16[5]) {
      %half = const() {value = dense([0.5])} : bf16[]
      %two = const() {value = dense([2.0])} : bf16[]
      %s = mul(%x, %half) : bf16[5]
      %e = elu(%s) : bf16[5]
      %y = mul(%two, %e) : bf16[5]
      return %y
    }"""
    x = np.array([-3, -0.5, 0, 0.5, 3]).astype(DType.BF16.numpy)
    expected = interpret(parse_graph(text), {"x": x})["y"]
    with leptonc.compile(parse_graph(text), threads=1, isolated=False) as session:
        found = session.run({"x": x})["y"]
    np.testing.assert_array_equal(found.astype(np.float32), expected.astype(np.float32))


def test_a_linear_with_its_epilogue() -> None:
    """A packed product takes what follows it element by element, also its own residual."""
    text = """graph @m(%x: f32[n,40]) -> (y: f32[n,40]) {
      %w = const() {value = random(1)} : f32[40,40]
      %b = const() {value = random(2)} : f32[40]
      %p = linear(%x, %w, bias=%b) : f32[n,40]
      %s = sigmoid(%p) : f32[n,40]
      %g = mul(%p, %s) : f32[n,40]
      %y = add(%g, %x) : f32[n,40]
      return %y
    }"""
    for rows in (1, 6, 13):
        generator = np.random.default_rng(rows)
        compare(text, {"x": generator.standard_normal((rows, 40)).astype(np.float32)}, rtol=2e-5)


def test_kernels_come_from_the_cache_the_second_time(tmp_path: Path) -> None:
    """The same text compiles nothing; a library that shares a kernel compiles the others."""
    graph = parse_graph(NORMALISED)
    cache = Cache(tmp_path)
    first = builder.build_library(graph, CPU, tmp_path / "a.so", cache=cache)
    second = builder.build_library(parse_graph(NORMALISED), CPU, tmp_path / "b.so", cache=cache)
    assert first.compiled == first.kernels > 3
    assert second.compiled == 0
    assert (tmp_path / "a.so").read_bytes() == (tmp_path / "b.so").read_bytes()
    changed = parse_graph(NORMALISED.replace("sqrt(%v)", "exp(%v)"))
    assert builder.build_library(changed, CPU, tmp_path / "c.so", cache=cache).compiled == 1


def test_the_same_model_gives_the_same_bytes(tmp_path: Path) -> None:
    """Two compilations, one in a process of its own, write equal artefacts."""
    for name, isolated in (("a", True), ("b", False)):
        options = make_options(
            "cpu", level=2, precision="fp32", dims={}, threads=1, cache=False, isolated=isolated
        )
        compile_model(parse_graph(NORMALISED), tmp_path / name, options)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_a_missing_linker_is_named_before_anything_is_compiled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error says what was looked for and what to install."""
    monkeypatch.setattr(shutil, "which", lambda name: None)  # pyright: ignore[reportUnknownLambdaType, reportUnknownArgumentType]
    with pytest.raises(LeptonError, match="no linker was found: looked for ld") as error:
        builder.build_library(parse_graph(NORMALISED), CPU, tmp_path / "a.so")
    assert error.value.code == "E502"
    assert "install binutils" in error.value.notes[0]


def test_a_linker_for_another_machine_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has names of its own; this machine's would only fail later."""
    monkeypatch.setattr(shutil, "which", {"ld": "/usr/bin/ld"}.get)
    other = next(cpu for cpu in ("neon", "avx2") if by_name(cpu).machine != platform.machine())
    with pytest.raises(
        LeptonError, match=r"no linker for \w+ was found: looked for ld\.lld"
    ) as error:
        builder.build_library(parse_graph(NORMALISED), by_name(other), tmp_path / "a.so")
    assert error.value.code == "E502"
    assert "install lld" in error.value.notes[0]


def test_objects_for_arm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A linker that keeps what it is given; all of it is for 64-bit Arm, as the artefact says."""
    kept = tmp_path / "kept"
    kept.mkdir()
    linker = tmp_path / "ld.lld"
    linker.write_text(
        "#!/bin/sh\n"
        f'for each in "$@"; do case "$each" in *.o) cp "$each" {kept}/;; esac; done\n'
        f'while [ "$1" != -o ]; do shift; done; cat {kept}/*.o > "$2"\n'
    )
    linker.chmod(0o755)
    monkeypatch.setattr(shutil, "which", lambda name: str(linker))  # pyright: ignore[reportUnknownLambdaType, reportUnknownArgumentType]
    options = make_options(
        "cpu:isa=neon", level=2, precision="fp32", dims={}, threads=1, cache=False, isolated=False
    )
    compile_model(parse_graph(NORMALISED), tmp_path / "a.lepton", options)
    objects = list(kept.glob("*.o"))
    assert len(objects) > 2
    for path in objects:
        head = path.read_bytes()[:20]
        assert head[:4] == b"\x7fELF"
        assert int.from_bytes(head[18:20], "little") == EM_AARCH64
    with Artifact.open(tmp_path / "a.lepton") as artifact:
        target = artifact.manifest.target
    assert (target.arch, set(target.features)) == (ARM, set(NEON))


def test_a_failing_linker_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its status and its own words are in the error."""
    broken = tmp_path / "ld"
    broken.write_text("#!/bin/sh\necho no space left >&2\nexit 3\n")
    broken.chmod(0o755)
    monkeypatch.setattr(shutil, "which", lambda name: str(broken))  # pyright: ignore[reportUnknownLambdaType, reportUnknownArgumentType]
    with pytest.raises(LeptonError, match="failed with status 3") as error:
        builder.build_library(parse_graph(NORMALISED), CPU, tmp_path / "a.so")
    assert error.value.notes == ["no space left"]
    assert error.value.code == "E503"


def test_everything_unsupported_is_listed_at_once() -> None:
    """Each reason comes once, with the nodes that have it."""
    text = """graph @m(%x: f32[4], %y: c64[4]) -> (a: f8e5m2[4], b: f8e5m2[4], c: c64[4]) {
      %n = cast(%x) {to = f8e5m2} : f8e5m2[4]
      %at = const() {value = dense([1])} : i64[1,1]
      %new = const() {value = dense([2])} : f8e5m2[1]
      %a = scatter_nd(%n, %at, %new) {reduction = "add"} : f8e5m2[4] loc("first")
      %b = scatter_nd(%a, %at, %new) {reduction = "add"} : f8e5m2[4] loc("second")
      return %a, %b, %y
    }"""
    with pytest.raises(LeptonError, match="3 parts") as error:
        leptonc.compile(parse_graph(text), isolated=True)
    assert error.value.code == "E802"
    assert sorted(error.value.notes) == [
        "element type c64 has no kernels on this target: input 'y'",
        "scatter_nd has no kernel for element type f8e5m2 on this target: 'first', 'second'",
    ]


def nothing_said(what: str, done: int, total: int) -> None:
    """A progress report that goes nowhere."""


def test_a_worker_that_dies_is_a_bug_that_names_the_signal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An abort inside the code generator does not end the process that asked."""
    real = subprocess.Popen

    def dying(command: list[str], **how: Any) -> subprocess.Popen[Any]:
        crash = "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)"
        return real([command[0], "-c", crash], **how)

    monkeypatch.setattr(worker.subprocess, "Popen", dying)
    with pytest.raises(LeptonBug, match="was ended by SIGSEGV"):
        worker.build_in_child(
            NORMALISED,
            CPU,
            tmp_path / "a.so",
            rows=[],
            cache_folder=None,
            version="",
            jobs=1,
            progress=nothing_said,
        )


def test_an_interrupt_ends_the_worker(tmp_path: Path) -> None:
    """Whatever interrupts the wait kills the processes that build."""
    started: list[int] = []

    def interrupt(what: str, done: int, total: int) -> None:
        del what, done, total
        started.append(1)
        raise KeyboardInterrupt

    before = _children()
    with pytest.raises(KeyboardInterrupt):
        worker.build_in_child(
            NORMALISED,
            CPU,
            tmp_path / "a.so",
            rows=[],
            cache_folder=None,
            version="",
            jobs=2,
            progress=interrupt,
        )
    assert started
    assert _children() == before
    assert not (tmp_path / "a.so").exists()


ONCE = """
import os, sys
from pathlib import Path
from types import SimpleNamespace
from leptonc.backends.tvm import build

folder, parent, said = Path(sys.argv[1]), os.getpid(), []

def compile_kernel(source, cpu, target, path):
    if path.suffix != ".o" or (source.name == "k3" and os.getpid() != parent):
        raise ValueError
    path.write_text(source.name)
    with (folder / "done").open("a") as file:
        file.write(source.name + "\\n")

build.compile_kernel = compile_kernel
kernels = {f"k{i}": SimpleNamespace(name=f"k{i}", text="x" * i) for i in range(40)}
build._compile_all(kernels, None, None, folder, lambda *now: said.append(now), 3)
assert said == [("kernels", i, 40) for i in range(40)], said
"""


def test_each_kernel_is_compiled_once_by_whichever_process_is_free(tmp_path: Path) -> None:
    """What fails in another process is made again in the one that tells errors."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    command = [sys.executable, "-c", ONCE, str(tmp_path)]
    subprocess.run(command, env=environment, check=True, timeout=120)
    names = sorted(f"k{index}" for index in range(40))
    assert sorted((tmp_path / "done").read_text().split()) == names
    assert sorted(path.stem for path in tmp_path.glob("*.o")) == names
    assert all(path.read_text() == path.stem for path in tmp_path.glob("*.o"))


def _children() -> set[str]:
    """The processes that this one started and that still run."""
    task = Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children")
    return set(task.read_text().split())
