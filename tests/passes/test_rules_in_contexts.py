"""Each rule in random graphs, and what becomes of it where its values are read elsewhere.

`python -m tests.passes.rules_in_contexts` tries 200 graphs for each rule.
"""

from __future__ import annotations

import pytest

from tests.passes.cases import FOLDER, GENERATED
from tests.passes.rule_variants import texts
from tests.passes.rules_in_contexts import outcomes
from tests.passes.specimens import declared_rules, specimens

CONTEXTS = 12
"""For each rule; many are there."""


def test_every_rule_fires_in_some_textual_test() -> None:
    found = {part for key in specimens() for part in key}
    missing = [f"{name}/{rule}" for name, rule in declared_rules() if rule not in found]
    assert missing == []


@pytest.mark.parametrize("name", sorted({name for name, _ in declared_rules()}))
def test_rules_keep_numbers_in_any_context(name: str) -> None:
    keys = [key for key in specimens() if key[0] == name]
    found = [outcome for key in keys for outcome in outcomes(key, CONTEXTS)]
    broken = [f"{each.seed}: {each.complaint}\n{each.graph}" for each in found if each.complaint]
    assert not broken, broken[0]


def test_what_rules_do_with_shared_values_is_as_written() -> None:
    made = {path.name: text for path, text in texts().items()}
    written = {path.name: path.read_text("utf-8") for path in (FOLDER / GENERATED).glob("*.lir")}
    changed = sorted(name for name in made | written if made.get(name) != written.get(name))
    assert not changed, f"{changed} are out of date: run python -m tests.passes.rule_variants"


def test_rules_fire_whichever_way_operands_stand() -> None:
    lines = [line for text in texts().values() for line in text.splitlines()]
    assert [line for line in lines if line.startswith("// keeps") and "commuted" in line] == []
