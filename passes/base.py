"""What a pass is, how its options are declared and how a pipeline is spelled."""

from __future__ import annotations

import dataclasses
import difflib
import re
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, cast

from leptonc.ir.diagnostics import LeptonError
from leptonc.ir.graph import Graph
from leptonc.ir.location import shown
from leptonc.passes.context import PassContext
from leptonc.passes.contract import Contract
from leptonc.passes.rewrite import Rewriter, Rule, RuleSet


def option(default: Any, help: str) -> Any:
    """A pass option: a dataclass field with its help and a default (int, float, bool or text)."""
    return dataclasses.field(default=default, metadata={"help": help})


@dataclass(frozen=True)
class Pass(ABC):
    """A transformation of a valid graph into a valid graph that computes the same outputs.

    `numbers` says how far "the same" goes.
    """

    name: ClassVar[str]
    numbers: ClassVar[Contract]

    @abstractmethod
    def run(self, graph: Graph, context: PassContext) -> None:
        """Change `graph` in place."""

    def __str__(self) -> str:
        """The pass as a pipeline spells it, leaving out options at their defaults."""
        changed = [
            f"{_spelled_name(field)}={_spelled(getattr(self, field.name))}"
            for field in dataclasses.fields(self)
            if getattr(self, field.name) != field.default
        ]
        return f"{self.name}{{{' '.join(changed)}}}" if changed else self.name


@dataclass(frozen=True)
class RewritePass(Pass):
    """A pass that is a list of rules, tried in the order of the list."""

    rules: ClassVar[tuple[Rule, ...]]
    budget: int = option(1_000_000, "fail after this many rewrites, which only a loop needs")

    def run(self, graph: Graph, context: PassContext) -> None:
        """Apply the rules until none fits, those left out that are disabled."""
        rules = [rule for rule in self.rules if rule.name not in context.disabled]
        Rewriter(RuleSet(rules), self.budget, context).run(graph)


_ELEMENT = re.compile(r"\s*([a-z][a-z0-9-]*)(?:\{([^}]*)\})?\s*(?:,|$)")


def parse_pipeline(spec: str, known: Mapping[str, type[Pass]]) -> list[Pass]:
    """Read ``fold-constants,simplify{budget=5}``, which `str` of the passes gives back."""
    passes: list[Pass] = []
    position = 0
    spec = spec.strip()
    while position < len(spec):
        element = _ELEMENT.match(spec, position)
        if element is None:
            raise LeptonError(
                f"cannot read the pipeline from {shown(spec[position:])}",
                notes=["it reads pass,pass{option=value option=value},pass"],
                code="E401",
            )
        name, options = element.group(1), element.group(2) or ""
        if name not in known:
            near = difflib.get_close_matches(name, list(known), 3)
            notes = [f"did you mean {' or '.join(near)}?"] if near else []
            notes.append(f"known passes: {', '.join(sorted(known))}")
            raise LeptonError(f"there is no pass {name!r}", notes=notes, code="E402")
        passes.append(_configured(known[name], options.split()))
        position = element.end()
    return passes


def _configured(kind: type[Pass], options: list[str]) -> Pass:
    fields = {_spelled_name(field): field for field in dataclasses.fields(kind)}
    values: dict[str, Any] = {}
    for spelled in options:
        key, _, text = spelled.partition("=")
        field = fields.get(key)
        if field is None:
            has = f"it has: {', '.join(fields) or 'none'}"
            message = f"{kind.name} has no option {shown(key)}"
            raise LeptonError(message, notes=[has], code="E403")
        values[field.name] = _read(kind, field, text)
    return kind(**values)


def _read(kind: type[Pass], field: dataclasses.Field[Any], text: str) -> Any:
    sort = cast(Any, type(field.default))
    try:
        return {"true": True, "false": False}[text] if sort is bool else sort(text)
    except (ValueError, KeyError):
        wanted = "true or false" if sort is bool else f"an {sort.__name__}"
        raise LeptonError(
            f"{kind.name} cannot take {shown(text)} for {_spelled_name(field)}, which is {wanted}",
            code="E404",
        ) from None


def _spelled_name(field: dataclasses.Field[Any]) -> str:
    return field.name.replace("_", "-")


def _spelled(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
