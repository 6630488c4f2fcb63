"""A model with everything wrong gets everything told in one go, each fault with its place."""

from __future__ import annotations

import json
import random
import warnings
from collections import Counter
from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from leptonc import compile as compile_model
from leptonc.check import check_model
from leptonc.cli.main import main as command
from leptonc.ir.diagnostics import LeptonError
from leptonc.onnx_faults import MOST_LINES
from leptonc.onnx_import import ImportNotice, import_model
from tests.robustness.faults import FAULTS, build
from tests.robustness.models import model, node, untyped, value

ALL = frozenset(FAULTS)


def faults_of(path: Path) -> list[LeptonError]:
    """Everything that importing a model tells, one by one."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ImportNotice)
        try:
            import_model(path)
        except LeptonError as error:
            return list(error.faults)
    return []


def names_of(errors: Collection[LeptonError]) -> Counter[str]:
    """Which faults of the table these are; one that is none of them is told as it is."""
    found: list[str] = []
    for error in errors:
        places = " ".join(error.location.nodes)
        fits = [
            name
            for name, fault in FAULTS.items()
            if error.code == fault.code
            and (places == fault.where or (fault.where in error.message and not places))
        ]
        found.append(fits[0] if len(fits) == 1 else f"{fits} for {error}")
    return Counter(found)


def test_the_whole_model_has_no_fault(tmp_path: Path) -> None:
    assert len(FAULTS) >= 30
    assert faults_of(build(tmp_path, ())) == []


def test_all_faults_are_told_at_once_with_code_and_place(tmp_path: Path) -> None:
    assert names_of(faults_of(build(tmp_path, ALL))) == Counter(ALL)


@pytest.mark.parametrize("repaired", FAULTS)
def test_repairing_one_fault_takes_away_its_report_and_no_other(
    tmp_path: Path, repaired: str
) -> None:
    assert names_of(faults_of(build(tmp_path, ALL - {repaired}))) == Counter(ALL - {repaired})


@pytest.mark.parametrize("only", FAULTS)
def test_a_fault_alone_is_told_alone(tmp_path: Path, only: str) -> None:
    assert names_of(faults_of(build(tmp_path, {only}))) == Counter([only])


@pytest.mark.parametrize("seed", range(20))
def test_any_set_of_faults_is_told_whole(tmp_path: Path, seed: int) -> None:
    dice = random.Random(seed)
    chosen = {name for name in FAULTS if dice.random() < 0.5}
    assert names_of(faults_of(build(tmp_path, chosen))) == Counter(chosen)


def test_faults_are_told_in_the_order_of_the_model(tmp_path: Path) -> None:
    names = [*names_of(faults_of(build(tmp_path, ALL)))]
    of_nodes = [name for name in FAULTS if name in names and FAULTS[name].where == name]
    assert [name for name in names if name in of_nodes] == of_nodes
    places = [index for index, name in enumerate(names) if name in of_nodes]
    assert names.index("input twice") < names.index("raw data") < min(places)
    assert max(places) < names.index("output twice") < names.index("declared output")


def test_check_compile_and_the_command_line_tell_all(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = build(tmp_path, ALL)
    report = check_model(path, lambda _: "")
    assert names_of(report.faults) == Counter(ALL)
    with pytest.raises(LeptonError, match=f"the model has {len(ALL)} problems") as caught:
        compile_model(path, output=tmp_path / "m.lepton")
    assert names_of(caught.value.faults) == Counter(ALL)
    assert not (tmp_path / "m.lepton").exists()
    for arguments in (["check", str(path)], ["compile", str(path)]):
        with pytest.raises(SystemExit) as end:
            command([*arguments, "--json"])
        assert end.value.code == 1
        found = json.loads(capsys.readouterr().out)["faults"]
        assert Counter(item["code"] for item in found) == Counter(f.code for f in FAULTS.values())
        with pytest.raises(SystemExit):
            command(arguments)
        told = "".join(capsys.readouterr())
        for name, fault in FAULTS.items():
            assert name in told or fault.where in told, name


def test_the_whole_model_compiles_and_runs(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ImportNotice)
        session = compile_model(build(tmp_path, ()), isolated=False)
    with session:
        feeds: dict[str, Any] = {}
        for spec in session.signature.inputs:
            dtype = np.bool_ if spec.dtype == "bool" else np.float32
            feeds[spec.name] = np.zeros([int(dim) for dim in spec.shape], dtype)
        feeds["x"] = np.array([[1, -2, 3], [-4, 5, -6]], np.float32)
        found = session.run(feeds)
    assert found["y of unknown operator"].tolist() == [[1, 0, 3], [0, 5, 0]]
    assert found["y of external above"].tolist() == [[2, 0, 6], [-3, 7, -3]]


def test_very_many_faults_of_a_kind_are_cut_short(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    count = MOST_LINES + 12
    nodes = [node("Relu", (f"nothing {n}",), (f"r{n}",), name=f"node {n}") for n in range(count)]
    path = tmp_path / "m.onnx"
    path.write_bytes(model(nodes, outputs=[untyped("r0")]).SerializeToString())
    with pytest.raises(LeptonError) as caught:
        import_model(path)
    assert len(caught.value.faults) == count
    assert str(caught.value).endswith("and 12 more of E014; leptonc check --verbose lists them all")
    for arguments, lines in (
        (["check", str(path)], MOST_LINES),
        (["check", str(path), "--verbose"], count),
    ):
        with pytest.raises(SystemExit):
            command(arguments)
        told = capsys.readouterr().out
        assert told.count("nothing defines") == lines
        assert ("and 12 more of E014" in told) == (lines < count)
        assert told.endswith(f"the model has {count} problems\n"), "the count comes last"


def test_a_model_without_outputs() -> None:
    with pytest.raises(LeptonError, match="the model has no outputs"):
        import_model(model([node("Relu")], outputs=[]))


def test_a_model_without_versions_is_looked_at_all_the_same() -> None:
    source = model([node("Relu", ("nothing",), name="the relu")], inputs=[value("x", ("n",))])
    del source.opset_import[:]
    with pytest.raises(LeptonError) as caught:
        import_model(source)
    assert [error.code for error in caught.value.faults] == ["E012", "E014"]


def test_versions_that_contradict_each_other() -> None:
    source = model([node("Relu")], domains=["local"])
    source.opset_import.append(onnx.helper.make_opsetid("local", 2))
    with pytest.raises(LeptonError, match="imports versions 1 and 2 of the domain 'local'"):
        import_model(source)


def test_an_extent_that_no_input_has_hides_nothing() -> None:
    source = model([node("Relu", ("nothing",), name="the relu")], inputs=[value("x", ("n",))])
    for dims in ({"m": 2}, {"n": -1}):
        with pytest.raises(LeptonError) as caught:
            import_model(source, dims)
        assert [error.code for error in caught.value.faults] == ["E021", "E014"]
