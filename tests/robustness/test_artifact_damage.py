"""No artefact that differs from what was written gets past the door, whatever was done to it."""

from __future__ import annotations

import copy
import functools
import hashlib
import io
import json
import operator
import os
import pickle
import random
import stat
import struct
import warnings
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leptonc.artifact import (
    FORMAT,
    Artifact,
    Manifest,
    TargetSpec,
    TensorSpec,
    WeightSpec,
)
from leptonc.artifact_writer import write_artifact
from leptonc.container import COMMENT, END_LENGTH, Member, layout
from leptonc.ir.diagnostics import LeptonError
from leptonc.runtime import load

LIBRARY = b"\x7fELF" + bytes(range(256)) * 20
WEIGHT = bytes(range(100))
Document = dict[str, Any]


def write(path: Path, **changes: Any) -> Path:
    plain: Document = {
        "inputs": (TensorSpec("x", "f32", ("n", 4)),),
        "outputs": (TensorSpec("y", "f32", ("2*n+1", 4)),),
        "weights": (WeightSpec("w", "u8", (100,)),),
        "target": TargetSpec("cpu", os.uname().machine, ()),
    }
    write_artifact(path, Manifest(**{**plain, **changes}), LIBRARY, [WEIGHT])
    return path


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return write(tmp_path_factory.mktemp("whole") / "m.lepton").read_bytes()


def refused(path: Path, content: bytes) -> LeptonError:
    """The error for a file of these bytes; anything but a LeptonError is a failure."""
    path.write_bytes(content)
    with pytest.raises(LeptonError) as caught:
        Artifact.open(path)
    assert "E601" < caught.value.code <= "E610"
    return caught.value


def refusals(path: Path, variants: list[bytes]) -> set[str]:
    """The codes of the errors for many files."""
    return {refused(path, content).code for content in variants}


def flipped(content: bytes, bit: int) -> bytes:
    damaged = bytearray(content)
    damaged[bit // 8] ^= 1 << bit % 8
    return bytes(damaged)


def test_the_file_itself_opens(tmp_path: Path, whole: bytes) -> None:
    (tmp_path / "m.lepton").write_bytes(whole)
    Artifact.open(tmp_path / "m.lepton").close()


def test_no_flipped_bit_opens(tmp_path: Path, whole: bytes) -> None:
    bits = random.Random(0).sample(range(8 * len(whole)), 600)
    headers = len(whole) - 600, len(whole)  # the directory and the end, bit by bit
    bits += range(0, 8 * 128, 5)
    bits += range(8 * headers[0], 8 * headers[1], 11)
    codes = refusals(tmp_path / "m.lepton", [flipped(whole, bit) for bit in bits])
    assert codes == {"E604", "E605", "E609"}


def test_no_truncated_file_opens(tmp_path: Path, whole: bytes) -> None:
    lengths = random.Random(1).sample(range(len(whole)), 300)
    lengths += [0, 1, 21, 22, len(whole) - 1, len(whole) - END_LENGTH, 64, 4096]
    codes = refusals(tmp_path / "m.lepton", [whole[:length] for length in lengths])
    assert codes == {"E602", "E603", "E604"}


def test_a_truncated_file_says_where_it_ends(tmp_path: Path, whole: bytes) -> None:
    error = refused(tmp_path / "m.lepton", whole[:5000])
    assert error.code == "E604"
    assert "truncated or damaged at its end, at byte 5000" in error.message


def test_bytes_around_the_file_are_seen(tmp_path: Path, whole: bytes) -> None:
    path = tmp_path / "m.lepton"
    assert "has 7 bytes after its end" in refused(path, whole + b"trailer").message
    assert "bytes in front of its start" in refused(path, b"#!/bin/sh\n" + whole).message
    assert refused(path, whole + whole).code in ("E604", "E609")
    assert refused(path, whole[:-5] + whole[-5:] + bytes(1)).code == "E604"


def test_no_exchanged_bytes_open(tmp_path: Path, whole: bytes) -> None:
    choice = random.Random(2)
    variants: list[bytes] = []
    for _ in range(300):
        start, length = choice.randrange(len(whole)), choice.choice([1, 2, 8, 64, 500])
        middle = choice.choice([bytes(length), choice.randbytes(length), b"", whole[:length]])
        damaged = whole[:start] + middle + whole[start + length :]
        if damaged != whole:
            variants.append(damaged)
    refusals(tmp_path / "m.lepton", variants)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\x89PNG\r\n\x1a\n", "a PNG image"),
        (pickle.dumps([1, 2]), "a Python pickle"),
        (b"\x7fELF\2\1\1", "an ELF library or program"),
        (b"\x08\x0a\x12\x07pytorch", "an ONNX model: compile it"),
        (b"graph @main() -> () {}", "textual IR of leptonc"),
        (b'{"a": 1}', "JSON text"),
        (b"some words", "text"),
        (bytes([200, 1, 0, 3]), "unknown binary data"),
        (b"\x93NUMPY\x01\0", "a numpy array"),
    ],
)
def test_a_foreign_file_is_called_what_it_is(tmp_path: Path, content: bytes, message: str) -> None:
    error = refused(tmp_path / "m.lepton", content)
    assert error.code == "E603"
    assert message in error.message


