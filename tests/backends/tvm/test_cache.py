"""The cache gives back what was put in, or nothing; it never fails and never lies."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from leptonc.backends.tvm.cache import Cache, code_digest, default_cache_folder


def entries(folder: Path) -> list[Path]:
    """The files of a cache."""
    return [path for path in folder.rglob("*") if path.is_file()]


def test_what_was_put_is_found_under_its_whole_key(tmp_path: Path) -> None:
    """Another key or another version of leptonc finds nothing."""
    Cache(tmp_path, "1").put("key", b"data")
    assert Cache(tmp_path, "1").get("key") == b"data"
    assert Cache(tmp_path, "1").get("key2") is None
    assert Cache(tmp_path, "2").get("key") is None


@pytest.mark.parametrize("damage", ["flip", "cut", "empty", "other"])
def test_a_damaged_entry_is_left_out(tmp_path: Path, damage: str) -> None:
    """Flipped bits, truncation and an entry of another key are told as a warning and not used."""
    cache = Cache(tmp_path)
    cache.put("key", b"data" * 100)
    (path,) = entries(tmp_path)
    content = bytearray(path.read_bytes())
    if damage == "flip":
        content[-5] ^= 1
    elif damage == "cut":
        content = content[:-7]
    elif damage == "empty":
        content = bytearray()
    else:
        Cache(tmp_path).put("another", b"lies")
        content = bytearray(next(p for p in entries(tmp_path) if p != path).read_bytes())
    path.write_bytes(content)
    assert cache.get("key") is None
    assert "damaged" in cache.warnings[0]


def test_a_cache_that_cannot_be_written_is_a_warning(tmp_path: Path) -> None:
    """A full disk or a folder that is gone makes a build slower, not fail."""
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")
    cache = Cache(blocked)
    cache.put("key", b"data")
    assert cache.get("key") is None
    assert any("nothing was cached" in warning for warning in cache.warnings)


def test_a_full_disk_leaves_the_old_entry(tmp_path: Path) -> None:
    """A write that is cut short never replaces what was there."""
    Cache(tmp_path).put("key", b"old")
    script = (
        "import resource, signal, sys; from pathlib import Path\n"
        "from leptonc.backends.tvm.cache import Cache\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "cache = Cache(Path(sys.argv[1])); cache.put('key', b'x' * 5000)\n"
        "assert cache.warnings, 'the write went through'\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)], check=True, env=environment, timeout=60
    )
    assert Cache(tmp_path).get("key") == b"old"
    assert len(entries(tmp_path)) == 1


def test_writers_do_not_meet(tmp_path: Path) -> None:
    """Several processes that write one key leave one whole entry."""
    script = (
        "import sys; from pathlib import Path\n"
        "from leptonc.backends.tvm.cache import Cache\n"
        "cache = Cache(Path(sys.argv[1]))\n"
        "for n in range(40):\n"
        "    cache.put('key', bytes([int(sys.argv[2])]) * 20_000)\n"
        "    data = cache.get('key')\n"
        "    assert data is not None and len(set(data)) == 1 and len(data) == 20_000\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    writers = [
        subprocess.Popen([sys.executable, "-c", script, str(tmp_path), str(n)], env=environment)
        for n in range(3)
    ]
    assert [writer.wait(timeout=120) for writer in writers] == [0, 0, 0]
    assert len(entries(tmp_path)) == 1


def test_the_longest_unused_go_first(tmp_path: Path) -> None:
    """Past its limit a cache keeps what was used last."""
    cache = Cache(tmp_path, limit_bytes=3_500)
    for n in range(5):
        cache.put(str(n), bytes(1_000))
    times = {str(n): 1_000_000 + n for n in range(5)}
    times["0"] = 2_000_000
    for key, time in times.items():
        os.utime(cache._path(key), (time, time))  # pyright: ignore[reportPrivateUsage]
    cache.trim()
    assert [key for key in times if cache.get(key) is not None] == ["0", "3", "4"]


def test_no_folder_keeps_nothing() -> None:
    """A machine without a writable folder compiles all the same."""
    cache = Cache(None)
    cache.put("key", b"data")
    assert cache.get("key") is None
    assert cache.warnings == []
    cache.trim()


def test_the_folder_is_found_without_a_home(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A home that cannot be written falls back to a folder for temporary files."""
    monkeypatch.delenv("LEPTONC_CACHE", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "file" / "nowhere"))
    (tmp_path / "file").write_text("")
    monkeypatch.setattr("tempfile.gettempdir", lambda: str(tmp_path))
    assert default_cache_folder() == tmp_path / f"leptonc-{os.getuid()}"
    monkeypatch.setenv("LEPTONC_CACHE", str(tmp_path / "chosen"))
    assert default_cache_folder() == tmp_path / "chosen"


def test_code_has_one_digest() -> None:
    """The digest of the code generator is the same each time it is asked for."""
    assert code_digest() == code_digest()
    assert len(code_digest()) == 32


def test_a_folder_that_does_not_exist_is_made(tmp_path: Path) -> None:
    cache = Cache(tmp_path / "not" / "yet")
    cache.put("key", b"data")
    assert Cache(tmp_path / "not" / "yet").get("key") == b"data"
    assert not cache.warnings
