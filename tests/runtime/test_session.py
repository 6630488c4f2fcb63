# pyright: standard
"""A session runs its artefact, gives outputs that are the caller's, and lets go of everything."""

from __future__ import annotations

import gc
import pickle
import resource
import threading
import weakref
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

import leptonc
from leptonc.artifact import Artifact
from leptonc.ir.diagnostics import LeptonError
from leptonc.ir.types import DTYPE_OF_NAME
from leptonc.runtime import Session, load
from leptonc.runtime.native import Sizes, sizes_of
from leptonc.runtime.values import aligned
from tests.runtime.conftest import Artifacts

WEIGHT = np.array([1, 2, 3, 4], "f4")
DTYPES = [
    "bool", "i8", "i16", "i32", "i64", "u8", "u16", "u32", "u64", "f16", "f32", "f64", "bf16",
    "f8e4m3fn", "f8e4m3fnuz", "f8e5m2", "f8e5m2fnuz", "f8e8m0", "f4e2m1", "i4", "u4", "i2", "u2",
]  # fmt: skip


def mapped(path: Path) -> bool:
    """Whether this process has the file in its memory."""
    return str(path) in Path("/proc/self/maps").read_text()


@pytest.mark.parametrize("rows", [0, 1, 2, 7, 64])
def test_one_artefact_runs_at_every_size(artifacts: Artifacts, rows: int) -> None:
    x = np.random.default_rng(rows).random((rows, 4), np.float32)
    with load(artifacts("affine")) as session:
        y = session.run({"x": x})["y"]
    assert y.shape == (rows, 4)
    np.testing.assert_array_equal(y, x + WEIGHT)


def test_an_artefact_runs_after_others_were_loaded_and_closed(artifacts: Artifacts) -> None:
    # The loader must not take a new library for an old one whose descriptor had the same number.
    x = np.ones((2, 4), "f4")
    for _ in range(3):
        with load(artifacts("affine")) as first:
            np.testing.assert_array_equal(first.run({"x": x})["y"], x + WEIGHT)
            with load(artifacts("handed_on")) as second:
                np.testing.assert_array_equal(second.run({"x": x})["once"], x + np.arange(4))
            np.testing.assert_array_equal(first.run({"x": x})["y"], x + WEIGHT)


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_element_type_passes_bit_for_bit(artifacts: Artifacts, dtype: str) -> None:
    with load(artifacts("copies", dtype)) as session:
        expected = session._gate.kinds[0].dtype
        bits = np.random.default_rng(1).integers(0, 256, (5, 3, expected.itemsize), np.uint8)
        x = (bits & 1 if dtype == "bool" else bits).view(expected).reshape(5, 3)
        y = session.run({"x": x})["y"]
        assert y.dtype == expected
        assert y.tobytes() == x.tobytes()


@pytest.mark.parametrize("dtype", ["f32", "bf16"])
def test_a_scalar_passes(artifacts: Artifacts, dtype: str) -> None:
    with load(artifacts("scalar", dtype)) as session:
        x = np.array(2.5, session._gate.kinds[0].dtype)
        y = session.run({"x": x})["y"]
        assert y.shape == ()
        assert y == x


def test_nothing_that_is_handed_on_is_shared(artifacts: Artifacts) -> None:
    x = aligned((2, 4), np.dtype("f4"))
    x[...] = 1
    session = load(artifacts("handed_on"))
    outputs = session.run({"x": x})
    for array in outputs.values():
        array += 100  # would reach the input, the weights or each other
    np.testing.assert_array_equal(x, 1)
    again = session.run({"x": x})
    np.testing.assert_array_equal(again["same"], x)
    np.testing.assert_array_equal(again["weight"], np.arange(4))
    np.testing.assert_array_equal(again["twice"], x + np.arange(4))
    np.testing.assert_array_equal(outputs["once"], x + np.arange(4) + 100)
    session.close()


@pytest.mark.parametrize("start", [0, 4])
def test_an_input_that_is_handed_on_outlives_later_calls(artifacts: Artifacts, start: int) -> None:
    memory = aligned((80,), np.dtype("u1"))
    x = memory[start : start + 32].view("f4").reshape(2, 4)
    with load(artifacts("handed_on")) as session:
        x[...] = 1
        first = session.run({"x": x})["same"]
        x[...] = 2
        session.run({"x": x})
    np.testing.assert_array_equal(first, 1)


