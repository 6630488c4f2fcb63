"""Random graphs around a given one: what feeds it, what else reads it, where it stands."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random

import numpy as np

from leptonc.ir.blob import Array, Blob
from leptonc.ir.build import Builder
from leptonc.ir.diagnostics import LeptonError
from leptonc.ir.dims import Dim, symbol
from leptonc.ir.graph import Graph, Region, Value
from leptonc.ir.table import CONST, RETURN
from leptonc.ir.types import DType, TensorType
from leptonc.passes.clone import clone_op
from tests.passes.retyping import retyped

READERS = ("abs", "neg", "relu", "identity", "tanh", "exp", "floor", "not", "transpose", "sqrt")
"""Operations of one operand that fit before or behind most values."""
SPECIAL = (float("nan"), float("inf"), -0.0, 0.0, 1.0, -1.0, 2.0, 0.5, 64.0, 1e-45)
EXTREMES = (1e-36, 1e-30, 1e-20, 1e-10, 1e10, 1e20, 1e30, 1e34, -1e30, 65000.0, 6e-5)
"""Numbers that take what is computed to the ends of what can be represented."""

OTHER_TYPES = {
    DType.F32: (DType.F16, DType.F64, DType.I32, DType.I64, DType.BF16, DType.U8),
    DType.I64: (DType.I32,),
}


class Context:
    """A graph that grows around copies of other graphs."""

    def __init__(self, random: Random, neighbours: Sequence[Graph]) -> None:
        self.random, self.neighbours = random, neighbours
        self.graph = Graph("context")
        self.build = Builder(self.graph)
        self.values: list[Value] = []
        self.outputs: list[Value] = []

    def place(self, part: Graph) -> None:
        """Put a copy of `part` here, with random values for its inputs and more readers."""
        inputs = [self.source(value.type) for value in part.inputs]
        inside = self.random.random() < 0.15 and not _is_open(part)
        often = self.random.choice((0.0, 0.0, 0.1, 0.3))
        copies = self.in_branch(part, inputs) if inside else self.copied(part, inputs, self.build)
        results = [copies[value] for value in part.outputs]
        if self.random.random() < 0.2:
            shared = {value: copies[value] for value in copies if value.blob is not None}
            again = [self.source(value.type) for value in part.inputs]
            if not inside and not _is_open(part):
                results += self.copied(part, again, self.build, shared).values()
        for value in copies.values():
            if _region_of(value) is self.graph and self.random.random() < often:
                self.read(value)
        for value in results:
            self.read(value)

    def copied(
        self,
        part: Graph,
        inputs: Sequence[Value],
        build: Builder,
        shared: dict[Value, Value] | None = None,
    ) -> dict[Value, Value]:
        """What each value of `part` is in a copy of it that reads `inputs`."""
        self.graph.reserve_dims(part._fresh)  # pyright: ignore[reportPrivateUsage]
        values = dict(zip(part.inputs, inputs, strict=True))
        values.update(shared or {})
        for op in part:
            if op.definition is RETURN or (op.results and op.results[0] in (shared or {})):
                continue
            build.region.append(clone_op(op, values))
        return values

    def in_branch(self, part: Graph, inputs: Sequence[Value]) -> dict[Value, Value]:
        """The same, inside of a branch; only what `part` gives back can be read outside."""
        condition = self.graph.add_input(Value(TensorType(DType.BOOL, ()), self.name("cond")))
        regions: list[Region] = []
        inner = Builder(Region(), graph=self.graph)
        copies = self.copied(part, inputs, inner)
        inner.return_(*(copies[value] for value in part.outputs))
        other = Builder(Region(), graph=self.graph)
        other.return_(*(self.fresh(value.type) for value in part.outputs))
        regions = [inner.region, other.region]
        made = self.build.op("if", [condition], regions=regions)
        return dict(zip(part.outputs, made.results, strict=True))

    def name(self, stem: str) -> str:
        """A name that no input has yet."""
        return f"{stem}{len(self.graph.inputs)}"

    def fresh(self, type: TensorType) -> Value:
        """A new input."""
        return self.graph.add_input(Value(type, self.name("x")))

    def source(self, type: TensorType) -> Value:
        """A value of this type: an input, something computed, a constant, or one that is there."""
        kinds: list[Callable[[TensorType], Value | None]] = [
            self.fresh, self.known, self.computed, self.broadcast, self.from_neighbour,
            self.computed, self.constant,
        ]  # fmt: skip
        value = self.random.choice(kinds)(type)
        if value is None or value.type != type:
            value = self.fresh(type)
        self.values.append(value)
        return value

    def known(self, type: TensorType) -> Value | None:
        """A value that something else reads already."""
        fitting = [value for value in self.values if value.type == type]
        return self.random.choice(fitting) if fitting else None

    def computed(self, type: TensorType) -> Value | None:
        """What an operation makes of an input."""
        source = self.fresh(type.with_shape(*reversed(type.shape)))
        turned = self.tried("transpose", source) if type.rank > 1 else source
        if self.random.random() < 0.3:
            return turned
        return self.tried(self.random.choice(READERS[:-2]), self.fresh(type))

    def broadcast(self, type: TensorType) -> Value | None:
        """One row, or one element, repeated."""
        if not type.is_static or not type.rank:
            return None
        shape = [dim if self.random.random() < 0.5 else 1 for dim in type.extents]
        target = self.build.const(np.array(type.extents, np.int64))
        return self.tried("expand", self.fresh(type.with_shape(*shape)), target)

    def constant(self, type: TensorType) -> Value | None:
        """A constant."""
        if not type.is_static or type.dtype is DType.STR or type.dtype.numpy.kind == "c":
            return None
        return self.build.const(Blob.random(self.random.randrange(4), type))

    def from_neighbour(self, type: TensorType) -> Value | None:
        """What another rule's graph gives."""
        fitting = [
            (graph, value) for graph in self.neighbours for value in graph.outputs
            if value.type == type and not _is_open(graph)
        ]  # fmt: skip
        if not fitting:
            return None
        graph, value = self.random.choice(fitting)
        inputs = [self.fresh(each.type) for each in graph.inputs]
        return self.copied(graph, inputs, self.build)[value]

    def tried(self, name: str, *operands: Value) -> Value | None:
        """The result of an operation, or None where it does not take such operands."""
        try:
            return self.build.op(name, operands).results[0]
        except LeptonError:
            return None

    def read(self, value: Value) -> None:
        """Give `value` back, or something that reads it, or both."""
        kind = self.random.randrange(4)
        if kind != 0:
            self.outputs.append(value)
        if kind != 1:
            made = self.behind(value) if kind == 2 else None
            made = made or self.tried(self.random.choice(READERS), value)
            self.outputs.append(made or value)

    def behind(self, value: Value) -> Value | None:
        """What another rule's graph makes of `value`."""
        fitting = [
            (graph, each) for graph in self.neighbours for each in graph.inputs
            if each.type == value.type and not _is_open(graph)
        ]  # fmt: skip
        if not fitting:
            return None
        graph, reader = self.random.choice(fitting)
        inputs = [value if each is reader else self.fresh(each.type) for each in graph.inputs]
        return self.copied(graph, inputs, self.build)[graph.outputs[0]]

    def finish(self) -> Graph:
        """The graph, closed."""
        outputs = list(dict.fromkeys(self.outputs))
        self.graph.output_names = tuple(f"y{index}" for index in range(len(outputs)))
        self.build.return_(*outputs)
        for value in self.graph.inputs:
            if not value.is_used:
                self.graph.remove_input(value)
        return self.graph