def test_a_pickle_is_never_read(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[Callable[..., Any], tuple[str]]:
            return os.mkdir, (str(tmp_path / "sprung"),)

    refused(tmp_path / "m.lepton", pickle.dumps(Trap()))
    assert not (tmp_path / "sprung").exists()


@given(st.binary(max_size=400))
def test_random_bytes_are_refused(content: bytes) -> None:
    path = Path("/dev/shm" if os.path.isdir("/dev/shm") else "/tmp", f"leptonc-{os.getpid()}.bin")
    try:
        refused(path, content)
    finally:
        path.unlink()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("missing", "no such file or directory"),
        ("folder", "it is a folder"),
        ("fifo", "it is not a regular file"),
        ("nul\0byte", "embedded null byte"),
    ],
)
def test_what_cannot_be_read_is_said(tmp_path: Path, name: str, message: str) -> None:
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(LeptonError, match=f"E601.*{message}"):
        Artifact.open(f"{tmp_path}/{name}")


def parts_of(whole: bytes) -> tuple[Document, bytes]:
    """The manifest and the weights of an artefact, by an independent reader of zip files."""
    with zipfile.ZipFile(io.BytesIO(whole)) as archive:
        return json.loads(archive.read("manifest.json")), archive.read("weights.bin")


def forged(document: Document | bytes, library: bytes, weights: bytes) -> bytes:
    """A file whose digests are all right, for a manifest that need not be."""
    text = document
    if isinstance(text, dict):
        contents = {"library.so": library, "weights.bin": weights}
        text = {**text, "parts": [described(name, contents[name]) for name in contents]}
        text = json.dumps(text, sort_keys=True, separators=(",", ":")).encode()
    names = ("library.so", "weights.bin", "manifest.json")
    members = [
        Member(name, len(content), zlib.crc32(content))
        for name, content in zip(names, (library, weights, text), strict=True)
    ]
    place = layout(members, COMMENT + hashlib.sha256(text).hexdigest().encode())
    result = bytearray(place.size)
    for position, content in (
        *place.pieces,
        *zip(place.offsets, (library, weights, text), strict=True),
    ):
        result[position : position + len(content)] = content
    return bytes(result)


def described(name: str, content: bytes) -> Document:
    digest = hashlib.sha256(content).hexdigest()
    return {"name": name, "size": len(content), "crc32": zlib.crc32(content), "sha256": digest}


def test_the_forger_of_these_tests_can_forge(tmp_path: Path, whole: bytes) -> None:
    document, weights = parts_of(whole)
    assert forged(document, LIBRARY, weights) == whole


