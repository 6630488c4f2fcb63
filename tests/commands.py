"""Runs the command line inside this process."""

from __future__ import annotations

from pathlib import Path

from leptonc.cli.main import main


def run(*arguments: str | Path) -> int:
    """The exit status of a command."""
    try:
        main([str(argument) for argument in arguments])
    except SystemExit as end:
        return int(str(end.code))
    return 0
