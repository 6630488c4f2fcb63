"""Artefacts in files that have no name until they are saved."""

from __future__ import annotations

import errno
import os
import stat
import tempfile
from pathlib import Path
from typing import Any

import pytest

from leptonc.artifact import Artifact
from leptonc.artifact_writer import write_artifact
from leptonc.ir.diagnostics import LeptonError
from leptonc.unnamed import Unnamed
from tests.test_artifact import LIBRARY, manifest, weights, write


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where temporary files are, beside which artefacts are saved."""
    found = tmp_path / "temporary"
    found.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(found))
    return found


def written() -> Artifact:
    """An artefact in a file without a name."""
    unnamed = Unnamed()
    write_artifact(unnamed, manifest(), LIBRARY, weights())
    return Artifact.just_written(unnamed)


def named(tmp_path: Path) -> bytes:
    """The same artefact as it is written to a file that has a name."""
    return write(tmp_path / "named.lepton").read_bytes()


def test_it_is_the_same_file_as_with_a_name(folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "m.lepton"
    with written() as artifact:
        assert list(folder.iterdir()) == []
        assert artifact.weight(0).tobytes() == weights()[0].tobytes()
        assert artifact.save(path) == artifact.size
        assert artifact.weight(0).tobytes() == weights()[0].tobytes()
    assert path.read_bytes() == named(tmp_path)
    with Artifact.open(path) as opened:
        assert opened.manifest == artifact.manifest
        assert opened.digest == artifact.digest
    assert sorted(entry.name for entry in tmp_path.iterdir()) == [
        "m.lepton", "named.lepton", "temporary",
    ]  # fmt: skip


def test_the_first_name_is_the_files_own_and_others_are_copies(
    folder: Path, tmp_path: Path
) -> None:
    first, second = tmp_path / "first.lepton", tmp_path / "second.lepton"
    first.write_bytes(b"what was there before")
    with written() as artifact:
        inode = os.fstat(artifact._unnamed.descriptor).st_ino  # pyright: ignore
        artifact.save(first)
        artifact.save(second)
    assert first.stat().st_ino == inode != second.stat().st_ino
    assert first.read_bytes() == second.read_bytes() == named(tmp_path)
    assert list(folder.iterdir()) == []
    for path in (first, second):
        assert path.stat().st_nlink == 1
        assert stat.S_IMODE(path.stat().st_mode) == stat.S_IMODE(_plain(tmp_path).stat().st_mode)


def _plain(tmp_path: Path) -> Path:
    path = tmp_path / "plain"
    path.write_bytes(b"")
    return path


@pytest.mark.parametrize("call", ["link", "open"])
def test_it_is_copied_where_the_file_system_can_do_no_better(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    real = getattr(os, call)

    def refuse(*given: Any, **named: Any) -> Any:
        if call == "open" and given[1] & os.O_TMPFILE != os.O_TMPFILE:
            return real(*given, **named)
        raise OSError(errno.EXDEV if call == "link" else errno.EOPNOTSUPP, "not here")

    monkeypatch.setattr(os, call, refuse)
    path = tmp_path / "m.lepton"
    with written() as artifact:
        artifact.save(path)
    assert path.read_bytes() == named(tmp_path)
    assert list(folder.iterdir()) == []


def test_a_name_that_cannot_be_given_leaves_it_saveable(folder: Path, tmp_path: Path) -> None:
    with written() as artifact:
        with pytest.raises(LeptonError, match="E611"):
            artifact.save(tmp_path / "missing" / "m.lepton")
        (tmp_path / "folder").mkdir()
        with pytest.raises(LeptonError, match="it is a folder"):
            artifact.save(tmp_path / "folder")
        artifact.save(tmp_path / "m.lepton")
    assert (tmp_path / "m.lepton").read_bytes() == named(tmp_path)
    assert list(folder.iterdir()) == []


def test_what_is_not_saved_is_gone(folder: Path) -> None:
    artifact = written()
    descriptor = artifact._unnamed.descriptor  # pyright: ignore
    artifact.close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(descriptor)
    assert list(folder.iterdir()) == []
