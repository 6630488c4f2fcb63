"""Values, operations, regions and the graph that owns them.

A region is one line of operations in dependency order, closed by a `return`. What a region gives
back are ordinary operands of that `return`, so replacing the uses of a value replaces outputs too
and no pass needs an output case.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Union

import numpy as np

from leptonc.ir.blob import Blob
from leptonc.ir.diagnostics import LeptonBug
from leptonc.ir.dims import Dim, Expr, symbol
from leptonc.ir.location import UNKNOWN, Location

if TYPE_CHECKING:
    from leptonc.ir.table import OpDef
    from leptonc.ir.types import DType, TensorType

Attribute = Union[
    bool, int, float, str, tuple[int, ...], tuple[float, ...], tuple[str, ...], tuple[Dim, ...],
    Blob, "DType", None,
]  # fmt: skip
Content = np.ndarray[Any, np.dtype[np.object_]]
"""What a small integer tensor holds, as an array of extents (`Dim`)."""


class Use(NamedTuple):
    """One operand slot."""

    op: Op
    slot: int


class Value:
    """One tensor: an input of a region or one result of an operation."""

    __slots__ = ("_uses", "content", "name", "owner", "producer", "type")

    def __init__(self, type: TensorType, name: str = "", producer: Op | None = None) -> None:
        self.type = type
        self.name = name
        self.producer = producer
        self.owner: Region | None = None
        """The region whose input this is, for values without a producer."""
        self.content: Content | None = None
        """The elements as extents, where this is a small integer tensor known that far."""
        self._uses: dict[Use, None] = {}

    @property
    def uses(self) -> tuple[Use, ...]:
        """Every operand slot that reads this value, in the order the slots were filled."""
        return tuple(self._uses)

    @property
    def users(self) -> tuple[Op, ...]:
        """The distinct operations that read this value."""
        return tuple(dict.fromkeys(use.op for use in self._uses))

    @property
    def use_count(self) -> int:
        """How many operand slots read this value."""
        return len(self._uses)

    @property
    def only_user(self) -> Op | None:
        """The operation that reads this value, in whatever slots, where there is just one."""
        first = next(iter(self._uses), None)
        if first is None or any(use.op is not first.op for use in self._uses):
            return None
        return first.op

    @property
    def is_used(self) -> bool:
        """True while something reads this value."""
        return bool(self._uses)

    @property
    def blob(self) -> Blob | None:
        """The data, where this is a compile-time constant."""
        op = self.producer
        if op is None or op.definition.name != "const":
            return None
        blob = op.attrs["value"]
        return blob if isinstance(blob, Blob) else None

    def replace_uses_with(self, other: Value) -> None:
        """Make every reader of this value read `other`."""
        for use in self.uses:
            use.op.set_operand(use.slot, other)

    def __repr__(self) -> str:
        return f"%{self.name or '?'}: {self.type}"


class Op:
    """One operation: what it computes, what it reads, what it defines.

    `operand_names[i]` says which operand of the definition slot `i` fills; optional operands are
    absent, the parts of a variadic one carry the same name.
    """

    __slots__ = (
        "_next", "_previous", "attrs", "definition", "location", "operand_names", "operands",
        "region", "regions", "results",
    )  # fmt: skip

    def __init__(
        self,
        definition: OpDef,
        operands: Sequence[Value],
        result_types: Sequence[TensorType],
        *,
        operand_names: Sequence[str] | None = None,
        attrs: Mapping[str, Attribute] | None = None,
        regions: Sequence[Region] = (),
        location: Location = UNKNOWN,
    ) -> None:
        self.definition = definition
        self.operand_names = definition.slot_names(len(operands), operand_names)
        self.attrs = dict(attrs or {})
        self.location = location
        self.region: Region | None = None
        self._previous: Op | None = None
        self._next: Op | None = None
        self.regions = tuple(regions)
        for region in self.regions:
            region.parent = self
        self.operands: tuple[Value, ...] = tuple(operands)
        for slot, value in enumerate(self.operands):
            value._uses[Use(self, slot)] = None  # pyright: ignore[reportPrivateUsage]
        self.results = tuple(Value(type, producer=self) for type in result_types)

    @property
    def name(self) -> str:
        """The name of the operation's definition."""
        return self.definition.name

    @property
    def result(self) -> Value:
        """The only result."""
        (value,) = self.results
        return value

    @property
    def graph(self) -> Graph | None:
        """The graph this operation stands in, at any depth; None once erased."""
        return self.region.graph if self.region is not None else None

    def operand(self, name: str) -> Value | None:
        """The operand called `name`, or None where an optional one is absent."""
        try:
            return self.operands[self.operand_names.index(name)]
        except ValueError:
            return None

    def operands_called(self, name: str) -> tuple[Value, ...]:
        """All parts of a variadic operand."""
        pairs = zip(self.operand_names, self.operands, strict=True)
        return tuple(value for label, value in pairs if label == name)

    def int(self, name: str) -> int:
        """The integer attribute `name`."""
        value = self.attrs[name]
        if not isinstance(value, int):
            raise LeptonBug(f"{self.name}.{name} is {value!r}, not an integer", self.location)
        return value

    def float(self, name: str) -> float:
        """The number attribute `name`."""
        value = self.attrs[name]
        if not isinstance(value, int | float):
            raise LeptonBug(f"{self.name}.{name} is {value!r}, not a number", self.location)
        return float(value)

    def str(self, name: str) -> str:
        """The text attribute `name`."""
        value = self.attrs[name]
        if not isinstance(value, str):
            raise LeptonBug(f"{self.name}.{name} is {value!r}, not text", self.location)
        return value

    def ints(self, name: str) -> tuple[int, ...]:
        """The attribute `name`, a tuple of integers; empty where it is absent."""
        value = self.attrs.get(name)
        if value is None:
            return ()
        if isinstance(value, tuple) and all(isinstance(item, int) for item in value):
            return value  # pyright: ignore[reportReturnType]
        raise LeptonBug(f"{self.name}.{name} is {value!r}, not integers", self.location)

    def set_operand(self, slot: int, value: Value) -> None:
        """Read `value` in `slot`."""
        self.operands[slot]._uses.pop(Use(self, slot))  # pyright: ignore[reportPrivateUsage]
        value._uses[Use(self, slot)] = None  # pyright: ignore[reportPrivateUsage]
        self.operands = (*self.operands[:slot], value, *self.operands[slot + 1 :])
        self._touch()

    def set_operands(self, operands: Sequence[Value], names: Sequence[str] | None = None) -> None:
        """Read `operands` and nothing else."""
        self._drop_operands()
        self.operand_names = self.definition.slot_names(len(operands), names)
        self.operands = tuple(operands)
        for slot, value in enumerate(self.operands):
            value._uses[Use(self, slot)] = None  # pyright: ignore[reportPrivateUsage]
        self._touch()

    def set_attr(self, name: str, value: Attribute) -> None:
        """Give attribute `name` another value."""
        self.attrs[name] = value
        self._touch()

    def _drop_operands(self) -> None:
        for slot, value in enumerate(self.operands):
            value._uses.pop(Use(self, slot))  # pyright: ignore[reportPrivateUsage]
        self.operands = ()
        self.operand_names = ()

    def _touch(self) -> None:
        graph = self.graph
        if graph is not None:
            graph.version += 1

    def __repr__(self) -> str:
        return f"<{self.name} {self.location}>"


