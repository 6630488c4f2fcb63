"""Errors show what they should, and every code has its line in the table."""

import pickle
from pathlib import Path

import pytest

from leptonc.ir.diagnostics import CODES, LeptonBug, LeptonError, shown
from leptonc.ir.location import UNKNOWN, Location

ROOT = Path(__file__).parents[2]
SOURCES = [
    path
    for folder in ("ir", "passes", "backends", "tools", "compiler/leptonc")
    for path in (ROOT / folder).rglob("*.py")
]


def test_an_error_shows_code_place_and_notes() -> None:
    error = LeptonError("x is 3, should be 4", Location(("Relu_7",)), ["try this"], "E701")
    assert str(error) == 'error[E701]: x is 3, should be 4\n  --> loc("Relu_7")\n  note: try this'


def test_an_error_without_a_place_shows_none() -> None:
    assert str(LeptonError("a sentence", code="E601")) == "error[E601]: a sentence"


def test_a_bug_is_no_user_error() -> None:
    assert not issubclass(LeptonBug, LeptonError)
    assert str(LeptonBug("b")) == "bug in leptonc[E900]: b"


@pytest.mark.parametrize("kind", [LeptonError, LeptonBug])
def test_errors_pass_between_processes(kind: type[LeptonError] | type[LeptonBug]) -> None:
    error = kind("m", Location(("n",), ("r",)), ["note"], "E604")
    copy = pickle.loads(pickle.dumps(error))
    assert (copy.message, copy.location, copy.notes, copy.code) == (
        "m", Location(("n",), ("r",)), ["note"], "E604",
    )  # fmt: skip
    assert type(copy) is kind


def test_every_code_is_used_and_explained_in_one_line() -> None:
    text = "\n".join(path.read_text() for path in SOURCES if path.name != "diagnostics.py")
    unused = [code for code in CODES if code not in ("E000", "E900") and f'"{code}"' not in text]
    assert not unused
    for meaning in CODES.values():
        assert meaning.isprintable()
        assert meaning[0].islower() or meaning.startswith("C ")
        assert not meaning.endswith(".")
    assert list(CODES) == sorted(CODES)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("plain", "'plain'"),
        ("it's", r"'it\'s'"),
        ("\x1b[2J\0", r"'\x1b[2J\x00'"),
        ("a\nb", r"'a\nb'"),
        ("größe", "'größe'"),
        ("../../etc/passwd", "'../../etc/passwd'"),
    ],
)
def test_names_are_escaped(name: str, text: str) -> None:
    assert shown(name) == text


@pytest.mark.parametrize("name", ["x" * 1_000_000, "\0" * 79, "'" * 500, "\\" * 500, "\u202e" * 90])
def test_names_are_shortened(name: str) -> None:
    text = shown(name)
    assert len(text) <= 2 * 80 + 2
    assert text.isprintable()
    assert text.endswith("...'")


def test_a_location_escapes_the_names_in_it() -> None:
    assert str(Location(('a"\n',), ("fold",))) == r'loc("a\"\n" via fold)'
    assert str(UNKNOWN) == "loc(unknown)"


def test_locations_fuse_in_order_without_repeats() -> None:
    parts = [Location(("a", "b"), ("r",)), Location(("b", "c"))]
    assert Location.fused(parts, by="s") == Location(("a", "b", "c"), ("r", "s"))