def _region_of(value: Value) -> Region | None:
    return value.producer.region if value.producer is not None else value.owner


def _is_open(graph: Graph) -> bool:
    """True where extents are known at run time only, whose names must not be used twice."""
    return graph._fresh > 0 or any(op.name == "extents" for op in graph)  # pyright: ignore[reportPrivateUsage]


def around(part: Graph, neighbours: Sequence[Graph], random: Random) -> Graph:
    """`part` in a random context, perhaps with other types and other constants."""
    context = Context(random, neighbours)
    context.place(_with_other_constants(_varied(part, random), random))
    return context.finish()


def _varied(part: Graph, random: Random) -> Graph:
    kind = random.randrange(6)
    if kind > 2:
        return part
    dims = _other_extents(part, random) if kind != 1 else {}
    dtypes = _other_dtypes(part, random) if kind != 0 else {}
    return retyped(part, dims, dtypes) or part


def _other_extents(part: Graph, random: Random) -> dict[Dim, Dim]:
    dims = [
        dim for value in part.inputs for dim in value.type.shape
    ]  # fmt: skip
    if not dims:
        return {}
    replacement: Dim = random.choice((0, 0, 1, 3, 5, 7, symbol("k")))
    return {random.choice(dims): replacement}


def _other_dtypes(part: Graph, random: Random) -> dict[DType, DType]:
    found = sorted({value.type.dtype for value in part.inputs}, key=str)
    choices = [dtype for dtype in found if dtype in OTHER_TYPES]
    if not choices:
        return {}
    dtype = random.choice(choices)
    return {dtype: random.choice(OTHER_TYPES[dtype])}


