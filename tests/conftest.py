"""Collects textual tests: each RUN line of a .lir file is one test, run in this process."""

from __future__ import annotations

import importlib.util
import io
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
from filecheck.finput import FInput
from filecheck.matcher import Matcher
from filecheck.options import parse_argv_options
from filecheck.parser import Parser, pattern_for_opts

RUN = "// RUN: "


def pytest_collect_file(parent: pytest.Collector, file_path: Path) -> pytest.File | None:
    """Make a test file of each .lir file."""
    if file_path.suffix != ".lir":
        return None
    return LirFile.from_parent(parent, path=file_path)  # pyright: ignore[reportUnknownMemberType]


@pytest.fixture(scope="session", autouse=True)
def empty_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Nothing that an earlier run compiled is found, so that every run tests today's code."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LEPTONC_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip a test marked `needs("module")` where the module is missing."""
    for marker in item.iter_markers("needs"):
        name = str(marker.args[0])
        if importlib.util.find_spec(name) is None:
            pytest.skip(f"{name} is not installed")


class LirFile(pytest.File):
    """One .lir file."""

    def collect(self) -> Iterator[pytest.Item]:
        """Make one item for each RUN line."""
        for line in self.path.read_text(encoding="utf-8").splitlines():
            if line.startswith(RUN):
                command = line.removeprefix(RUN)
                yield LirItem.from_parent(  # pyright: ignore[reportUnknownMemberType]
                    self, name=command, command=command
                )


class LirItem(pytest.Item):
    """One RUN line: a leptonc-opt command whose output the CHECK lines describe."""

    def __init__(self, name: str, parent: LirFile, command: str) -> None:
        super().__init__(name, parent)  # pyright: ignore[reportUnknownMemberType]
        self.command = command

    def runtest(self) -> None:
        """Run the tool here, then match what it printed."""
        from leptonc.tools.opt import main

        tool_part, _, check_part = self.command.partition("|")
        tool, *arguments = shlex.split(tool_part.replace("%s", str(self.path)))
        assert tool == "leptonc-opt", f"unknown tool {tool}"
        out = io.StringIO()
        status = main(arguments, out)
        if status or not self.matches(
            out.getvalue(), shlex.split(check_part.replace("%s", ""))[1:]
        ):
            raise AssertionError(f"{self.command}\nstatus {status}; it printed:\n{out.getvalue()}")

    def matches(self, printed: str, arguments: list[str]) -> bool:
        """Tell whether the CHECK lines of the file describe the printed text."""
        options = parse_argv_options(["filecheck", str(self.path), *arguments])
        with self.path.open(encoding="utf-8") as checks:
            parser = Parser(options, checks, *pattern_for_opts(options))
            return not Matcher(options, FInput("<output>", printed), parser).run()

    def reportinfo(self) -> tuple[Path, int, str]:
        """Say where the test is."""
        return self.path, 0, self.name
