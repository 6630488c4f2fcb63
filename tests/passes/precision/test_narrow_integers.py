"""Integers computed in 32 bits are those that 64 bits give, up to the ends of what these hold."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest

import leptonc
from leptonc.ir.blob import Array
from leptonc.ir.build import Builder
from leptonc.ir.diagnostics import LeptonError
from leptonc.ir.dims import symbol
from leptonc.ir.graph import Graph, Value
from leptonc.ir.interpret import interpret
from leptonc.ir.table import DIMS
from leptonc.ir.text import parse_graph, print_graph
from leptonc.ir.types import DType, TensorType
from leptonc.ir.verify import verify
from leptonc.passes.context import PassContext
from leptonc.passes.precision.narrow_integers import NarrowIntegers

SOURCES = (DType.I8, DType.U8, DType.I16, DType.U16, DType.I32, DType.I64, DType.F32)
CONSTANTS = (
    0, 1, 2, 3, 8, 255, 32767, 32768, 65536, 65537, 2**31 - 1, 2**31, 2**31 + 1, 2**32,
)  # fmt: skip
COMPARISONS = ("equal", "less", "less_or_equal", "greater", "greater_or_equal")
N = symbol("n")


class _Maker:
    """Makes a random graph of 64-bit integers of the shapes [3,n], [3,1] and [1,n]."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.dtype = self.random.choice((DType.I64, DType.I64, DType.U64))
        chosen = self.random.sample(SOURCES, 3)
        self.inputs = [
            Value(TensorType(dtype, (3, N)), f"x{place}") for place, dtype in enumerate(chosen)
        ]
        self.graph = Graph("random", self.inputs)
        self.build = Builder(self.graph)
        self.wide = [self._constant(), self._places(), *map(self._converted, self.inputs)]
        self.others: list[Value] = []

    def made(self) -> Graph:
        for _ in range(self.random.randint(4, 16)):
            self._step()
        kept = [*self.random.sample(self.wide[2:], 1), *self.others[-4:]]
        self.graph.output_names = tuple(f"y{place}" for place in range(len(kept)))
        self.build.return_(*kept)
        return self.graph

    def _number(self, number: int) -> Value:
        known = number % 2**64 if self.dtype is DType.U64 else number
        return self.build.const(np.array([[known]], self.dtype.numpy))

    def _constant(self) -> Value:
        sign = self.random.choice((1, -1)) if self.dtype is DType.I64 else 1
        return self._number(sign * self.random.choice(CONSTANTS))

    def _places(self) -> Value:
        zero, one = (self.build.const(np.array(k, np.int64)) for k in (0, 1))
        count = self.build.op(DIMS, [], {"value": (N,), "shape": ()}).result
        row = self.build.cast(self.build.range(zero, count, one), to=self.dtype)
        return self.build.unsqueeze(row, self.build.const(np.array([0], np.int64)))

    def _converted(self, value: Value) -> Value:
        if value.type.dtype.is_float:  # numbers that are none are converted to others everywhere
            limits = [self.build.const(np.array(k, np.float32)) for k in (0, 900)]
            value = self.build.where(self.build.is_nan(value), limits[0], value)
            value = self.build.clip(value, min=limits[0], max=limits[1])
        return self.build.cast(value, to=self.dtype)

    def _step(self) -> None:
        steps = (self._binary, self._binary, self._unary, self._moved, self._chosen, self._reduced)
        try:
            value = self.random.choice((*steps, self._shown, self._by_floats))()
        except LeptonError:
            return  # the operands do not fit
        kept = self.wide if value.type.dtype is self.dtype and value.type.rank == 2 else self.others
        kept.append(value)

    def _operand(self) -> Value:
        return self.random.choice((self.wide[-1], self.random.choice(self.wide)))

    def _binary(self) -> Value:
        name = self.random.choice(("add", "sub", "mul", "min", "max", "div", "mod", "bitwise_and"))
        second = self._constant() if self.random.random() < 0.6 else self._operand()
        pair = [self._operand(), second]
        self.random.shuffle(pair)
        return self.build.op(name, pair).result

    def _unary(self) -> Value:
        if self.dtype is DType.I64 and self.random.random() < 0.7:
            name = self.random.choice(("neg", "abs", "sign"))
            return self.build.op(name, [self._operand()]).result
        low, high = sorted(self.random.sample(CONSTANTS, 2))
        limits = [self._number(low), self._number(high)]
        limits = [self.build.reshape(v, self.build.const(np.zeros(0, np.int64))) for v in limits]
        return self.build.clip(self._operand(), min=limits[0], max=limits[1])

    def _moved(self) -> Value:
        x, build = self._operand(), self.build
        row = [build.const(np.array([k], np.int64)) for k in (0, 1, 3)]
        match self.random.randint(0, 3):
            case 0:
                return build.slice(x, row[0], row[1], axes=row[0], steps=row[1])
            case 1:
                shape = build.op(DIMS, [], {"value": (3, N), "shape": (2,)}).result
                return build.expand(x, shape)
            case 2:
                places = build.const(np.array([2, 0, 1], np.int64))
                return build.gather(self.wide[2], places, axis=0)
            case _:
                joined = build.concat(x, self._operand(), axis=0)
                return build.slice(joined, row[0], row[2], axes=row[0], steps=row[1])

    def _compared(self) -> Value:
        second = self._constant() if self.random.random() < 0.6 else self._operand()
        return self.build.op(self.random.choice(COMPARISONS), [self._operand(), second]).result

    def _chosen(self) -> Value:
        condition = self._compared()
        if self.random.random() < 0.3:
            both = self.random.choice(("and", "or"))
            condition = self.build.op(both, [condition, self._compared()]).result
        if self.random.random() < 0.2:
            condition = self.build.op("not", [condition]).result
        return self.build.where(condition, self._operand(), self._operand())

    def _reduced(self) -> Value:
        axis = self.build.const(np.array([self.random.randint(0, 1)], np.int64))
        name = self.random.choice(("reduce_sum", "reduce_max", "reduce_min", "cum_sum"))
        attrs = {} if name == "cum_sum" else {"keepdims": 1}
        if name == "cum_sum":
            axis = self.build.reshape(axis, self.build.const(np.zeros(0, np.int64)))
        return self.build.op(name, [self._operand(), axis], attrs).result

    def _shown(self) -> Value:
        match self.random.randint(0, 2):
            case 0:
                return self._compared()
            case 1:
                to = self.random.choice((DType.F32, DType.F64, DType.BOOL, DType.I32, DType.U8))
                return self.build.cast(self._operand(), to=to)
            case _:
                table = self.build.const(np.arange(7, dtype=np.float32))
                seven = self._number(7)
                return self.build.gather(table, self.build.mod(self._operand(), seven))

    def _by_floats(self) -> Value:
        """A logarithm that is taken where it is of no number below one."""
        x = self._operand()
        small = self.build.op("less", [x, self._number(self.random.choice((1, 2, 8)))]).result
        whole = self.build.cast(self.build.log(self.build.cast(x, to=DType.F32)), to=self.dtype)
        made = self.build.add(whole, self._number(self.random.choice((0, 3, 2**31 - 24))))
        return self.build.where(small, self._operand(), made)


