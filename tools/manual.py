"""Writes the manual, which says what the declarations say: operations, passes and targets."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Iterable, Sequence
from pathlib import Path

import click
import numpy as np

from leptonc.ir.table import Attr, OpDef, Operand, all_ops
from leptonc.passes.base import Pass
from leptonc.passes.registry import Registry
from leptonc.targets import TARGETS

FOLDER = Path("docs")
COMMAND = "`make manual` writes this page from the declarations in the source."


def pages() -> dict[str, str]:
    """The manual: each page's text by its file name."""
    return {"operations.md": operations(), "passes.md": passes(), "targets.md": targets()}


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def operations() -> str:
    """Every row of the operation table."""
    rows = all_ops()
    parts = [
        f"# Operations\n\n{COMMAND}\n",
        "`!` marks operands of which kernels read nothing if they are known at compile time, `?` "
        "optional ones, `*` any number. Attributes are written with their defaults.\n",
    ]
    listed = table(
        ("operation", "what it computes", "attributes", "ONNX"),
        [_operation(rows[name]) for name in sorted(rows)],
    )
    return "\n".join([*parts, listed])


def _operation(row: OpDef) -> tuple[str, str, str, str]:
    operands = ", ".join(_operand(operand) for operand in row.operands)
    attrs = ", ".join(_attribute(name, attr) for name, attr in row.attrs.items())
    onnx = ""
    if row.onnx is not None:
        onnx = f"{row.onnx.domain + '.' if row.onnx.domain else ''}{row.onnx.name}"
    return f"`{row.name}({operands})`", _cell(row.summary), _cell(attrs), onnx


def _operand(operand: Operand) -> str:
    marks = (operand.optional, "?"), (operand.variadic, "*"), (operand.shape_like, "!")
    return operand.name + "".join(mark for holds, mark in marks if holds)


def _attribute(name: str, attr: Attr) -> str:
    if attr.required:
        return f"`{name}` ({attr.kind}, needed)"
    if attr.default is None:
        return f"`{name}` ({attr.kind})"
    # ONNX keeps numbers in single precision
    single = str(np.float32(attr.default)) if isinstance(attr.default, float) else attr.default
    return f"`{name}` = {single}"


def passes() -> str:
    """Every built-in pass: its contract, text, options and rules."""
    registry = Registry([])
    parts = [f"# Passes\n\n{COMMAND}\n"]
    for name in sorted(registry):
        parts.append(_pass(registry[name]))
    return "\n".join(parts)


def _pass(kind: type[Pass]) -> str:
    parts = [f"## {kind.name}\n", f"Numbers: {kind.numbers}.\n", f"{inspect.getdoc(kind) or ''}\n"]
    fields = [
        (f"`{field.name.replace('_', '-')}`", str(field.default), _cell(field.metadata["help"]))
        for field in dataclasses.fields(kind)
    ]
    if fields:
        parts.append(table(("option", "default", "what it says"), fields))
    rules = [(f"`{rule.name}`", _cell(rule.doc)) for rule in getattr(kind, "rules", ())]
    if rules:
        parts.append(table(("rule", "what it does"), rules))
    return "\n".join(parts)


def targets() -> str:
    """Every target and its options."""
    parts = [f"# Targets\n\n{COMMAND}\n"]
    for name, kind in TARGETS.items():
        options = table(
            ("option", "what it says"),
            [(f"`{option}`", _cell(text)) for option, text in kind.options.items()],
        )
        parts.append(f"## {name}\n\n{kind.summary}.\n\n{options}")
    return "\n".join(parts)


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--folder", default=FOLDER, show_default=True, type=click.Path(path_type=Path))
def main(folder: Path) -> None:
    r"""Write the manual's pages.

    \b
    Example:
      python -m leptonc.tools.manual --folder docs
    """
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in pages().items():
        (folder / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