class Region:
    """Inputs, and a doubly linked line of operations ending in `return`.

    Insertion and removal are O(1). A region of `if`, `loop` or `scan` may read values of the
    regions around it; a region of `group` reads its own inputs only.
    """

    def __init__(self, inputs: Iterable[Value] = (), parent: Op | None = None) -> None:
        self.inputs: tuple[Value, ...] = tuple(inputs)
        for value in self.inputs:
            value.owner = self
        self.parent = parent
        self._first: Op | None = None
        self._last: Op | None = None
        self._count = 0

    @property
    def graph(self) -> Graph | None:
        """The graph around this region."""
        region: Region | None = self
        while region is not None and region.parent is not None:
            region = region.parent.region
        return region if isinstance(region, Graph) else None

    @property
    def terminator(self) -> Op:
        """The closing `return`."""
        if self._last is None or self._last.definition.name != "return":
            raise LeptonBug("the region does not end in return")
        return self._last

    @property
    def last(self) -> Op | None:
        """The last operation, whatever it is."""
        return self._last

    @property
    def outputs(self) -> tuple[Value, ...]:
        """What the closing `return` reads."""
        return self.terminator.operands

    def __iter__(self) -> Iterator[Op]:
        """The operations that stand here now, leaving out those erased on the way."""
        ops: list[Op] = []
        op = self._first
        while op is not None:
            ops.append(op)
            op = op._next  # pyright: ignore[reportPrivateUsage]
        return (op for op in ops if op.region is self)

    def __reversed__(self) -> Iterator[Op]:
        return (op for op in reversed(list(self)) if op.region is self)

    def __len__(self) -> int:
        return self._count

    def walk(self) -> Iterator[Op]:
        """All operations, those of nested regions after the one that holds them."""
        for op in self:
            yield op
            for region in op.regions:
                yield from region.walk()

    def add_input(self, value: Value) -> Value:
        """Give the region one more input, the last."""
        self.inputs = (*self.inputs, value)
        value.owner = self
        self._touch()
        return value

    def remove_input(self, value: Value) -> None:
        """Take away an input that nothing reads."""
        if value.is_used:
            raise LeptonBug(f"removing input {value.name!r} that is still read")
        self.inputs = tuple(other for other in self.inputs if other is not value)
        value.owner = None
        self._touch()

    def append(self, op: Op) -> Op:
        """Put `op` at the end."""
        op._previous = self._last  # pyright: ignore[reportPrivateUsage]
        op._next = None  # pyright: ignore[reportPrivateUsage]
        if self._last is None:
            self._first = op
        else:
            self._last._next = op  # pyright: ignore[reportPrivateUsage]
        self._last = op
        return self._adopt(op)

    def insert_before(self, anchor: Op, op: Op) -> Op:
        """Put `op` right before `anchor`."""
        if anchor.region is not self:
            raise LeptonBug(f"{anchor.name} does not stand in this region", anchor.location)
        before = anchor._previous  # pyright: ignore[reportPrivateUsage]
        op._previous, op._next = before, anchor  # pyright: ignore[reportPrivateUsage]
        anchor._previous = op  # pyright: ignore[reportPrivateUsage]
        if before is None:
            self._first = op
        else:
            before._next = op  # pyright: ignore[reportPrivateUsage]
        return self._adopt(op)

    def move_before(self, anchor: Op, op: Op) -> None:
        """Take `op` from where it stands and put it right before `anchor`."""
        assert op.region is not None
        op.region._unlink(op)
        self.insert_before(anchor, op)

    def erase(self, op: Op) -> None:
        """Remove `op`, whose results nothing reads any more, and everything inside it."""
        if op.region is not self:
            raise LeptonBug(f"erasing {op.name} that does not stand in this region", op.location)
        if any([result.is_used for result in op.results]):
            raise LeptonBug(f"erasing {op.name} whose result is still read", op.location)
        for region in op.regions:
            for inner in reversed(region):
                region.erase(inner)
        self._unlink(op)
        op._drop_operands()  # pyright: ignore[reportPrivateUsage]
        self._touch()

    def _adopt(self, op: Op) -> Op:
        op.region = self
        self._count += 1
        self._touch()
        return op

    def _unlink(self, op: Op) -> None:
        before, after = op._previous, op._next  # pyright: ignore[reportPrivateUsage]
        if before is None:
            self._first = after
        else:
            before._next = after  # pyright: ignore[reportPrivateUsage]
        if after is None:
            self._last = before
        else:
            after._previous = before  # pyright: ignore[reportPrivateUsage]
        op._previous = op._next = None  # pyright: ignore[reportPrivateUsage]
        op.region = None
        self._count -= 1

    def _touch(self) -> None:
        graph = self.graph
        if graph is not None:
            graph.version += 1


class Graph(Region):
    """A model: the outermost region, with a name and names for its outputs.

    `version` grows with every change, so a driver can tell whether a pass changed anything
    without asking the pass.
    """

    def __init__(
        self, name: str, inputs: Iterable[Value] = (), output_names: Iterable[str] = ()
    ) -> None:
        self.version = 0
        super().__init__(inputs)
        self.name = name
        self.output_names: tuple[str, ...] = tuple(output_names)
        self.metadata: dict[str, str] = {}
        """What the model says about itself (producer, doc string, custom properties)."""
        self._fresh = 0

    def fresh_dim(self) -> Expr:
        """A new symbol for an extent that only run time can tell."""
        self._fresh += 1
        return symbol(f"u{self._fresh}_")

    def reserve_dims(self, count: int) -> None:
        """Make later fresh symbols differ from those up to `count` (used by the parser)."""
        self._fresh = max(self._fresh, count)
