"""The graphs of the textual tests, each with the passes that its file runs on it."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from pathlib import Path

from leptonc.ir.graph import Graph
from leptonc.ir.text import parse_graph

FOLDER = Path(__file__).parent
RUN = "// RUN: leptonc-opt "
GENERATED = "rules"
"""The folder whose graphs are made from those of the others."""


def textual_cases() -> Iterator[tuple[str, str, Graph]]:
    """File, pipeline and graph of every part of every textual test of the passes."""
    for file in sorted(FOLDER.glob("*/*.lir")):
        if file.parent.name == GENERATED:
            continue
        text = file.read_text(encoding="utf-8")
        command = shlex.split(text.splitlines()[0].removeprefix(RUN).partition("|")[0])
        pipeline = command[command.index("-p") + 1]
        for part in text.split("// -----\n"):
            yield f"{file.parent.name}/{file.name}", pipeline, parse_graph(part, file.name)
