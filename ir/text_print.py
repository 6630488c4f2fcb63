"""Writing graphs in their textual form."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from types import MappingProxyType

from leptonc.ir.blob import Blob
from leptonc.ir.dims import Expr
from leptonc.ir.graph import Attribute, Graph, Op, Region, Value
from leptonc.ir.location import UNKNOWN, Location
from leptonc.ir.types import DType

NO_NAMES: Mapping[Value, str] = MappingProxyType({})

_PLAIN = re.compile(r"[A-Za-z_0-9][\w.\-/]*")


def print_graph(
    graph: Graph,
    *,
    locations: bool = False,
    blob_names: bool = False,
    names: Mapping[Value, str] = NO_NAMES,
) -> str:
    """Write `graph` in its textual form; `parse_graph` reads it back.

    With `blob_names` large constants are numbered instead of named by digest: the text then depends
    on the model's structure only, and no weight is read. `names` are those of some values.
    """
    names = value_names(graph, names)
    pairs = zip(graph.output_names, graph.outputs, strict=True)
    outputs = ", ".join(f"{spell_name(name)}: {value.type}" for name, value in pairs)
    lines: list[str] = []
    _Printer(names, lines, locations, blob_names).body(graph, "  ")
    head = f"graph @{spell_name(graph.name)}({_inputs(graph, names)}) -> ({outputs}) {{"
    return "\n".join([head, *lines, "}"]) + "\n"


def print_op(op: Op, names: dict[Value, str], *, locations: bool = False) -> str:
    """Write one operation, with its regions if it has any."""
    lines: list[str] = []
    _Printer(names, lines, locations, blob_names=False).op(op, "")
    return "\n".join(lines)


def value_names(graph: Graph, known: Mapping[Value, str] = NO_NAMES) -> dict[Value, str]:
    """Give every value a unique name, keeping the ones it came with where they are unique.

    Values that `known` names, no two alike, keep those names; they may be values of other graphs.
    """
    values = list(_values(graph))
    names = {value: known[value] for value in values if value in known}
    taken = dict.fromkeys(names.values(), 0)
    count = 0
    for value in values:
        if value in names:
            continue
        base = value.name
        if not base:
            while known and str(count) in taken:
                count += 1
            base, count = str(count), count + 1
        name = base
        while name in taken:
            taken[base] = taken.get(base, 0) + 1
            name = f"{base}_{taken[base]}"
        taken[name] = 0
        names[value] = name
    return names


def _values(graph: Graph) -> Iterator[Value]:
    yield from graph.inputs
    for op in graph.walk():
        yield from op.results
        for region in op.regions:
            yield from region.inputs


def spell_name(name: str) -> str:
    """A name as it stands, quoted where it has characters that could be mistaken."""
    return name if _PLAIN.fullmatch(name) else json.dumps(name)


def spell_location(location: Location) -> str:
    """A location with whole names, as the parser reads it; for people its `str` is shorter."""
    nodes = ", ".join(map(json.dumps, location.nodes)) or "unknown"
    via = f" via {', '.join(location.rules)}" if location.rules else ""
    return f"loc({nodes}{via})"


def spell_attribute(value: Attribute | Expr) -> str:
    """An attribute's value as the parser reads it."""
    if isinstance(value, Blob):
        return value.recipe
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, tuple):
        return f"[{', '.join(spell_attribute(item) for item in value)}]"
    if isinstance(value, str):
        return json.dumps(value)
    return str(value) if isinstance(value, DType | Expr) else repr(value)


def _inputs(region: Region, names: Mapping[Value, str]) -> str:
    return ", ".join(f"%{spell_name(names[value])}: {value.type}" for value in region.inputs)


class _Printer:
    """Writes operations as lines."""

    def __init__(
        self, names: Mapping[Value, str], lines: list[str], locations: bool, blob_names: bool
    ) -> None:
        self.names, self.lines = names, lines
        self.locations, self.blob_names = locations, blob_names
        self.blobs = 0

    def body(self, region: Region, indent: str) -> None:
        """Write the operations of a region."""
        for op in region:
            self.op(op, indent)

    def op(self, op: Op, indent: str) -> None:
        """Write one operation, with its regions."""
        where = (
            f" {spell_location(op.location)}" if self.locations and op.location != UNKNOWN else ""
        )
        operands = ", ".join(_operand(op, slot, self.names) for slot in range(len(op.operands)))
        if op.name == "return":
            self.lines.append(f"{indent}return{' ' if operands else ''}{operands}{where}")
            return
        results = ", ".join(f"%{spell_name(self.names.get(value, '?'))}" for value in op.results)
        types = ", ".join(str(value.type) for value in op.results)
        self.lines.append(f"{indent}{results} = {op.name}({operands}){self.attributes(op)}")
        for region in op.regions:
            self.lines[-1] += f" ({_inputs(region, self.names)}) {{"
            self.body(region, indent + "  ")
            self.lines.append(indent + "}")
        self.lines[-1] += f" : {types}{where}"

    def attributes(self, op: Op) -> str:
        """The attributes that are not at their defaults."""
        specs = op.definition.attrs
        shown = {
            key: self.attribute(value)
            for key, value in op.attrs.items()
            if key not in specs or specs[key].required or specs[key].default != value
        }
        return (
            f" {{{', '.join(f'{key} = {text}' for key, text in shown.items())}}}" if shown else ""
        )

    def attribute(self, value: Attribute) -> str:
        """One value; a large constant by number where that was asked for."""
        if self.blob_names and isinstance(value, Blob) and not value.is_spelled:
            self.blobs += 1
            return f'blob("{self.blobs}")'
        return spell_attribute(value)


def _operand(op: Op, slot: int, names: Mapping[Value, str]) -> str:
    """An operand; with its label where its position alone does not say which one it is."""
    text = f"%{spell_name(names.get(op.operands[slot], '?'))}"
    label = op.operand_names[slot]
    by_position = op.definition.slot_names(slot + 1)[slot] if op.operand_names[:slot] == (
        op.definition.slot_names(slot) if slot else ()
    ) else None  # fmt: skip
    optional = any(operand.name == label and operand.optional for operand in op.definition.operands)
    return f"{label}={text}" if optional or label != by_position else text