def test_the_digest_of_another_file_is_seen(tmp_path: Path, whole: bytes) -> None:
    start = whole.index(LIBRARY)
    error = refused(
        tmp_path / "m.lepton", whole[:start] + bytes(len(LIBRARY)) + whole[start + len(LIBRARY) :]
    )
    assert error.code == "E605"
    assert "the digest of library.so does not match" in error.message


def test_a_newer_format_is_named_with_its_writer(tmp_path: Path, whole: bytes) -> None:
    document, weights = parts_of(whole)
    newer = {**document, "format": FORMAT + 1, "leptonc": "9.8.7", "unheard": {"of": 1}}
    error = refused(tmp_path / "m.lepton", forged(newer, LIBRARY, weights))
    assert error.code == "E606"
    assert f"format {FORMAT + 1}, this leptonc reads up to format {FORMAT}" in error.message
    assert "'9.8.7'" in error.notes[0]


def changes() -> list[tuple[str, Callable[[Document], object]]]:
    """Manifests that are wrong in one place."""
    wrong: list[tuple[str, Callable[[Document], object]]] = [
        ("no format", lambda d: d.pop("format")),
        ("format zero", lambda d: d.update(format=0)),
        ("format text", lambda d: d.update(format="1")),
        ("format true", lambda d: d.update(format=True)),
        ("unknown entry", lambda d: d.update(extra=1)),
        ("inputs object", lambda d: d.update(inputs={})),
        ("inputs of text", lambda d: d.update(inputs=["x"])),
        ("same input twice", lambda d: d.update(inputs=d["inputs"] * 2)),
        ("same output twice", lambda d: d.update(outputs=d["outputs"] * 2)),
        ("no target", lambda d: d.pop("target")),
        ("target text", lambda d: d.update(target="cpu")),
        ("features number", lambda d: d["target"].update(features=[1])),
        ("threads negative", lambda d: d.update(threads=-1)),
        ("threads float", lambda d: d.update(threads=1.5)),
        ("plan text", lambda d: d.update(plan={"peak": "1"})),
        ("libc odd", lambda d: d.update(libc="2.x")),
        ("weights gone", lambda d: d.update(weights=[])),
        ("weight size", lambda d: d["weights"][0].update(bytes=99)),
        ("weight offset", lambda d: d["weights"][0].update(offset=64)),
        ("weight shape", lambda d: d["weights"][0].update(shape=[10**30])),
        ("weight of 65 axes", lambda d: d["weights"][0].update(shape=[1] * 64 + [100])),
        ("input of 65 axes", lambda d: d["inputs"][0].update(shape=[1] * 65)),
        ("weight negative", lambda d: d["weights"][0].update(shape=[-1])),
        ("weight symbolic", lambda d: d["weights"][0].update(shape=["n"])),
        ("weight larger", lambda d: d["weights"][0].update(shape=[1 << 40], bytes=1 << 40)),
    ]
    table = {"input": "x", "function": "upper", "counts": "", "delimiter": "", "maxsplit": -1}
    odd_text: list[tuple[str, Callable[[Document], object]]] = [
        ("weight text", lambda d: d["weights"][0].update(dtype="str")),
        ("words number", lambda d: d.update(words=[1])),
        ("table of no input", lambda d: d.update(tables=[{**table, "input": "nothing"}])),
        ("table of a type", lambda d: d.update(tables=[table])),
        ("table unknown", lambda d: d.update(tables=[{**table, "function": "eval"}])),
    ]
    wrong += odd_text
    for value in ("f33", 5, None):
        wrong.append((f"dtype {value}", lambda d, v=value: d["inputs"][0].update(dtype=v)))
    odd_dims: list[Any] = ["", "n+", "n n", "__import__('os')", "1//0", "n" * 9999, -1, 1 << 63]
    odd_dims += [1.0, None, "(" * 400, "-" * 400, "min(n)"]
    for value in odd_dims:
        name = f"dim {str(value)[:20]}"
        wrong.append((name, lambda d, v=value: d["inputs"][0].update(shape=[v])))
    return wrong