def test_outputs_outlive_the_session(artifacts: Artifacts) -> None:
    session = load(artifacts("affine"))
    y = session.run({"x": np.zeros((1000, 4), "f4")})["y"]
    session.close()
    del session
    gc.collect()
    np.testing.assert_array_equal(y, np.broadcast_to(WEIGHT, (1000, 4)))
    y[...] = 7
    assert y.sum() == 28000


def test_aligned_inputs_are_not_copied(artifacts: Artifacts) -> None:
    x = aligned((3, 4), np.dtype("f4"))
    x[...] = 1
    with load(artifacts("affine")) as session:
        for _ in range(3):
            session.run({"x": x})
        assert (session.report.calls, session.report.copies) == (3, 0)
        read_only = x.view()
        read_only.flags.writeable = False
        session.run({"x": read_only})
        assert session.report.copies == 0


def layouts() -> dict[str, np.ndarray]:
    """The same numbers in every layout that is not the plain one."""
    x = np.arange(12, dtype="f4").reshape(3, 4)
    memory = aligned((100,), np.dtype("u1"))[4:52].view("f4").reshape(3, 4)
    memory[...] = x
    wide = np.zeros((3, 8), "f4")
    wide[:, ::2] = x
    return {
        "misaligned": memory,
        "odd": np.frombuffer(b"\0" + x.tobytes(), "f4", 12, 1).reshape(3, 4),
        "fortran": np.asfortranarray(x),
        "strided": wide[:, ::2],
        "negative": x[::-1].copy()[::-1],
        "big-endian": x.astype(">f4"),
        "repeated": np.broadcast_to(x[:1], (3, 4)),
    }


@pytest.mark.parametrize("layout", list(layouts()))
def test_every_layout_gives_the_right_answer_and_counts_its_copy(
    artifacts: Artifacts, layout: str
) -> None:
    x = layouts()[layout]
    with load(artifacts("affine")) as session:
        y = session.run({"x": x})["y"]
        report = session.report
    np.testing.assert_array_equal(y, np.asarray(x, "f4") + WEIGHT)
    assert (report.copies, report.copied_bytes) == (1, 48)


def test_small_inputs_that_were_copied_once_are_copied_without_a_look(
    artifacts: Artifacts,
) -> None:
    """Whatever layout the next ones have; the copies are of the call alone."""
    with load(artifacts("affine")) as session:
        for turn in range(2):
            for x in [*layouts().values(), aligned_copy(np.full((3, 4), turn, "f4"))]:
                y = session.run({"x": x})["y"]
                np.testing.assert_array_equal(y, np.asarray(x, "f4") + WEIGHT)
        count = session.report.copies
        assert count == session.report.copied_bytes // 48 == 2 * len(layouts()) + 2
        other = aligned_copy(np.ones((5, 4), "f4"))
        np.testing.assert_array_equal(session.run({"x": other})["y"], other + WEIGHT)
        assert session.report.copies == count
        large = aligned_copy(np.ones((2000, 4), "f4"))
        odd = np.concatenate([large.reshape(-1), np.zeros(1, "f4")])[1:].reshape(2000, 4)
        for x in (odd, large):
            np.testing.assert_array_equal(session.run({"x": x})["y"], x + WEIGHT)
        assert session.report.copies == count + 1


def aligned_copy(array: np.ndarray) -> np.ndarray:
    """The same where programs read it in place."""
    memory = aligned(array.shape, array.dtype)
    memory[...] = array
    return memory


def test_dlpack_goes_in_and_out(artifacts: Artifacts) -> None:
    x = aligned((2, 4), np.dtype("f4"))
    x[...] = 3
    with load(artifacts("affine")) as session:
        first = session.run_dlpack({"x": x})["y"]
        second = session.run_dlpack({"x": first})["y"]
        third = session.run({"x": second})["y"]
        assert session.report.copies == 0
    np.testing.assert_array_equal(np.from_dlpack(first), x + WEIGHT)
    np.testing.assert_array_equal(np.from_dlpack(second), x + 2 * WEIGHT)
    np.testing.assert_array_equal(third, x + 3 * WEIGHT)


