"""The artefact file: written whole, the same every time, and read back as it was."""

from __future__ import annotations

import hashlib
import io
import json
import mmap
import os
import signal
import subprocess
import sys
import threading
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from leptonc import artifact_sums
from leptonc.artifact import (
    Artifact,
    Manifest,
    TargetSpec,
    TensorSpec,
    WeightSpec,
)
from leptonc.artifact_sums import Sums, digest_of
from leptonc.artifact_writer import Blocks, write_artifact
from leptonc.container import (
    ALIGNMENT,
    COMMENT,
    Member,
    data_offset,
    layout,
    read_comment,
    read_directory,
)
from leptonc.ir.diagnostics import LeptonBug, LeptonError

ROOT = Path(__file__).parents[1]
LIBRARY = b"\x7fELF" + bytes(range(256)) * 3
Array = np.ndarray[Any, np.dtype[Any]]


def weights() -> list[Array]:
    """Weights of several types, one of them empty, one without axes."""
    random = np.random.default_rng(0)
    return [
        random.random((3, 5), np.float32),
        np.array(7, np.int64),
        random.random(33).astype(ml_dtypes.bfloat16),
        np.zeros((0, 4), np.float32),
        np.array([True, False, True]),
    ]


def manifest(**changes: Any) -> Manifest:
    """A manifest for those weights."""
    specs = (
        WeightSpec("kernel", "f32", (3, 5)),
        WeightSpec("steps", "i64", ()),
        WeightSpec("bias", "bf16", (33,)),
        WeightSpec("nothing", "f32", (0, 4)),
        WeightSpec("mask", "bool", (3,)),
    )
    plain = Manifest(
        inputs=(TensorSpec("x", "f32", ("batch", "2*seq+1")),),
        outputs=(TensorSpec("größe", "i64", (1, "floordiv(seq,2)")),),
        weights=specs,
        target=TargetSpec(features=("sse4_2", "avx2")),
        threads=2,
        plan={"peak": 4096},
        dims={"seq": 512},
        provenance={"model": "demo", "passes": ["fold"], "level": 2},
    )
    return replace(plain, **changes)


def write(path: Path, **changes: Any) -> Path:
    write_artifact(path, manifest(**changes), LIBRARY, weights())
    return path


class Recorder(io.BytesIO):
    """A file that remembers where it was written to, and how much."""

    def __init__(self) -> None:
        super().__init__()
        self.written: list[tuple[int, int]] = []

    def write(self, content: Any, /) -> int:
        """Write, and remember it."""
        self.written.append((self.tell(), len(content)))
        return super().write(content)