@pytest.mark.parametrize(("name", "change"), changes(), ids=[name for name, _ in changes()])
def test_a_wrong_manifest_with_right_digests_is_refused(
    tmp_path: Path, whole: bytes, name: str, change: Callable[[Document], object]
) -> None:
    document, weights = parts_of(whole)
    change(document)
    error = refused(tmp_path / "m.lepton", forged(document, LIBRARY, weights))
    assert error.code in ("E609", "E610")
    assert len(str(error)) < 2000


@pytest.mark.parametrize(
    "text",
    [
        b"", b"null", b"[]", b"{", b'{"format":NaN}', b'{"format":1,"format":1}', b"\xff\xfe",
        b"[" * 100_000, b'{"format":' + b"9" * 5000 + b"}",
    ],
    ids=range(9),
)  # fmt: skip
def test_a_manifest_that_is_no_object_is_refused(tmp_path: Path, whole: bytes, text: bytes) -> None:
    _, weights = parts_of(whole)
    error = refused(tmp_path / "m.lepton", forged(text, LIBRARY, weights))
    assert error.code in ("E609", "E610")


ODD: list[Any] = [None, True, -1, 1.5, "", "x\0", "-", [], {}, [[]], [None], {"": 0}, 10**400]


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The way to every value in a document."""
    if path:
        yield path
    if isinstance(value, dict | list):
        entries = cast("Iterable[Any]", value.items() if isinstance(value, dict) else value)
        for key, inner in entries if isinstance(value, dict) else enumerate(entries):
            yield from places(inner, (*path, key))


def test_odd_values_in_every_place_of_a_manifest_are_errors_or_right(
    tmp_path: Path, whole: bytes
) -> None:
    document, weights = parts_of(whole)
    path = tmp_path / "m.lepton"
    opened, codes = 0, set[str]()
    for *way, last in places(document):
        for odd in ODD:
            changed = copy.deepcopy(document)
            functools.reduce(operator.getitem, way, changed)[last] = odd
            text = json.dumps(changed, sort_keys=True, separators=(",", ":")).encode()
            path.write_bytes(forged(text, LIBRARY, weights))
            try:
                Artifact.open(path).close()
                opened += 1
            except LeptonError as error:
                codes.add(error.code)
    assert 0 < opened < 100  # such as another name, or no provenance
    assert codes == {"E609", "E610"}


def zipped(whole: bytes, rewrite: Callable[[zipfile.ZipFile, dict[str, bytes]], None]) -> bytes:
    """The members of an artefact written by another tool, with the right comment."""
    with zipfile.ZipFile(io.BytesIO(whole)) as archive:
        contents = {name: archive.read(name) for name in archive.namelist()}
        comment = archive.comment
    target = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of duplicate names
        with zipfile.ZipFile(target, "w") as archive:
            rewrite(archive, contents)
            archive.comment = comment
    return target.getvalue()


def put(archive: zipfile.ZipFile, contents: dict[str, bytes]) -> None:
    for name, content in contents.items():
        archive.writestr(name, content)


def with_link(archive: zipfile.ZipFile, contents: dict[str, bytes]) -> None:
    put(archive, {name: contents[name] for name in ("library.so", "manifest.json")})
    link = zipfile.ZipInfo("weights.bin")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    archive.writestr(link, b"/etc/passwd")


def compressed(archive: zipfile.ZipFile, contents: dict[str, bytes]) -> None:
    for name, content in contents.items():
        method = zipfile.ZIP_DEFLATED if name == "weights.bin" else zipfile.ZIP_STORED
        archive.writestr(name, content, method)


TRICKS: dict[str, tuple[Callable[[zipfile.ZipFile, dict[str, bytes]], None], str]] = {
    "another tool": (put, "E609"),
    "duplicate": (lambda a, c: (put(a, c), put(a, {"weights.bin": b""}))[0], "is there twice"),
    "two manifests": (lambda a, c: (put(a, c), put(a, c))[0], "holds 2 manifests"),
    "parent": (lambda a, c: put(a, {**c, "../../evil.so": b"x"}), "does not belong there"),
    "absolute": (lambda a, c: put(a, {"/etc/cron.d/x": b"x", **c}), "does not belong there"),
    "extra": (lambda a, c: put(a, {**c, "readme.txt": b"x"}), "does not belong there"),
    "missing": (lambda a, c: (c.pop("weights.bin"), put(a, c))[1], "it lacks weights.bin"),
    "no manifest": (lambda a, c: (c.pop("manifest.json"), put(a, c))[1], "holds 0 manifests"),
    "reordered": (lambda a, c: put(a, dict(reversed(c.items()))), "out of order"),
    "compressed": (compressed, "is compressed"),
    "link": (with_link, "is a symbolic link"),
    "many": (lambda a, c: put(a, {**c, **{str(n): b"" for n in range(99)}}), "holds 102 members"),
}


@pytest.mark.parametrize("trick", list(TRICKS))
def test_tricks_of_zip_files_are_refused(tmp_path: Path, whole: bytes, trick: str) -> None:
    rewrite, message = TRICKS[trick]
    assert message in str(refused(tmp_path / "m.lepton", zipped(whole, rewrite)))


@pytest.mark.parametrize(
    ("offset", "value"),
    [
        (24, 0xFFFFFFFF),  # the size of the manifest, in the last line of the directory
        (24, 9 << 20),
        (20, 0xFFFFFFFE),
        (42, 0),  # its place: over the library
        (42, 0xFFFFFFFF),
        (42, 0xFFFFFF00),
        (10, 8),  # its method
    ],
)
def test_lies_in_the_directory_are_refused(
    tmp_path: Path, whole: bytes, offset: int, value: int
) -> None:
    line = whole.rindex(b"PK\x01\x02") + offset
    width = "<H" if offset == 10 else "<I"
    field = struct.pack(width, value)
    error = refused(tmp_path / "m.lepton", whole[:line] + field + whole[line + len(field) :])
    assert error.code in ("E605", "E609")


@pytest.mark.parametrize("offset", [8, 10, 12, 16, 20])
@pytest.mark.parametrize("value", [0, 1, 0xFFFF, 0xFFFFFFFF])
def test_lies_at_the_end_are_refused(tmp_path: Path, whole: bytes, offset: int, value: int) -> None:
    end = len(whole) - END_LENGTH + offset
    field = struct.pack("<I" if offset >= 12 else "<H", value & (-1 if offset >= 12 else 0xFFFF))
    refused(tmp_path / "m.lepton", whole[:end] + field + whole[end + len(field) :])


@pytest.mark.parametrize(
    ("target", "code", "message"),
    [
        (TargetSpec("cuda", os.uname().machine), "E607", "was compiled for 'cuda'"),
        (TargetSpec("cpu", "vax"), "E607", f"for 'vax', this machine is {os.uname().machine}"),
        (
            TargetSpec("cpu", os.uname().machine, ("avx1024", "quantum")),
            "E608",
            "this processor lacks 'avx1024', 'quantum'",
        ),
        (TargetSpec("cpu", os.uname().machine), "E613", "does not load"),
    ],
)
def test_the_wrong_machine_is_refused_before_any_code_is_loaded(
    tmp_path: Path, target: TargetSpec, code: str, message: str
) -> None:
    path = write(tmp_path / "m.lepton", target=target)
    with Artifact.open(path) as artifact:  # looking at it is fine anywhere
        assert artifact.manifest.target.arch == target.arch
    with pytest.raises(LeptonError) as caught:
        load(path)
    assert caught.value.code == code
    assert message in caught.value.message


def test_a_library_for_a_newer_libc_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "m.lepton"
    target = TargetSpec("cpu", os.uname().machine)
    write_artifact(path, Manifest((), (), target=target), b"GLIBC_9.99", [])
    with pytest.raises(LeptonError, match=r"E612.*needs glibc 9\.99, this machine has"):
        load(path)