@pytest.mark.parametrize("dtype", ["bf16", "f8e5m2", "f8e8m0"])
def test_dlpack_passes_narrow_types(artifacts: Artifacts, dtype: str) -> None:
    numpy_type = DTYPE_OF_NAME[dtype].numpy
    x = np.arange(1, 7).reshape(2, 3).astype(numpy_type)
    with load(artifacts("copies", dtype)) as session:
        tensor = session.run_dlpack({"x": x})["y"]
        assert str(tensor.dtype) == numpy_type.name
        np.testing.assert_array_equal(session.run({"x": tensor})["y"], x)


def test_dlpack_refuses_types_below_a_byte(artifacts: Artifacts) -> None:
    with load(artifacts("copies", "i4")) as session:
        x = np.array([[-8, 7, 0]], ml_dtypes.int4)
        with pytest.raises(LeptonError, match="output 'y' is i4") as error:
            session.run_dlpack({"x": x})
        assert error.value.code == "E708"
        assert "arrays of ml_dtypes" in error.value.notes[0]
        np.testing.assert_array_equal(session.run({"x": x})["y"], x)


def test_a_session_is_freed_without_the_collector(artifacts: Artifacts, tmp_path: Path) -> None:
    path = tmp_path / "own.lepton"
    load(artifacts("affine")).save(path)
    gc.disable()
    try:
        session = load(path)
        session.run({"x": np.ones((2, 4), "f4")})
        assert mapped(path)
        gone = weakref.ref(session)
        del session
        assert gone() is None
        assert not mapped(path)
    finally:
        gc.enable()


def test_a_closed_session_holds_no_memory(artifacts: Artifacts, tmp_path: Path) -> None:
    path = tmp_path / "own.lepton"
    load(artifacts("affine")).save(path)
    session = load(path)
    session.run({"x": np.ones((2, 4), "f4")})
    session.close()
    session.close()
    assert not mapped(path)
    assert session.report.calls == 1
    with pytest.raises(LeptonError, match=r"E702.*session is closed"):
        session.run({"x": np.ones((2, 4), "f4")})
    with pytest.raises(LeptonError, match="E702"):
        session.save(tmp_path / "other.lepton")


def test_memory_does_not_grow_with_the_sizes_seen(artifacts: Artifacts) -> None:
    session = load(artifacts("affine"))

    def resident() -> int:
        fields = Path("/proc/self/statm").read_text().split()
        return int(fields[1]) * 4096

    x = np.ones((400_000, 4), "f4")
    session.run({"x": x[:100]})
    before = resident()
    for rows in range(100_000, 100_400):  # 1.6 MB each, 640 MB if all of it were kept
        session.run({"x": x[:rows]})
    assert resident() - before < 300e6
    session.close()
    assert resident() - before < 100e6  # the rest of the process allocates too


def test_runs_of_the_same_sizes_find_the_memory_of_the_last(artifacts: Artifacts) -> None:
    x = np.ones((400_000, 4), "f4")
    with load(artifacts("affine"), 1) as session:
        for rows in (400_000, 300_000, 400_000):
            session.run({"x": x[:rows]})
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        for rows in (400_000, 300_000) * 5:
            session.run({"x": x[:rows]})
        after = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    assert after - before < 3 * x.nbytes / 4096  # mapping anew would take ten times as many


SIZES = (
    b"vm.builtin.alloc_shape_heap",
    b"vm.builtin.tensor_to_shape",
    b"vm.builtin.read_if_cond",
    b"leptonc_turn",
)


@pytest.mark.parametrize(
    ("names", "told", "sizes"),
    [((0,), False, Sizes(True, False)), ((), False, Sizes(False, False)),
     ((0, 1), False, Sizes(True, True)), ((0, 2), True, Sizes(True, True)),
     ((2,), False, Sizes(False, False)), ((0, 1), True, Sizes(True, False)),
     ((0, 1, 3), True, Sizes(True, True)), ((0, 3), False, Sizes(True, False))],
)  # fmt: skip
def test_a_library_tells_what_its_sizes_depend_on(
    names: tuple[int, ...], told: bool, sizes: Sizes
) -> None:
    code = memoryview(b"\0".join(SIZES[name] for name in names))
    assert sizes_of(code, told=told) == sizes


