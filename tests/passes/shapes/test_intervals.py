"""What is said of integers holds of the integers, on random graphs of arithmetic and moves."""

from __future__ import annotations

import random
from collections.abc import Mapping

import numpy as np
import pytest

from leptonc.ir.blob import Array, Blob
from leptonc.ir.build import Builder
from leptonc.ir.diagnostics import LeptonError
from leptonc.ir.dims import substitute, symbol
from leptonc.ir.graph import Graph, Value
from leptonc.ir.interpret import interpret
from leptonc.ir.table import DIMS
from leptonc.ir.types import DType, TensorType
from leptonc.passes.context import PassContext
from leptonc.passes.manager import PassManager
from leptonc.passes.shapes.interval import Known
from leptonc.passes.shapes.propagate_ranges import PropagateRanges, Propagation

ARITHMETIC = ("add", "sub", "mul", "min", "max", "div", "mod")
FUNCTIONS = (
    "neg", "abs", "relu", "sqrt", "log", "exp", "floor", "ceil", "round", "sigmoid", "tanh", "sin",
    "sign", "identity",
)  # fmt: skip
COMPARISONS = ("equal", "less", "less_or_equal", "greater", "greater_or_equal")
DTYPES = (DType.I64, DType.I32, DType.I8, DType.U8)
N = symbol("n")


