"""Writes the manual, which says what the declarations say: operations, passes and targets."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np

from leptonc import passes as pass_package
from leptonc.ir.table import Attr, OpDef, Operand, all_ops
from leptonc.pass_pages import EXAMPLES, page_of
from leptonc.passes.registry import Registry
from leptonc.targets import TARGETS
from leptonc.tools.examples import examples_of, examples_text

FOLDER = Path("docs")
PASSES = Path(str(pass_package.__file__)).resolve().parent
"""Where the passes are, and beside them the examples that go with the package."""
TESTS = PASSES.parent / "tests" / "passes"
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
    """Every built-in pass: its contract, text, options and rules, and what it does to a graph."""
    registry, examples = Registry([]), examples_of(TESTS)
    parts = [f"# Passes\n\n{COMMAND}\n"]
    for name in sorted(registry):
        parts.append(_pass(page_of(registry[name], examples)))
    return "\n".join(parts)


def _pass(page: Mapping[str, Any]) -> str:
    parts = [f"## {page['name']}\n", f"Numbers: {page['numbers']}.\n", f"{page['text']}\n"]
    options = [
        (f"`{name}`", str(about["default"]), _cell(about["help"]))
        for name, about in page["options"].items()
    ]
    if options:
        parts.append(table(("option", "default", "what it says"), options))
    rules = [(f"`{name}`", _cell(text)) for name, text in page["rules"].items()]
    if rules:
        parts.append(table(("rule", "what it does"), rules))
    example = page["example"]
    if example:
        parts.append(f"Before:\n```\n{example['before']}```\nAfter:\n```\n{example['after']}```\n")
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
@click.option(
    "--examples", default=PASSES / EXAMPLES, type=click.Path(path_type=Path),
    help="Where the examples go that `leptonc passes` shows.",
)  # fmt: skip
def main(folder: Path, examples: Path) -> None:
    r"""Write the manual's pages, and the examples of passes.

    \b
    Example:
      python -m leptonc.tools.manual --folder docs
    """
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in pages().items():
        (folder / name).write_text(text, encoding="utf-8")
    examples.write_text(examples_text(TESTS), encoding="utf-8")


if __name__ == "__main__":
    main()
