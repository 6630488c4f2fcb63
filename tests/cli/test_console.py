"""Tables and figures as people see them."""

from __future__ import annotations

import pytest

from leptonc.cli.console import seconds_text, table


def test_brackets_of_types_are_shown(capsys: pytest.CaptureFixture[str]) -> None:
    table("", ("input", "type"), [("x", "f32[n,4]")])
    assert "f32[n,4]" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("seconds", "text"), [(7.8e-6, "7.8 µs"), (0.0126, "12.6 ms"), (2.5, "2.50 s")]
)
def test_durations_keep_their_digits(seconds: float, text: str) -> None:
    assert seconds_text(seconds) == text
