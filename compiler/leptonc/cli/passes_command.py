"""leptonc passes."""

from __future__ import annotations

import dataclasses
import inspect
from typing import Any

import click

from leptonc.cli.console import emit_json, table
from leptonc.cli.options import json_option


@click.command("passes")
@click.argument("name", required=False)
@json_option
def command(*, name: str | None, as_json: bool) -> None:
    """List the passes, or tell everything about the one called NAME.

    \b
    leptonc passes
    leptonc passes group-operations
    """
    from leptonc.ir.diagnostics import LeptonError, shown
    from leptonc.passes.registry import Registry

    registry = Registry()
    if name is not None and name not in registry:
        raise LeptonError(
            f"there is no pass {shown(name)}",
            notes=[f"known passes: {', '.join(sorted(registry))}"],
            code="E402",
        )
    described = [_described(registry[key]) for key in sorted(registry) if name in (None, key)]
    if as_json:
        emit_json(described)
    elif name is None:
        table(
            "",
            ("pass", "numbers", "what it does"),
            [(d["name"], d["numbers"], d["summary"]) for d in described],
        )
    else:
        _print_page(described[0])


def _described(kind: Any) -> dict[str, Any]:
    text = inspect.getdoc(kind) or ""
    return {
        "name": kind.name,
        "numbers": str(kind.numbers),
        "summary": text.partition("\n")[0],
        "text": text,
        "options": {
            field.name.replace("_", "-"): {
                "default": field.default,
                "help": field.metadata.get("help", ""),
            }
            for field in dataclasses.fields(kind)
        },
        "rules": {rule.name: rule.doc for rule in getattr(kind, "rules", ())},
    }


def _print_page(page: dict[str, Any]) -> None:
    click.echo(f"{page['name']}  (numbers: {page['numbers']})\n\n{page['text']}")
    for title in ("options", "rules"):
        if page[title]:
            click.echo(f"\n{title}:")
        for key, about in page[title].items():
            shown = (
                f"{about['help']} (default {about['default']})"
                if isinstance(about, dict)
                else about
            )
            click.echo(f"  {key}: {shown}")
