"""What passes ask of operations with regions, and how they change their operands and results."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from leptonc.ir.dims import Dim, symbols
from leptonc.ir.graph import Attribute, Graph, Op, Region, Value
from leptonc.ir.ops.control import LOOP, SCAN


def origin(value: Value) -> Value:
    """The value that `value` is a mere copy of."""
    while value.producer is not None and value.producer.name == "identity":
        value = value.producer.operands[0]
    return value


def is_true(value: Value) -> bool:
    """True for a constant condition that holds."""
    blob = origin(value).blob
    return blob is not None and bool(blob.array.all())


def inner_first(graph: Graph, *names: str) -> list[Op]:
    """The operations of `graph` with one of `names`, those in regions before what holds them."""
    return [op for op in graph.walk() if op.name in names][::-1]


def reads(op: Op) -> Iterator[Value]:
    """What an operation reads, and what is read inside it."""
    yield from op.operands
    for region in op.regions:
        for inner in region.walk():
            yield from inner.operands


def dims_of(op: Op) -> Iterator[Dim]:
    """The extents that an operation speaks of, in its attributes and in what it makes."""
    for name, attr in op.definition.attrs.items():
        dims = op.attrs.get(name)
        if attr.kind == "dims" and isinstance(dims, tuple):
            yield from dims  # pyright: ignore[reportReturnType] - what this kind holds
    for value in op.results:
        yield from value.type.shape
        if value.content is not None:
            yield from value.content.reshape(-1)


def symbols_of(op: Op) -> set[str]:
    """The symbols that an operation, or what stands in it, speaks of."""
    inner = (each for region in op.regions for each in region.walk())
    return {name for each in (op, *inner) for dim in dims_of(each) for name in symbols(dim)}


def rebuilt(
    op: Op,
    kept: Sequence[int],
    operands: Sequence[Value] | None = None,
    names: Sequence[str] | None = None,
    attrs: Mapping[str, Attribute] | None = None,
) -> Op:
    """The operation with some of its results only; the others nothing may read."""
    assert op.region is not None
    results = [op.results[index] for index in kept]
    new = Op(
        op.definition,
        op.operands if operands is None else operands,
        [value.type for value in results],
        operand_names=op.operand_names if operands is None else names,
        attrs=op.attrs if attrs is None else attrs,
        regions=op.regions,
        location=op.location,
    )
    op.region.insert_before(op, new)
    for old, value in zip(results, new.results, strict=True):
        value.name, value.content = old.name, old.content
        old.replace_uses_with(value)
    op.regions = ()
    op.region.erase(op)
    return new


@dataclass(frozen=True)
class Turning:
    """A `loop` or a `scan`, and which of its operands and results belong together."""

    op: Op

    @property
    def region(self) -> Region:
        """What is done in each turn."""
        return self.op.regions[0]

    @property
    def starts(self) -> tuple[Value, ...]:
        """What is carried into the first turn."""
        if self.op.definition is LOOP:
            return self.op.operands_called("carried")
        return self.op.operands[: len(self.op.operands) - self.op.int("num_scan_inputs")]

    @property
    def sequences(self) -> tuple[Value, ...]:
        """What a scan takes slices of."""
        return () if self.op.definition is LOOP else self.op.operands[len(self.starts) :]

    @property
    def first_input(self) -> int:
        """How many inputs of the region come before the carried ones."""
        return 2 if self.op.definition is LOOP else 0

    @property
    def first_output(self) -> int:
        """How many outputs of the region come before the carried ones."""
        return 1 if self.op.definition is LOOP else 0

    @property
    def taken(self) -> tuple[Value, ...]:
        """What the region takes for each carried value."""
        return self.region.inputs[self.first_input : self.first_input + len(self.starts)]

    @property
    def given(self) -> tuple[Value, ...]:
        """What the region gives back for each carried value."""
        return self.region.outputs[self.first_output : self.first_output + len(self.starts)]

    @property
    def collected(self) -> tuple[Value, ...]:
        """What the region gives to be stacked."""
        return self.region.outputs[self.first_output + len(self.starts) :]

    def per_item(self, name: str, count: int) -> tuple[int, ...]:
        """An attribute of a scan that says something of each of `count` items."""
        return (self.op.ints(name) if self.op.definition is SCAN else ()) or (0,) * count

    @property
    def is_endless(self) -> bool:
        """True where nothing but the number of turns ends it."""
        if self.op.definition is SCAN:
            return True
        start, again = self.op.operand("cond"), origin(self.region.outputs[0])
        return (start is None or is_true(start)) and (
            again is self.region.inputs[1] or is_true(again)
        )

    @property
    def turns(self) -> int | None:
        """How many turns there are, where that is known; conditions may end it before."""
        if self.op.definition is SCAN:
            pairs = zip(
                self.sequences,
                self.per_item("scan_input_axes", len(self.sequences)),
                strict=True,
            )
            lengths = [value.type.shape[axis] for value, axis in pairs]
            return next((length for length in lengths if isinstance(length, int)), None)
        limit, start = self.op.operand("max_trip"), self.op.operand("cond")
        if start is not None and origin(start).blob is not None and not is_true(start):
            return 0
        count = None if limit is None else known_number(limit)
        return None if count is None else max(count, 0)


def known_number(value: Value) -> int | None:
    """The integer that a tensor of one element holds, where it is known."""
    blob = origin(value).blob
    data = blob.array if blob is not None else value.content
    if data is None or data.size != 1:
        return None
    item = data.reshape(-1)[0]
    return int(item) if isinstance(item, int) or data.dtype.kind in "iu" else None
