"""The manual in the repository is what its generator writes."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from leptonc.ir.table import all_ops
from leptonc.passes.registry import BUILTIN
from leptonc.tools.manual import FOLDER, main, pages

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
    done = CliRunner().invoke(main, ["--folder", str(tmp_path / "new")])
    assert done.exit_code == 0
    assert {path.name for path in (tmp_path / "new").iterdir()} == set(pages())