def test_weights_are_written_in_blocks_of_large_pages() -> None:
    file, block = Recorder(), 2 << 20
    content = np.random.default_rng(0).bytes(5 * block + 12345)
    file.seek(777)
    blocks = Blocks(file.write, 777)
    for start, stop in ((0, 5), (5, 5), (5, block - 777), (block - 777, len(content))):
        blocks.write(memoryview(content)[start:stop])
    blocks.finish()
    assert file.getvalue() == bytes(777) + content
    assert [start for start, _ in file.written] == [777, *range(block, 6 * block, block)]
    assert all(start + size <= (start // block + 1) * block for start, size in file.written)


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    path = tmp_path / "m.lepton"
    size = write_artifact(path, manifest(), LIBRARY, iter(weights()))
    assert size == path.stat().st_size
    with Artifact.open(path) as artifact:
        read = artifact.manifest
        plain = replace(read, leptonc="", libc="", parts=())
        assert plain == manifest(target=TargetSpec(features=("avx2", "sse4_2")))
        assert bytes(artifact.library) == LIBRARY
        for index, expected in enumerate(weights()):
            weight = artifact.weight(index)
            assert weight.dtype == expected.dtype
            assert weight.shape == expected.shape
            assert weight.tobytes() == expected.tobytes()
            assert not weight.flags.writeable
            assert not weight.size or weight.ctypes.data % ALIGNMENT == 0
            del weight


def test_the_same_input_gives_the_same_bytes(tmp_path: Path) -> None:
    one, two = write(tmp_path / "one.lepton"), write(tmp_path / "another name.lepton")
    assert one.read_bytes() == two.read_bytes()
    other = write(tmp_path / "three.lepton", threads=1)
    assert other.read_bytes() != one.read_bytes()


def test_any_zip_tool_reads_the_file(tmp_path: Path) -> None:
    path = write(tmp_path / "m.lepton")
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        assert archive.namelist() == ["library.so", "weights.bin", "manifest.json"]
        assert all(entry.compress_type == zipfile.ZIP_STORED for entry in archive.infolist())
        assert archive.read("library.so") == LIBRARY
        text = archive.read("manifest.json")
        assert archive.comment == COMMENT + hashlib.sha256(text).hexdigest().encode()
        document = json.loads(text)
        content = archive.read("weights.bin")
    assert document["format"] == 1
    assert document["parts"][1]["sha256"] == hashlib.sha256(content).hexdigest()
    for entry, expected in zip(document["weights"], weights(), strict=True):
        assert entry["offset"] % ALIGNMENT == 0
        assert content[entry["offset"] :][: entry["bytes"]] == expected.tobytes()


def test_nothing_of_the_machine_gets_into_the_file(tmp_path: Path) -> None:
    content = write(tmp_path / "m.lepton").read_bytes()
    for text in (str(tmp_path), os.uname().nodename, str(Path.home())):
        assert text.encode() not in content


@pytest.mark.parametrize("kind", ["memory", "bytes", "strided", "big-endian", "fortran"])
def test_weights_come_in_any_form(tmp_path: Path, kind: str) -> None:
    spec = WeightSpec("w", "f32", (2, 3))
    array = np.arange(6, dtype="f4").reshape(2, 3)
    given: Any = {
        "memory": memoryview(array.tobytes()),
        "bytes": array.tobytes(),
        "strided": np.repeat(array, 2, axis=1)[:, ::2],
        "big-endian": array.astype(">f4"),
        "fortran": np.asfortranarray(array),
    }[kind]
    path = tmp_path / "m.lepton"
    write_artifact(path, Manifest((), (), (spec,)), LIBRARY, [given])
    with Artifact.open(path) as artifact:
        assert artifact.weight(0).tobytes() == array.tobytes()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([], "weight 'w' was not given"),
        ([np.zeros(3, "f4")] * 2, "more weights were given"),
        ([np.zeros(4, "f4")], r"is float32\[4\], should be float32\[3\]"),
        ([np.zeros(3, "f8")], r"is float64\[3\], should be float32\[3\]"),
        ([bytes(11)], "has 11 bytes, should have 12"),
    ],
)
def test_weights_that_do_not_match_are_a_bug(
    tmp_path: Path, given: list[Any], message: str
) -> None:
    path = tmp_path / "m.lepton"
    spec = WeightSpec("w", "f32", (3,))
    with pytest.raises(LeptonBug, match=message):
        write_artifact(path, Manifest((), (), (spec,)), LIBRARY, given)
    assert list(tmp_path.iterdir()) == []


def test_the_newest_libc_is_recorded(tmp_path: Path) -> None:
    path = tmp_path / "m.lepton"
    write_artifact(path, Manifest((), ()), b"GLIBC_2.4\0GLIBC_2.17\0GLIBC_2.9\0", [])
    with Artifact.open(path) as artifact:
        assert artifact.manifest.libc == "2.17"


def test_large_members_have_zip64_headers(tmp_path: Path) -> None:
    # Sizes only: a sparse file of five gigabytes whose directory zipfile has to understand.
    members = [Member("library.so", 100, 1), Member("weights.bin", 5 << 30, 2)]
    members.append(Member("manifest.json", 200, 3))
    comment = COMMENT + b"0" * 64
    place = layout(members, comment)
    path = tmp_path / "sparse.lepton"
    with path.open("wb") as file:
        file.truncate(place.size)
        for position, piece in place.pieces:
            file.seek(position)
            file.write(piece)
    assert path.stat().st_size == place.size
    assert all(offset % ALIGNMENT == 0 for offset in place.offsets)
    with zipfile.ZipFile(path) as archive:
        sizes = [(entry.filename, entry.file_size) for entry in archive.infolist()]
        assert sizes == [(member.name, member.size) for member in members]
        assert archive.comment == comment
    with path.open("rb") as file:
        data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    with data, memoryview(data) as view:
        assert read_comment(view) == comment
        entries = read_directory(view)
        offsets = tuple(data_offset(view, entry) for entry in entries)
    assert [(entry.name, entry.size) for entry in entries] == sizes
    assert offsets == place.offsets


