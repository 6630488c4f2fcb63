"""What the regions of choices and loops take from around them: tensors and sizes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from leptonc.backends.tvm.assumptions import assumptions
from leptonc.backends.tvm.source import KernelSource, is_inlined
from leptonc.ir.dims import Dim, product, symbols
from leptonc.ir.graph import Graph, Op, Region, Value
from leptonc.ir.table import Trait

CONTROL = ("if", "loop")
"""Operations whose regions are run, not compiled into one kernel."""
NO_CODE = ("const", "dims", "return")
"""Operations for which nothing is called."""
KNOWN = ("const", "dims", "extents")
"""What makes values that can be written anywhere, once the symbols in them are numbers."""


def scopes(region: Region) -> Iterator[Region]:
    """The region, and all regions that are run inside it, outer ones first."""
    yield region
    for op in region:
        if op.name in CONTROL:
            for inner in op.regions:
                yield from scopes(inner)


def kernel_operations(graph: Graph) -> Iterator[tuple[Op, Op | None]]:
    """The operations that kernels compute, at any depth, each with the group that holds it."""
    for region in scopes(graph):
        for op in region:
            if op.name == "group":
                yield from ((inner, op) for inner in op.regions[0])
            else:
                yield op, None


def changes_count(view: Op) -> bool:
    """True for another shape of the same memory that only run time can tell to fit."""
    if not view.definition.has(Trait.VIEW):
        return False
    return product(view.operands[0].type.shape) != product(view.result.type.shape)


def tells_nodes(graph: Graph) -> bool:
    """True where the program of `graph` may tell at run time which node went wrong."""
    return any(
        op.name in ("extents", "loop") or changes_count(op) or assumptions(op)
        for op, _ in kernel_operations(graph)
    )


def names_of(op: Op) -> tuple[Dim, ...]:
    """What the elements of the operand of `extents` are from there on."""
    names = op.attrs["names"]
    assert isinstance(names, tuple)
    return names  # pyright: ignore[reportReturnType]


def plain_symbols(shape: Iterable[Dim]) -> set[str]:
    """The symbols that are an extent of the shape themselves, so that the shape tells them."""
    return {str(dim) for dim in shape if str(dim) in symbols(dim)}


def symbols_of(dims: Iterable[Dim]) -> set[str]:
    """All symbols in `dims`."""
    return {name for dim in dims for name in symbols(dim)}


def content_of(value: Value) -> list[Dim]:
    """What is known of the elements, nothing where that is not all of them."""
    return [] if value.content is None else value.content.reshape(-1).tolist()


def turn_of(op: Op) -> str:
    """The symbol that is the number of the turn inside the region of a loop; empty if none is."""
    return "".join(map(str, op.attrs.get("turn") or ()))  # pyright: ignore


@dataclass(frozen=True)
class Demand:
    """What the regions of one operation take from around it."""

    captures: tuple[Value, ...]
    sizes: frozenset[str]


def demands(graph: Graph, sources: Mapping[Op, KernelSource]) -> dict[Op, Demand]:
    """The demand of each choice and loop, at any depth."""
    found: dict[Op, Demand] = {}
    for region in reversed(list(scopes(graph))):
        for op in region:
            if op.name in CONTROL:
                found[op] = _demand(op, sources, found)
    return found


def _demand(op: Op, sources: Mapping[Op, KernelSource], found: Mapping[Op, Demand]) -> Demand:
    captures: dict[Value, None] = {}
    sizes: set[str] = set()
    for region in op.regions:
        # constants inside a region come from outside too: they are parameters of the program
        inside = {value for each in region if each.name != "const" for value in each.results}
        inside.update(region.inputs)
        taken = [v for v in _read_in(region, sources, found) if v not in inside]
        captures.update(dict.fromkeys(taken))
        told = plain_symbols(dim for v in (*region.inputs, *taken) for dim in v.type.shape)
        told |= {turn_of(op)}
        mentioned = symbols_of(
            dim for v in (*region.inputs, *taken, *region.outputs) for dim in v.type.shape
        )
        for value in region.outputs:
            mentioned |= symbols_of(content_of(value))
        for inner in region:
            if inner.name not in NO_CODE:
                told |= told_by(inner)
                mentioned |= needed_by(inner, sources, found)
        sizes |= mentioned - told
    return Demand(tuple(captures), frozenset(sizes))


def _read_in(
    region: Region, sources: Mapping[Op, KernelSource], found: Mapping[Op, Demand]
) -> Iterator[Value]:
    """The values that something in the region reads as tensors."""
    for op in region:
        for value in reads_of(op, sources, found):
            producer = value.producer
            if (
                producer is None
                or producer.name not in KNOWN
                or (producer.name == "const" and not is_inlined(value))
            ):
                yield value


def reads_of(
    op: Op, sources: Mapping[Op, KernelSource], found: Mapping[Op, Demand]
) -> Iterable[Value]:
    """The values that `op` reads as tensors when it runs."""
    if op in sources:
        return sources[op].inputs
    if op.name == "extents":
        return () if op.operands[0].content is not None else op.operands
    if op.name in CONTROL:
        return (*op.operands, *found[op].captures)
    return () if op.name in NO_CODE and op.name != "return" else op.operands


def told_by(op: Op) -> set[str]:
    """The symbols that are numbers once `op` has run."""
    if op.name == "extents":
        return plain_symbols(names_of(op))
    if op.name in CONTROL:
        # what is in the regions' types or before the operation is a size of before
        values = [*op.operands, *(v for r in op.regions for v in (*r.inputs, *r.outputs))]
        before = symbols_of(dim for value in values for dim in value.type.shape)
        before |= symbols_of(dim for value in op.operands for dim in content_of(value))
        return plain_symbols(dim for v in op.results for dim in v.type.shape) - before
    return set()


def needed_by(op: Op, sources: Mapping[Op, KernelSource], found: Mapping[Op, Demand]) -> set[str]:
    """The symbols that must be numbers before `op` can run."""
    if op.name == "extents":
        given = [dim for dim in names_of(op) if str(dim) not in symbols(dim)]
        return symbols_of((*content_of(op.operands[0]), *given))
    needed = symbols_of(dim for value in op.results for dim in value.type.shape) - told_by(op)
    for value in op.operands:
        if value.producer is not None and value.producer.name in ("dims", "extents"):
            needed |= symbols_of(content_of(value))
    if op in sources:
        needed |= set(sources[op].scalars).union(*(each.symbols for each in assumptions(op)))
    return needed | found[op].sizes if op in found else needed
