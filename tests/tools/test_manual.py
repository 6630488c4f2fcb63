"""The manual in the repository is what its generator writes."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from leptonc.ir.table import all_ops
from leptonc.pass_pages import EXAMPLES
from leptonc.passes.registry import BUILTIN
from leptonc.tools.examples import examples_of, examples_text
from leptonc.tools.manual import FOLDER, PASSES, TESTS, main, pages

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("name", ["operations.md", "passes.md", "targets.md"])
def test_the_manual_is_up_to_date(name: str) -> None:
    """Whoever changes a declaration runs `make manual`."""
    assert (ROOT / FOLDER / name).read_text(encoding="utf-8") == pages()[name]


def test_every_declaration_has_its_place() -> None:
    """No row of the table and no pass is left out, and each says what it does."""
    text = pages()
    for name, row in all_ops().items():
        assert f"| `{name}(" in text["operations.md"]
        assert row.summary
    for name in BUILTIN:
        assert f"## {name}\n" in text["passes.md"]


def test_the_command_writes_all_pages(tmp_path: Path) -> None:
    """Into a folder that need not exist."""
    arguments = ["--folder", str(tmp_path / "new"), "--examples", str(tmp_path / "e.json")]
    done = CliRunner().invoke(main, arguments)
    assert done.exit_code == 0
    assert {path.name for path in (tmp_path / "new").iterdir()} == set(pages())
    assert (tmp_path / "e.json").read_text(encoding="utf-8") == examples_text(TESTS)


def test_the_examples_are_up_to_date() -> None:
    """Whoever changes a pass or its tests runs `make manual`."""
    assert (PASSES / EXAMPLES).read_text(encoding="utf-8") == examples_text(TESTS)


def test_every_pass_with_a_textual_test_has_an_example() -> None:
    """It is a graph that the pass changes, and what the pass makes of it."""
    examples = examples_of(TESTS)
    assert len(examples) >= len(BUILTIN) - 2
    for entry in examples.values():
        assert entry["example"]["before"] != entry["example"]["after"]
    identity = examples["simplify"]["rules"]["drop-identity"]
    assert "identity(" in identity["before"]
    assert "identity(" not in identity["after"]