def is_wide_ranging(graph: Graph) -> bool:
    """True where constants are so large or small that an order of computing may overflow."""
    for op in graph.walk():
        blob = op.results[0].blob if op.definition is CONST else None
        if blob is not None and blob.type.dtype.is_float:
            size = np.abs(blob.array.astype(np.float64))
            if ((size > 1e4) & np.isfinite(size)).any() or ((size < 1e-4) & (size > 1e-38)).any():
                return True
    return False


def with_all_values(graph: Graph) -> Graph:
    """A copy that gives back all that is computed outside of regions."""
    inputs = [Value(value.type, value.name) for value in graph.inputs]
    values = [value for op in graph if op.definition is not RETURN for value in op.results]
    whole = Graph(graph.name, inputs, tuple(f"v{index}" for index in range(len(values))))
    whole.reserve_dims(graph._fresh)  # pyright: ignore[reportPrivateUsage]
    copies = dict(zip(graph.inputs, inputs, strict=True))
    for op in graph:
        if op.definition is not RETURN:
            whole.append(clone_op(op, copies))
    Builder(whole).return_(*(copies[value] for value in values))
    return whole


def _with_other_constants(part: Graph, random: Random) -> Graph:
    """A copy of `part` of which one constant of floats, or of numbers computed with, differs."""
    values: dict[Value, Value] = {}
    inputs = [Value(value.type, value.name) for value in part.inputs]
    copy = Graph(part.name, inputs, part.output_names)
    copy.reserve_dims(part._fresh)  # pyright: ignore[reportPrivateUsage]
    values.update(zip(part.inputs, inputs, strict=True))
    for op in part:
        made = copy.append(clone_op(op, values))
        blob = op.results[0].blob if op.definition is CONST else None
        if blob is not None and blob.type.dtype.is_float and random.random() < 0.2:
            made.attrs["value"] = Blob.of(_changed(blob.array, random))
    return copy


def _changed(data: Array, random: Random) -> Array:
    generator = np.random.default_rng(random.randrange(1000))
    with np.errstate(all="ignore"):
        if random.random() < 0.5:
            chosen = generator.choice(np.array(SPECIAL[2:8]), data.shape)
            kept: Array = np.asarray(generator.integers(0, 2, data.shape), bool)
            return np.where(kept, data, chosen).astype(data.dtype)
        number = random.choice(random.choice((SPECIAL, EXTREMES)))
        return np.full(data.shape, number).astype(data.dtype)
