"""What was measured is kept, found again where it holds, and merged by copying files."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from leptonc.tuning.database import Database, Record, TuningNotice, network_name, spelled

WHERE = {"model": "a processor", "cpu": {"lanes": 8, "features": ("avx2",)}, "versions": {"x": "1"}}
FAST = Record("k_1", "rows=4", seconds=0.5, against=1.0, noise=0.01, operations="linear")
FASTER = Record("k_1", "rows=5", seconds=0.4, against=1.0, noise=0.01)
SLOW = Record("k_1", "rows=6", seconds=1.2, against=1.0, noise=0.01)
STRUCK = Record("k_2", "rows=4", "the run failed, ended by SIGSEGV")


def test_records_are_found_again(tmp_path: Path) -> None:
    database = Database.open(tmp_path / "measured", WHERE)
    for record in (FAST, STRUCK):
        database.put(record)
    again = Database.open(tmp_path / "measured", WHERE)
    assert sorted(again.records.values(), key=str) == sorted((FAST, STRUCK), key=str)
    assert again.has("k_1", "rows=4")
    assert not again.has("k_1", "rows=5")
    assert not [path for path in (tmp_path / "measured").iterdir() if path.suffix != ".json"]


@pytest.mark.parametrize("key", ["model", "cpu", "versions"])
def test_other_circumstances_have_other_records(tmp_path: Path, key: str) -> None:
    Database.open(tmp_path, WHERE).put(FAST)
    other = Database.open(tmp_path, {**WHERE, key: "another"})
    assert other.records == {}
    other.put(SLOW)
    assert set(Database.open(tmp_path, WHERE).records.values()) == {FAST}


def test_a_later_measurement_takes_the_place_of_an_earlier_one(tmp_path: Path) -> None:
    database = Database.open(tmp_path, WHERE)
    database.put(FAST)
    later = Record("k_1", "rows=4", seconds=0.9, against=1.0)
    database.put(later)
    assert list(Database.open(tmp_path, WHERE).records.values()) == [later]


def test_copied_files_are_merged(tmp_path: Path) -> None:
    Database.open(tmp_path / "a", WHERE).put(FAST)
    second = Database.open(tmp_path / "b", WHERE)
    second.put(FASTER)
    second.put(STRUCK)
    shutil.copytree(tmp_path / "a", tmp_path / "b", dirs_exist_ok=True)
    merged = Database.open(tmp_path / "b", WHERE)
    assert set(merged.records.values()) == {FAST, FASTER, STRUCK}
    assert merged.decisions(["k_1", "k_2", "k_3"]) == {"k_1": "rows=5"}


def _valid() -> dict[str, object]:
    return {
        "format": 1, "where": json.loads(json.dumps(WHERE)),
        "record": {
            "workload": "k", "decision": "rows=1", "outcome": "measured", "operations": "",
            "seconds": 1.0, "against": 2.0, "noise": 0.0,
        },
    }  # fmt: skip


@pytest.mark.parametrize(
    "text",
    [
        "", "{", "[]", "[" * 100_000, "null", "\xff", json.dumps({"format": 1}),
        json.dumps({**_valid(), "record": {"workload": "k"}}),
        json.dumps(_valid()).replace('"seconds": 1.0', '"seconds": -1.0'),
        json.dumps(_valid()).replace('"seconds": 1.0', '"seconds": NaN'),
        json.dumps(_valid()).replace('"seconds": 1.0', '"seconds": "x"'),
        json.dumps(_valid()).replace('"workload": "k"', '"workload": 7'),
        json.dumps(_valid()).replace('"noise": 0.0', '"noise": 0.0, "more": 1'),
        json.dumps(_valid()) + " " * (1 << 20),
    ],
)  # fmt: skip
def test_damaged_files_are_left_out_with_a_notice(tmp_path: Path, text: str) -> None:
    Database.open(tmp_path, WHERE).put(FAST)
    (tmp_path / "0.json").write_text(text, encoding="latin-1")
    with pytest.warns(TuningNotice, match="cannot be read and was left out"):
        database = Database.open(tmp_path, WHERE)
    assert list(database.records.values()) == [FAST]


def test_the_damage_of_those_tests_is_all_that_is_wrong(tmp_path: Path) -> None:
    (tmp_path / "0.json").write_text(json.dumps(_valid()))
    assert Database.open(tmp_path, WHERE).records["k", "rows=1"].gain == 0.5


def test_a_newer_format_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "0.json").write_text(json.dumps({**_valid(), "format": 2}))
    assert Database.open(tmp_path, WHERE).records == {}


def test_a_folder_that_cannot_be_written_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    database = Database.open(tmp_path / "file", WHERE)
    with pytest.warns(TuningNotice, match="not kept"):
        database.put(FAST)
    assert database.has("k_1", "rows=4")


def test_what_wins_saves_more_than_the_noise() -> None:
    assert FAST.wins()
    assert not SLOW.wins()
    assert not STRUCK.wins()
    assert not Record("k", "rows=1", seconds=0.98, against=1.0).wins()
    assert not Record("k", "rows=1", seconds=0.9, against=1.0, noise=0.2).wins()
    assert not Record("k", "rows=1").wins()


def test_decisions_that_lost_as_a_whole_are_not_taken() -> None:
    database = Database(None, WHERE)
    for record in (FAST, FASTER, SLOW):
        database.put(record)
    best = {"k_1": "rows=5"}
    assert database.decisions(["k_1", "k_2"]) == best
    name = network_name(["k_2", "k_1"])
    database.put(Record(name, spelled(best), seconds=1.0, against=1.0))
    assert database.decisions(["k_1", "k_2"]) == {}
    assert database.decisions(["k_1"]) == best
    some = {"k_1": "rows=4", "k_2": "rows=1 band=2"}
    database.put(Record(name, spelled(some), seconds=0.9, against=1.0))
    assert database.decisions(["k_1", "k_2"]) == some