def _inputs(graph: Graph, seed: int, count: int) -> dict[str, Array]:
    generator = np.random.default_rng(seed)
    found: dict[str, Array] = {}
    for value in graph.inputs:
        dtype = value.type.dtype.numpy
        if value.type.dtype.is_float:
            found[value.name] = (generator.standard_normal((3, count)) * 500).astype(dtype)
            continue
        info = np.iinfo(dtype)
        numbers = generator.integers(0, 9, (3, count)).astype(dtype)
        ends = generator.choice(np.array([info.min, info.max], dtype), (3, count))
        found[value.name] = np.where(generator.random((3, count)) < 0.5, numbers, ends)
    return found


@pytest.mark.parametrize("block", range(4))
def test_random_graphs_keep_every_bit(block: int) -> None:
    """Most of them get narrow somewhere, and a second run finds nothing left."""
    changed = 0
    for seed in range(24 * block, 24 * (block + 1)):
        graph = _Maker(seed).made()
        verify(graph)
        before = print_graph(graph)
        feeds = [_inputs(graph, seed, count) for count in (0, 1, 5)]
        want = [_outputs(graph, each) for each in feeds]
        context = PassContext()
        NarrowIntegers(least=1).run(graph, context)
        verify(graph)
        for data, wanted in zip(feeds, want, strict=True):
            if wanted is None:
                continue
            for name, got in interpret(graph, data).items():
                np.testing.assert_array_equal(got, wanted[name], f"{name} of\n{before}")
        changed += bool(context.applied)
        after = print_graph(graph)
        NarrowIntegers(least=1).run(graph, PassContext())
        assert print_graph(graph) == after, before
    assert changed >= 8