def test_the_old_file_stays_while_a_new_one_is_written(tmp_path: Path) -> None:
    path = write(tmp_path / "m.lepton")
    before = path.read_bytes()

    def failing() -> Any:
        yield weights()[0]
        assert path.read_bytes() == before
        assert len(list(tmp_path.iterdir())) == 2
        raise RuntimeError("the model went away")

    with pytest.raises(RuntimeError, match="went away"):
        write_artifact(path, manifest(), LIBRARY, failing())
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_an_open_artefact_survives_its_replacement(tmp_path: Path) -> None:
    path = write(tmp_path / "m.lepton")
    with Artifact.open(path) as artifact:
        write(path, threads=1)
        path.unlink()
        assert artifact.weight(0).tobytes() == weights()[0].tobytes()
        artifact.save(path)
        assert Artifact.open(path).manifest == artifact.manifest


def test_concurrent_writers_leave_one_whole_file(tmp_path: Path) -> None:
    path = tmp_path / "m.lepton"
    write(path)
    stop = threading.Event()
    seen: set[int] = set()

    def read() -> None:
        while not stop.is_set():
            with Artifact.open(path) as artifact:
                seen.add(artifact.manifest.threads)

    def writer(threads: int) -> None:
        for _ in range(20):
            write(path, threads=threads)

    reader = threading.Thread(target=read)
    writers = [threading.Thread(target=writer, args=(number,)) for number in range(4)]
    for thread in (reader, *writers):
        thread.start()
    for thread in writers:
        thread.join()
    stop.set()
    reader.join()
    assert seen
    assert list(tmp_path.iterdir()) == [path]


def test_a_killed_writer_leaves_no_half_file(tmp_path: Path) -> None:
    path = tmp_path / "m.lepton"
    code = """
import sys, time
from leptonc.artifact import Manifest, WeightSpec
from leptonc.artifact_sums import Sums, digest_of
from leptonc.artifact_writer import write_artifact

def weights():
    yield bytes(1 << 20)
    print("half", flush=True)
    time.sleep(60)

specs = (WeightSpec("a", "u8", (1 << 20,)), WeightSpec("b", "u8", (1 << 20,)))
write_artifact(sys.argv[1], Manifest((), (), specs), b"", weights())
"""
    child = subprocess.Popen(
        [sys.executable, "-c", code, str(path)],
        env={**os.environ, "PYTHONPATH": str(ROOT / "compiler")},
        stdout=subprocess.PIPE,
    )
    with child:
        assert child.stdout is not None
        child.stdout.readline()
        (left,) = tmp_path.iterdir()
        write(path)
        os.utime(left, (0, 0))
        write(path)
        assert left.exists()  # its writer still lives
        child.send_signal(signal.SIGKILL)
        child.wait()
    os.utime(left, (0, 0))
    write(path)
    assert list(tmp_path.iterdir()) == [path]


def test_a_name_of_255_bytes_and_odd_characters_is_fine(tmp_path: Path) -> None:
    path = tmp_path / ("ü \n" + "x" * 244 + ".lepton")
    assert len(path.name.encode()) == 255
    write(path)
    Artifact.open(path).close()


def test_a_link_keeps_pointing_where_it_did(tmp_path: Path) -> None:
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    link = tmp_path / "m.lepton"
    link.symlink_to(folder / "real.lepton")
    write(link)
    assert link.is_symlink()
    assert sorted(path.name for path in folder.iterdir()) == ["real.lepton"]
    Artifact.open(link).close()


@pytest.mark.parametrize("place", ["folder", "missing/m.lepton", "fifo"])
def test_places_that_cannot_be_written_are_named(tmp_path: Path, place: str) -> None:
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(LeptonError, match=f"E611.*cannot write .*{place}"):
        write(tmp_path / place)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["fifo", "folder"]