def test_numbers_that_are_only_checked_leave_the_memory_of_runs_in_place(tmp_path: Path) -> None:
    text = """graph @main(%x: i64[n], %table: f32[10,256]) -> (y: f32[n,256]) {
  %y = gather(%table, %x) {axis = 0} : f32[n,256]
  return %y
}
"""
    path = tmp_path / "rows.lir"
    path.write_text(text)
    rows = np.arange(20_000) % 10
    table = np.arange(2560, dtype="f4").reshape(10, 256)
    with leptonc.compile(path, threads=1, isolated=False) as session:
        assert session.manifest.is_told
        for count in (20_000, 10_000, 20_000):
            session.run({"x": rows[:count], "table": table})
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        for count in (20_000, 10_000) * 5:
            session.run({"x": rows[:count], "table": table})
        after = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        found = session.run({"x": rows, "table": table})["y"]
        np.testing.assert_array_equal(found, table[rows])
        with pytest.raises(LeptonError, match="E707"):
            session.run({"x": rows + 1, "table": table})
    assert after - before < 3 * 4 * 256 * 20_000 / 4096  # mapping anew would take eight times that


def test_close_waits_for_the_calls_in_flight(artifacts: Artifacts) -> None:
    session = load(artifacts("affine"))
    x = np.ones((2, 4), "f4")
    lane = session._pool.take()  # stands for a call in flight
    closer = threading.Thread(target=session.close)
    closer.start()
    closer.join(0.05)
    assert closer.is_alive()
    with pytest.raises(LeptonError, match="E702"):
        session.run({"x": x})
    session._pool.give(lane)
    closer.join(10)
    assert not closer.is_alive()


def test_a_pickled_session_is_its_file_and_digest(artifacts: Artifacts, tmp_path: Path) -> None:
    path = tmp_path / "own.lepton"
    load(artifacts("affine")).save(path)
    text = pickle.dumps(load(path, threads=1))
    assert len(text) < 1000
    x = np.ones((2, 4), "f4")
    np.testing.assert_array_equal(pickle.loads(text).run({"x": x})["y"], x + WEIGHT)
    load(artifacts("handed_on")).save(path)
    with pytest.raises(LeptonError, match="not the artefact that was pickled"):
        pickle.loads(text)
    path.unlink()
    with pytest.raises(LeptonError, match="E601"):
        pickle.loads(text)


def test_what_is_saved_is_the_same_file(artifacts: Artifacts, tmp_path: Path) -> None:
    path = artifacts("affine")
    with load(path) as session:
        session.save(tmp_path / "copy.lepton")
    assert (tmp_path / "copy.lepton").read_bytes() == path.read_bytes()


def test_weights_are_views_of_the_file(artifacts: Artifacts) -> None:
    with Artifact.open(artifacts("affine")) as artifact:
        weight = artifact.weight(0)
        np.testing.assert_array_equal(weight, WEIGHT)
        assert not weight.flags.writeable
        assert weight.ctypes.data % 64 == 0
        del weight


def test_a_failing_program_says_so_and_the_session_goes_on(artifacts: Artifacts) -> None:
    x = np.ones((2, 4), "f4")
    with load(artifacts("affine")) as session:
        session.run({"x": x})
        session._shapes.add(((2, 5),))  # past the gate, to see the program itself fail
        with pytest.raises(LeptonError, match=r"E704.*the compiled program failed"):
            session.run({"x": np.ones((2, 5), "f4")})
        np.testing.assert_array_equal(session.run({"x": x})["y"], x + WEIGHT)


def test_an_interrupted_call_leaves_the_session_usable(artifacts: Artifacts) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    x = np.ones((2, 4), "f4")
    for name, threads in (("affine", 1), ("parallel", 2)):
        session = load(artifacts(name), threads)
        session.run({"x": x})
        session._pool.lanes[0].call = interrupt
        with pytest.raises(KeyboardInterrupt):
            session.run({"x": x})
        np.testing.assert_array_equal(session.run({"x": x})["y"], x + WEIGHT)
        session.close()


@pytest.mark.parametrize("threads", [-1, 1025, True, 1.5, "2"])
def test_unusable_numbers_of_threads_are_refused(artifacts: Artifacts, threads: object) -> None:
    with pytest.raises(LeptonError, match=r"E705.*threads is"):
        load(artifacts("affine"), threads)  # pyright: ignore[reportArgumentType]


def test_the_public_names_are_the_runtime_s() -> None:
    assert leptonc.load is load
    assert leptonc.Session is Session
    assert leptonc.LeptonError is LeptonError
    assert {"load", "compile", "__version__"} <= set(dir(leptonc))
    with pytest.raises(AttributeError, match="nothing_like_it"):
        leptonc.nothing_like_it  # noqa: B018  # pyright: ignore[reportAttributeAccessIssue]
