"""leptonc passes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import click

from leptonc.cli.console import emit_json, wide_table
from leptonc.cli.options import json_option


@click.command("passes")
@click.argument("name", required=False)
@json_option
def command(*, name: str | None, as_json: bool) -> None:
    """List the passes, or tell everything about the one called NAME, or about a rule.

    The page of a pass says what it does and why, how exact it is, at which levels it runs, its
    options and rules, and what it makes of an example.

    \b
    leptonc passes
    leptonc passes fold-batch-norm
    leptonc passes norm-into-product
    """
    from leptonc.pass_pages import page_of, read_examples
    from leptonc.passes.registry import Registry
    from leptonc.selection import rules_of, unknown_pass_or_rule

    registry, examples = Registry(), read_examples()
    if name is None:
        pages = [page_of(registry[key], examples) for key in sorted(registry)]
        emit_json(pages) if as_json else _print_list(pages)
        return
    if name in registry:
        page = page_of(registry[name], examples)
        emit_json([page]) if as_json else _print_page(page)
        return
    owners = rules_of(registry).get(name)
    if owners is None:
        raise unknown_pass_or_rule(name, registry)
    pages = [_rule_page(page_of(registry[owner], examples), name) for owner in owners]
    if as_json:
        emit_json(pages)
        return
    for page in pages:
        _print_rule(page)


def _rule_page(page: Mapping[str, Any], rule: str) -> dict[str, Any]:
    return {
        "name": rule,
        "pass": page["name"],
        "numbers": page["numbers"],
        "meaning": page["meaning"],
        "text": page["rules"][rule],
        "example": page["rule_examples"].get(rule),
    }


def _print_list(pages: Sequence[Mapping[str, Any]]) -> None:
    wide_table(
        ("pass", "numbers", "levels", "rules", "what it does"),
        [
            (
                page["name"],
                page["numbers"],
                _levels(page["levels"]),
                str(len(page["rules"]) or ""),
                page["summary"],
            )
            for page in pages
        ],
    )
    click.echo("leptonc passes NAME tells all about a pass or a rule")


def _levels(levels: Sequence[int]) -> str:
    """The levels at which a pass runs: ``-O1`` stands for that one and those above."""
    if not levels:
        return ""
    return f"-O{levels[0]}" if levels == list(range(levels[0], 4)) else " ".join(map(str, levels))


def _print_page(page: Mapping[str, Any]) -> None:
    click.echo(f"{page['name']}\n\n{page['text']}\n")
    click.echo(f"numbers: {page['numbers']}, {page['meaning']}")
    click.echo(f"runs at: {_levels(page['levels']) or 'no level by itself'}")
    if page["options"]:
        click.echo("\noptions:")
    for name, about in page["options"].items():
        click.echo(f"  {name}: {about['help']} (default {about['default']})")
    if page["rules"]:
        click.echo("\nrules:")
        wide_table(
            ("rule", "what it does"),
            [(name, " ".join(text.split())) for name, text in page["rules"].items()],
        )
    _print_example(page["example"])


def _print_rule(page: Mapping[str, Any]) -> None:
    click.echo(f"{page['name']}, a rule of {page['pass']}\n\n{page['text']}\n")
    click.echo(f"numbers: {page['numbers']}, {page['meaning']}")
    _print_example(page["example"])


def _print_example(example: Mapping[str, str] | None) -> None:
    if example is not None:
        click.echo(f"\nbefore:\n{_indented(example['before'])}")
        click.echo(f"\nafter:\n{_indented(example['after'])}")


def _indented(text: str) -> str:
    return "\n".join(f"  {line}" for line in text.splitlines())
