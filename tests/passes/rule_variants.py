"""What each rule does where its values are also read elsewhere, given back, or stand swapped.

The answers are kept in `rules/PASS.lir`; run this module to write them anew.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from leptonc.ir.build import Builder
from leptonc.ir.diagnostics import LeptonError
from leptonc.ir.graph import Graph, Op, Value
from leptonc.ir.table import CONST, RETURN, Trait
from leptonc.ir.text import print_graph, value_names
from leptonc.passes.check_numbers import CheckNumbers
from leptonc.passes.clone import clone_graph
from leptonc.passes.manager import PassManager
from leptonc.passes.observers import VerifyEach
from tests.passes.cases import FOLDER, GENERATED
from tests.passes.specimens import Specimen, is_computable, specimens

HEAD = (
    "// Made by `python -m tests.passes.rule_variants`: how each rule takes its smallest graph.\n"
)
READERS = ("abs", "not", "identity")


@dataclass(frozen=True)
class Variant:
    """A specimen with one thing changed."""

    kind: str
    value: str
    graph: Graph


def variants(graph: Graph) -> Iterator[Variant]:
    """`graph` with each one of its operations commuted, shared or given back."""
    names = value_names(graph)
    for index, op in enumerate(graph):
        if op.definition is RETURN or not op.results:
            continue
        name = f"%{names[op.results[0]]}"
        if op.definition.has(Trait.COMMUTATIVE) and len(set(op.operands)) == 2:
            yield Variant("commuted", name, _commuted(graph, index))
        root = op.results[0] in graph.outputs
        if op.definition is not CONST and not root:
            yield Variant("given back too", name, _with_output(graph, index, read=False))
        kind = "constant shared" if op.definition is CONST else "root read" if root else "shared"
        yield Variant(kind, name, _with_output(graph, index, read=True))


def _op(graph: Graph, index: int) -> Op:
    return list(graph)[index]


def _commuted(graph: Graph, index: int) -> Graph:
    copy = clone_graph(graph)
    op = _op(copy, index)
    op.set_operands([*op.operands[1::-1], *op.operands[2:]], op.operand_names)
    return copy


def _with_output(graph: Graph, index: int, *, read: bool) -> Graph:
    copy = clone_graph(graph)
    value = _op(copy, index).results[0]
    if read:
        value = _reader(Builder(copy, before=copy.terminator), value)
    copy.terminator.set_operands([*copy.outputs, value])
    copy.output_names = (*copy.output_names, "also")
    return copy


def _reader(build: Builder, value: Value) -> Value:
    for name in READERS:
        try:
            return build.op(name, [value]).result
        except LeptonError:
            continue
    return value


def still_fires(specimen: Specimen, graph: Graph) -> bool:
    """Whether the rule applies to `graph`, on which the pass keeps its contract."""
    observers = [VerifyEach()]
    if is_computable(graph):
        observers += [CheckNumbers.on_random_inputs(graph)]
    applied = PassManager([specimen.step], observers).run(graph).applied
    return any(each.rule == specimen.rule for each in applied)


def described(specimen: Specimen) -> str:
    """The specimen as text, and in comments what becomes of its variants."""
    found: dict[bool, dict[str, list[str]]] = {True: {}, False: {}}
    for variant in variants(specimen.graph):
        kinds = found[still_fires(specimen, variant.graph)]
        kinds.setdefault(variant.kind, []).append(variant.value)
    lines = [
        f"// {word}: {'; '.join(' '.join((kind, *names)) for kind, names in kinds.items())}\n"
        for word, kinds in (("fires", found[True]), ("keeps", found[False]))
        if kinds
    ]
    title = f"// {specimen.step}: {specimen.rule}\n"
    return "".join((title, *lines, print_graph(specimen.graph)))


@cache
def texts() -> dict[Path, str]:
    """The text of each generated file."""
    parts: dict[str, list[str]] = {}
    for (name, _), group in specimens().items():
        parts.setdefault(name, []).append(described(group[0]))
    return {
        FOLDER / GENERATED / f"{name}.lir": "\n".join((HEAD, "\n// -----\n\n".join(parts[name])))
        for name in sorted(parts)
    }


def main() -> None:
    """Write the files, and remove those of passes that are gone."""
    (FOLDER / GENERATED).mkdir(exist_ok=True)
    made = texts()
    for path in (FOLDER / GENERATED).glob("*.lir"):
        if path not in made:
            path.unlink()
    for path, text in made.items():
        path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