class _Maker:
    """Makes a random graph, each value of rank 2 with the extents 1, 3 or n."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.dtype = self.random.choice(DTYPES)
        self.x = Value(TensorType(self.dtype, (3, N)), "x")
        self.graph = Graph("random", [self.x])
        self.build = Builder(self.graph)
        self.values: list[Value] = [self.x, self._constant(), self._counted()]

    def made(self) -> Graph:
        for _ in range(14):
            self._step()
        kept = self.values[1:]
        self.graph.output_names = tuple(f"y{place}" for place in range(len(kept)))
        self.build.return_(*kept)
        return self.graph

    def _constant(self) -> Value:
        low, high = (-4, 5) if self.dtype.is_signed else (0, 5)
        shape = self.random.choice([(1, 1), (3, 1), (1, 1)])
        numbers = [self.random.randint(low, high) for _ in range(shape[0])]
        return self.build.const(Blob.of(np.array(numbers, self.dtype.numpy).reshape(shape)))

    def _counted(self) -> Value:
        zero, one = (self.build.const(np.array(k, np.int64)) for k in (0, 1))
        count = self.build.op(DIMS, [], {"value": (N,), "shape": ()}).result
        row = self.build.cast(self.build.range(zero, count, one), to=self.dtype)
        shape = self.random.choice([(1, -1), (-1, 1)])
        return self.build.reshape(row, self.build.const(np.array(shape, np.int64)))

    def _step(self) -> None:
        kind = self.random.choice(
            [self._binary, self._binary, self._moved, self._compared, self._unary, self._constant,
             self._by_floats, self._more, self._chosen]
        )  # fmt: skip
        try:
            value = kind()
        except LeptonError:
            return  # the operands do not fit
        if value.type.rank == 2 and all(dim in (1, 3, N) for dim in value.type.shape):
            self.values.append(value)

    def _operand(self, *, truth: bool = False) -> Value:
        wanted = DType.BOOL if truth else self.dtype
        found = [value for value in self.values if value.type.dtype is wanted]
        return self.random.choice(found or [self.x])

    def _binary(self) -> Value:
        name = self.random.choice(ARITHMETIC)
        if name in ("div", "mod"):
            by = np.array([[self.random.randint(1, 4)]], self.dtype.numpy)
            return getattr(self.build, name)(self._operand(), self.build.const(by))
        return getattr(self.build, name)(self._operand(), self._operand())

    def _unary(self) -> Value:
        if self.dtype.is_signed and self.random.random() < 0.5:
            return getattr(self.build, self.random.choice(["neg", "abs"]))(self._operand())
        limits = [self.build.const(np.array(k, self.dtype.numpy)) for k in (0, 2)]
        return self.build.clip(self._operand(), min=limits[0], max=limits[1])

    def _compared(self) -> Value:
        if self.random.random() < 0.6:
            name = self.random.choice(COMPARISONS)
            return getattr(self.build, name)(self._operand(), self._operand())
        truth = self._operand(truth=True)
        if self.random.random() < 0.5:
            return self.build.where(truth, self._operand(), self._operand())
        name = self.random.choice(["and_", "or_", "xor"])
        return getattr(self.build, name)(truth, self._operand(truth=True))

    def _chosen(self) -> Value:
        """Different numbers by a comparison of what they are computed of."""
        x, bound, build = self._operand(), self._constant(), self.build
        condition = getattr(build, self.random.choice(COMPARISONS))(x, bound)
        if self.random.random() < 0.3:
            condition = build.not_(condition)
        parts = [self._by_floats(x), build.sub(x, self._constant()), x, self._operand()]
        return build.where(condition, *self.random.sample(parts, 2))

    def _by_floats(self, x: Value | None = None) -> Value:
        build = self.build
        made = build.cast(x or self._operand(), to=self.random.choice((DType.F32, DType.F64)))
        for _ in range(self.random.randint(0, 3)):
            number = build.const(
                np.array(self.random.choice((-2.5, -0.3, 0.125, 1.0, 7.5)), made.type.dtype.numpy)
            )
            name = self.random.choice(("add", "sub", "mul", "div", "min", "max"))
            pair = [made, number]
            if name != "div":
                self.random.shuffle(pair)
            made = build.op(name, pair).result
            made = build.op(self.random.choice(FUNCTIONS), [made]).result
        return build.cast(made, to=self.dtype)

    def _more(self) -> Value:
        x, build = self._operand(), self.build
        axis = build.const(np.array([self.random.randint(0, 1)], np.int64))
        match self.random.randint(0, 3):
            case 0:
                name = self.random.choice(("reduce_sum", "reduce_max", "reduce_min"))
                return build.op(name, [x, axis]).result
            case 1:
                name = self.random.choice(("bitwise_and", "bitwise_or", "bitwise_xor"))
                return build.op(name, [x, self._operand()]).result
            case 2:
                shape = build.op(DIMS, [], {"value": (3, N), "shape": (2,)}).result
                number = Blob.of(np.array([self.random.randint(0, 5)], self.dtype.numpy))
                return build.constant_of_shape(shape, value=number)
            case _:
                return build.sign(x)

    def _moved(self) -> Value:
        x, build = self._operand(), self.build
        row = [build.const(np.array([k], np.int64)) for k in (0, 1, 3)]
        match self.random.randint(0, 5):
            case 0:
                return build.transpose(x, perm=(1, 0))
            case 1:
                axis = self.random.randint(0, 1)
                return build.slice(x, row[0], row[1], axes=row[axis], steps=row[1])
            case 2:
                return build.cum_sum(x, build.const(np.array(1, np.int64)), exclusive=1)
            case 3:
                shape = build.op(DIMS, [], {"value": (3, N), "shape": (2,)}).result
                return build.expand(x, shape)
            case 4:
                axis = self.random.randint(0, 1)
                joined = build.concat(x, self._operand(), axis=axis)
                return build.slice(joined, row[0], row[2], axes=row[axis], steps=row[1])
            case _:
                places = build.const(np.array([[0], [0], [0]], np.int64))
                return build.reshape(
                    build.gather(x, places, axis=0), build.const(np.array([3, -1], np.int64))
                )


def _holds(known: Known, got: Array, count: int) -> bool:
    if got.size == 0:
        return True
    if int(got.min()) < known.low or int(got.max()) > known.high:
        return False
    if known.base is None:
        return True
    base = substitute(known.base, {"n": count})
    return all(
        int(number) == base + sum(at * step for at, step in zip(place, known.steps, strict=True))
        for place, number in np.ndenumerate(got)
    )


def _run(graph: Graph, feeds: Mapping[str, Array]) -> dict[str, Array] | None:
    """The outputs; None where extents of the inputs do not fit each other."""
    try:
        return interpret(graph, feeds)
    except (LeptonError, ValueError):
        return None


def _inputs(graph: Graph, seed: int, count: int) -> Array:
    dtype = graph.inputs[0].type.dtype.numpy
    info = np.iinfo(dtype)
    generator = np.random.default_rng(seed)
    numbers = generator.integers(-3, 9, (3, count))
    extreme = np.where(generator.random((3, count)) < 0.3, info.min, info.max)
    chosen: Array = np.where(generator.random((3, count)) < 0.7, numbers, extreme)
    return chosen.astype(dtype)


@pytest.mark.parametrize("seed", range(120))
def test_what_is_known_is_true(seed: int) -> None:
    graph = _Maker(seed).made()
    walk = Propagation(graph, PassContext())
    for op in list(graph):
        if op.results:
            walk.learn(op)
    known = [walk.facts(value) for value in graph.outputs]
    runs: list[tuple[dict[str, Array], dict[str, Array]]] = []
    for count in (0, 1, 2, 3, 7):
        feeds = {"x": _inputs(graph, seed, count)}
        results = _run(graph, feeds)
        if results is None:
            continue
        runs.append((feeds, results))
        for fact, (name, got) in zip(known, results.items(), strict=True):
            assert _holds(fact, got, count), (name, fact, got)
    PassManager([PropagateRanges()]).run(graph)
    for feeds, results in runs:
        for name, got in interpret(graph, feeds).items():
            np.testing.assert_array_equal(got, results[name])