def test_a_manifest_that_is_too_large_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(LeptonError, match=r"E611.*manifest takes"):
        write(tmp_path / "m.lepton", provenance={"text": "x" * (9 << 20)})
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_leaves_the_old_file(tmp_path: Path) -> None:
    # Every limit from nothing to enough: the old file is there, or the new one, never less.
    path = write(tmp_path / "m.lepton")
    old = path.read_bytes()
    new = write(tmp_path / "new.lepton", threads=9).read_bytes()
    (tmp_path / "new.lepton").unlink()
    code = """
import resource, signal, sys
sys.path.insert(0, sys.argv[2])
from pathlib import Path
from leptonc.ir.diagnostics import LeptonError
from tests.test_artifact import write

path = Path(sys.argv[1])
old, size = path.read_bytes(), int(sys.argv[3])
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
for limit in range(0, size + 1, 64):
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        write(path, threads=9)
    except LeptonError as error:
        assert error.code == "E611" and "bytes and" in error.message, error
        assert error.notes == ["what was there before is unchanged"]
        assert path.read_bytes() == old, limit
        assert [entry.name for entry in path.parent.iterdir()] == [path.name]
        assert limit < size, error
    else:
        assert limit >= size, limit
resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
write(path, threads=9)
"""
    done = subprocess.run(
        [sys.executable, "-c", code, str(path), str(ROOT), str(len(new))],
        env={**os.environ, "PYTHONPATH": str(ROOT / "compiler")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert old != new
    assert path.read_bytes() == new


@pytest.mark.parametrize("sizes", [(), (0,), (5, 0, 70), (3 << 20, 1, 5 << 20, 2 << 20)])
def test_sums_are_those_of_all_bytes_in_a_row(sizes: tuple[int, ...]) -> None:
    random = np.random.default_rng(0)
    pieces = [random.bytes(size) for size in sizes]
    with Sums() as sums:
        for piece in pieces:
            sums.add(memoryview(piece))
    whole = b"".join(pieces)
    assert sums.digest == hashlib.sha256(whole).hexdigest()


@pytest.mark.parametrize("sizes", [(), (0,), (64,), (10, 0, 54, 64), (1, 200, 3), (640,)])
def test_digests_of_pieces_are_those_however_bytes_come(
    sizes: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(artifact_sums, "PIECE", 64)
    whole = np.random.default_rng(0).bytes(sum(sizes))
    pieces = [whole[start : start + 64] for start in range(0, len(whole), 64)]
    expected = hashlib.sha256(b"".join(hashlib.sha256(piece).digest() for piece in pieces))
    assert digest_of(memoryview(whole), in_pieces=True) == expected.hexdigest()
    with Sums(in_pieces=True) as sums:
        for end, size in zip(np.cumsum(sizes), sizes, strict=True):
            sums.add(memoryview(whole)[end - size : end])
    assert sums.digest == expected.hexdigest()


def test_large_members_are_checked_in_pieces(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(artifact_sums, "PIECE", 64)
    path = write(tmp_path / "m.lepton")
    content = path.read_bytes()
    with Artifact.open(path) as artifact:
        assert artifact.manifest.in_pieces
        assert json.loads(artifact.manifest.to_json(ALIGNMENT))["format"] == 3
    start = content.index(LIBRARY)
    for at in range(start, start + len(LIBRARY), 7):
        path.write_bytes(content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :])
        with pytest.raises(LeptonError, match=r"the digest of library.so does not match"):
            Artifact.open(path)


def test_large_members_with_one_digest_still_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path / "m.lepton")
    monkeypatch.setattr(artifact_sums, "PIECE", 64)
    with Artifact.open(path) as artifact:
        assert not artifact.manifest.in_pieces


def test_no_thread_is_left_where_bytes_cannot_be_made() -> None:
    def fail() -> None:
        with Sums() as sums:
            sums.add(memoryview(bytes(10)))
            raise OSError("no such bytes")

    before = threading.active_count()
    with pytest.raises(OSError, match="no such bytes"):
        fail()
    assert threading.active_count() == before


@pytest.mark.parametrize(
    ("grows", "told"),
    [(("batch*seq", "seq"), True), (("batch*(floordiv(seq, 2))",), True), (("batch*count",), False),
     (("min(seq, count)",), False), ((), False)],
)  # fmt: skip
def test_extents_of_inputs_tell_the_memory_of_a_run_or_not(
    grows: tuple[str, ...], told: bool
) -> None:
    inputs = (TensorSpec("x", "f32", ("batch", "2*seq+1")),)
    plan = {"peak": 16} | {f"bytes for each {product}": 4 for product in grows}
    assert Manifest(inputs, (), plan=plan).is_told is told
