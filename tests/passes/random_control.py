"""Random steps that make choices and loops, with captures, dead values and others inside."""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np
from hypothesis import strategies as st

from leptonc.ir.build import Builder
from leptonc.ir.graph import Graph, Region, Value
from leptonc.ir.types import DType, TensorType


def _number(name: str) -> Value:
    return Value(TensorType(DType.I64, ()), name)


def _truth(name: str) -> Value:
    return Value(TensorType(DType.BOOL, ()), name)


class ControlSteps(ABC):
    """Steps of a growing graph that hold regions."""

    draw: st.DrawFn
    graph: Graph
    build: Builder
    values: list[Value]

    @abstractmethod
    def value(self, rank: int | None = None) -> Value:
        """One of the values so far."""

    @abstractmethod
    def ints(self, *numbers: int) -> Value:
        """A constant row of integers."""

    @abstractmethod
    def computed(self, *numbers: int) -> Value:
        """A row of integers that no pass can know."""

    def condition(self) -> Value:
        """A truth that no pass knows, as a scalar or as a row of one."""
        largest = self.build.reduce_max(self.values[0], keepdims=0)
        holds = self.build.greater(largest, self.build.const(np.zeros((), np.float32)))
        return self.build.reshape(holds, self.ints(1)) if self.draw(st.booleans()) else holds

    def choose(self) -> Value:
        """A choice between functions of values around it, some of them equal or not read."""
        source, other = self.value(), self.value()
        condition = self.condition()
        regions: list[Region] = []
        for _ in range(2):
            inner = self.inner()
            own = self.inside(inner, [source, other], self.draw(st.integers(1, 3)))
            last = inner.op(self.draw(st.sampled_from(("neg", "relu", "identity"))), [source])
            inner.return_(last.result, self.draw(st.sampled_from((source, *own))), source)
            regions.append(inner.region)
        made = self.build.op("if", [condition], regions=regions)
        return made.results[self.draw(st.integers(0, 2))]

    def inside(self, inner: Builder, values: list[Value], count: int) -> list[Value]:
        """Values of the type of the first of `values`, made inside a region of all of them."""
        made = [value for value in values if value.type == values[0].type]
        for _ in range(count):
            pair = [self.draw(st.sampled_from(made)) for _ in range(2)]
            kind = self.draw(st.integers(0, 3))
            if kind == 0:
                made.append(inner.op(self.draw(st.sampled_from(("neg", "tanh"))), pair[:1]).result)
            if kind == 1:
                made.append(inner.op(self.draw(st.sampled_from(("add", "max"))), pair).result)
            if kind == 2:
                made.append(inner.add(pair[0], inner.const(np.ones((), np.float32))))
            if kind == 3:
                made.append(self.within(inner, pair))
        return made

    def within(self, inner: Builder, pair: list[Value]) -> Value:
        """A small loop or choice inside a region."""
        first, second = pair
        if self.draw(st.booleans()):
            largest = inner.reduce_max(self.values[1], keepdims=0)
            condition = inner.greater(largest, inner.const(np.zeros((), np.float32)))
            regions = [self.inner(), self.inner()]
            for region, values in zip(regions, (pair, pair[::-1]), strict=True):
                region.return_(region.add(first, second), values[0])
            made = inner.op("if", [condition], regions=[each.region for each in regions])
        else:
            states = [Value(first.type, name) for name in ("r", "s")]
            turn, go = (
                Value(TensorType(DType.I64, ()), "j"),
                Value(TensorType(DType.BOOL, ()), "on"),
            )
            body = self.inner(turn, go, *states)
            kept = body.tanh(body.add(states[0], second))
            body.return_(go, kept, self.draw(st.sampled_from((kept, states[1], first))))
            names = ["max_trip", "carried", "carried"]
            limit = inner.const(np.array(self.draw(st.integers(0, 3))))
            made = inner.op("loop", [limit, first, first], names=names, regions=[body.region])
        return made.results[self.draw(st.integers(0, 1))]

    def repeat(self) -> Value:
        """A loop over values: what it carries, some of it in vain, or what it collects."""
        source, build = self.value(), self.build
        states = [Value(source.type, name) for name in ("p", "q", "o")]
        number, go = _number("i"), _truth("go")
        inner = self.inner(number, go, *states)
        made = self.inside(inner, [source, *states, self.value()], self.draw(st.integers(1, 4)))
        new = inner.tanh(inner.add(made[-1], inner.cast(number, to=DType.F32)))
        given = [self.draw(st.sampled_from((*states, new, *made))) for _ in range(3)]
        inner.return_(self.again(inner, number, go), new, *given[:2], inner.neg(new), given[2])
        count = self.draw(st.integers(0, 3))
        limit = self.computed(count) if self.draw(st.booleans()) else self.ints(count)
        starts = [source, self.draw(st.sampled_from((source, build.neg(source)))), source]
        names = ["max_trip", *["carried"] * 3]
        operands = [limit, *starts]
        if self.draw(st.booleans()):
            names, operands = [*names, "cond"], [*operands, self.condition()]
        results = build.op("loop", operands, names=names, regions=[inner.region]).results
        return results[self.draw(st.integers(0, 4))]

    def again(self, inner: Builder, number: Value, go: Value) -> Value:
        """The condition of a loop: always true, or false at some turn."""
        kind = self.draw(st.integers(0, 3))
        if kind == 0:
            return inner.const(np.array(True))
        if kind == 1:
            one, limit = (inner.const(np.array(n)) for n in (1, self.draw(st.integers(1, 3))))
            return inner.less(inner.add(number, one), limit)
        return inner.not_(inner.not_(go)) if kind == 2 else go

    def scan(self) -> Value:
        """A scan over values, along other axes and from either end."""
        source, build = self.value(), self.build
        states = [Value(source.type, "p"), Value(source.type, "o")]
        parts = [Value(source.type.with_shape(*source.type.shape[:-1]), name) for name in "qt"]
        inner = self.inner(*states, *parts)
        made = self.inside(inner, [*states, source], self.draw(st.integers(0, 2)))
        inner.return_(inner.neg(states[0]), made[-1], inner.abs(parts[0]), inner.abs(parts[0]))
        back = self.draw(st.integers(0, 1))
        attrs = {
            "num_scan_inputs": 2, "scan_input_axes": (-1, -1),
            "scan_input_directions": (back, 0),
            "scan_output_axes": (self.draw(st.sampled_from((0, -1))), 0),
            "scan_output_directions": (1 - back, 0),
        }  # fmt: skip
        made = build.op("scan", [source] * 4, attrs, regions=[inner.region])
        return made.results[self.draw(st.integers(0, 3))]

    def inner(self, *inputs: Value) -> Builder:
        """A builder of a region with these inputs."""
        return Builder(Region(inputs), graph=self.graph)