def _outputs(graph: Graph, feeds: dict[str, Array]) -> dict[str, Array] | None:
    """What the graph gives; None where extents of these inputs do not fit each other."""
    try:
        return interpret(graph, feeds)
    except (LeptonError, ValueError):
        return None


COMPILED = """
graph @compiled(%x: u16[600], %k: i8[600]) -> (f: f32[600], g: f32[600], p: bool[600], t: i64[1]) {
  %a = const() {value = dense([32768])} : i64[]
  %b = const() {value = dense([32767])} : i64[]
  %three = const() {value = dense([3])} : i64[]
  %zero = const() {value = dense([0])} : i64[]
  %axes = const() {value = dense([0])} : i64[1]
  %w = cast(%x) {to = i64} : i64[600]
  %m = mul(%w, %a) : i64[600]
  %s = add(%m, %b) : i64[600]
  %f = cast(%s) {to = f32} : f32[600]
  %n = neg(%s) : i64[600]
  %c = cast(%k) {to = i64} : i64[600]
  %small = less(%c, %three) : bool[600]
  %l = cast(%c) {to = f32} : f32[600]
  %e = log(%l) : f32[600]
  %i = cast(%e) {to = i64} : i64[600]
  %j = sub(%i, %three) : i64[600]
  %v = where(%small, %n, %j) : i64[600]
  %q = div(%v, %three) : i64[600]
  %r = mod(%v, %three) : i64[600]
  %z = sub(%q, %r) : i64[600]
  %g = cast(%z) {to = f32} : f32[600]
  %p = less(%v, %zero) : bool[600]
  %h = mul(%c, %c) : i64[600]
  %t = reduce_sum(%h, axes=%axes) {keepdims = 1} : i64[1]
  return %f, %g, %p, %t
}
"""


def test_compiled_numbers_are_the_same(tmp_path: Path) -> None:
    """The largest and the smallest numbers, and logarithms of what has none, in vectors."""
    generator = np.random.default_rng(0)
    x = generator.choice(np.array([0, 1, 2, 65534, 65535], np.uint16), 600)
    k = generator.integers(-128, 128, 600).astype(np.int8)
    graph = parse_graph(COMPILED)
    want = interpret(graph, {"x": x, "k": k})
    context = PassContext()
    NarrowIntegers().run(parse_graph(COMPILED), context)
    assert context.applied
    got = leptonc.compile(graph, cache=tmp_path, isolated=False, threads=1).run({"x": x, "k": k})
    for name, array in want.items():
        assert got[name].dtype == array.dtype
        np.testing.assert_array_equal(got[name], array, name)
    assert want["f"].max() == np.float32(2**31 - 1)
