"""Random valid graphs over the operation table."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from hypothesis import assume
from hypothesis import strategies as st

from leptonc.ir.blob import Blob
from leptonc.ir.build import Builder
from leptonc.ir.diagnostics import LeptonError
from leptonc.ir.dims import Dim, symbol
from leptonc.ir.graph import Graph, Value
from leptonc.ir.interpret import interpret
from leptonc.ir.table import OpDef, Trait, all_ops
from leptonc.ir.types import DType, TensorType
from leptonc.passes.check_numbers import random_feeds
from tests.passes.random_control import ControlSteps

QUANTIZED = (DType.U8, DType.I4, DType.U2, DType.F8E4M3FN, DType.F8E5M2FNUZ, DType.F4E2M1)
NUMBERS = (0.0, -0.0, 1.0, -1.0, 2.0, 0.5, 3.0, 1.5)
SPECIAL = (float("inf"), float("nan"), 1e-40, 3e38)
INTEGERS = (DType.I64, DType.I32, DType.I8, DType.U8)
SMOOTH = (
    "add", "sub", "mul", "neg", "tanh", "sigmoid", "relu", "sin", "cos", "erf", "gelu", "softplus",
    "identity", "swish", "sum", "mean", "abs", "max", "min",
)  # fmt: skip
"""Operations that make of a small change of their operands a small change of their result."""


def elementwise_rows() -> list[OpDef]:
    """The rows of the table that take f32 tensors and need no attributes."""
    rows = [
        row for row in all_ops().values()
        if row.has(Trait.ELEMENTWISE) and not any(attr.required for attr in row.attrs.values())
    ]  # fmt: skip
    return sorted(rows, key=lambda row: row.name)


def known(dim: Dim) -> int:
    """An extent that is a number; a step that needs one and has none is left out."""
    if not isinstance(dim, int):
        raise LeptonError(f"{dim} is not known")
    return dim


class Sketch(ControlSteps):
    """A graph that grows by random steps; a step that does not type is left out."""

    def __init__(self, draw: st.DrawFn, *, smooth: bool) -> None:
        self.draw = draw
        rows: Dim = draw(st.sampled_from((symbol("n"), 2, 2, 0)))
        self.smooth = smooth
        shapes: Sequence[tuple[Dim, ...]] = [(rows, 3), (3,), (1, 4, 5, 5)]
        inputs = [Value(TensorType(DType.F32, shape), f"x{i}") for i, shape in enumerate(shapes)]
        self.graph = Graph("random", inputs)
        self.build = Builder(self.graph)
        self.values: list[Value] = list(inputs)
        self.rows = [row for row in elementwise_rows() if not smooth or row.name in SMOOTH]
        self.steps = [self.elementwise, self.arithmetic, self.move, self.view, self.slice]
        self.steps += [self.join, self.reduce, self.product, self.convolution, self.normalize]
        self.steps += [self.scale, self.arithmetic, self.twice, self.at_run_time]
        self.steps += [] if smooth else [self.quantize]
        self.steps += [self.choose, self.repeat, self.scan, self.whole_numbers, self.other_floats]

    def value(self, rank: int | None = None) -> Value:
        """One of the values so far, the last ones first."""
        fitting = [v for v in self.values if rank is None or v.type.rank == rank]
        latest = fitting[-1:] * len(fitting)
        return self.draw(st.sampled_from([*latest, *fitting])) if fitting else self.values[0]

    def number(self) -> float:
        """A number on which algebra has something to do."""
        return self.draw(st.sampled_from(NUMBERS if self.smooth else NUMBERS + SPECIAL))

    def random(self, *shape: int) -> Value:
        """A constant tensor."""
        type = TensorType(DType.F32, shape)
        blob = Blob.random(self.draw(st.integers(0, 3)), type)
        return self.build.const(Blob.of(blob.array * np.float32(0.5)))

    def ints(self, *numbers: int) -> Value:
        """A constant row of integers."""
        return self.build.const(np.array(numbers, np.int64))

    def constant(self) -> Value:
        """One number with as many dimensions as some value, or fewer."""
        shape = (1,) * self.draw(st.integers(0, 2))
        return self.build.const(np.full(shape, self.number(), np.float32))

    def elementwise(self) -> Value:
        """Any elementwise row of the table."""
        row = self.draw(st.sampled_from(self.rows))
        count = row.required or self.draw(st.integers(1, 3))
        first = self.value()
        near = [v for v in self.values if v.type.shape[-1:] == first.type.shape[-1:]]
        operands = [first, *(self.draw(st.sampled_from(near)) for _ in range(count - 1))]
        if count > 1 and self.draw(st.booleans()):
            operands[self.draw(st.integers(0, count - 1))] = self.constant()
        return self.build.op(row, operands).result

    def arithmetic(self) -> Value:
        """A sum, difference, product or quotient of two values, or of one and a number."""
        name = self.draw(st.sampled_from(("add", "sub", "mul", "div", "pow", "min", "max")))
        first = self.value()
        alike = [v for v in self.values if v.type == first.type]
        second = self.draw(st.sampled_from(alike))
        if name in ("div", "pow") or self.draw(st.booleans()):
            second = self.constant()
        pair = [second, first] if self.draw(st.booleans()) else [first, second]
        if name == "pow":
            pair = [
                self.build.abs(first),
                self.build.const(np.full((), self.draw(st.integers(1, 3)), np.float32)),
            ]
        return self.build.op(name, pair).result

    def scale(self) -> Value:
        """A factor or summand per channel."""
        source = self.value()
        axis = 1 if source.type.rank == 4 else source.type.rank - 1
        width = known(source.type.shape[axis])
        shape = (width, *(1,) * (source.type.rank - 1 - axis))
        return self.build.op(
            self.draw(st.sampled_from(("add", "mul"))), [source, self.random(*shape)]
        ).result

    def twice(self) -> Value:
        """A function of its own result."""
        name = self.draw(st.sampled_from(("neg", "abs", "relu", "transpose")))
        return self.build.op(name, [self.build.op(name, [self.value()]).result]).result

    def move(self) -> Value:
        """A transpose."""
        source = self.value()
        perm = self.draw(st.permutations(range(source.type.rank)))[::-1]
        return self.build.transpose(source, perm=tuple(perm))

    def view(self) -> Value:
        """A reshape, squeeze, unsqueeze or flatten."""
        source, kind = self.value(), self.draw(st.integers(0, 3))
        if kind == 0:
            return self.build.reshape(source, self.ints(-1, known(source.type.shape[-1])))
        if kind == 1:
            return self.build.unsqueeze(
                source, self.ints(self.draw(st.integers(0, source.type.rank)))
            )
        if kind == 2:
            ones = [axis for axis, dim in enumerate(source.type.shape) if dim == 1]
            return self.build.squeeze(source, self.ints(*ones))
        return self.build.flatten(source, axis=self.draw(st.integers(0, source.type.rank)))

    def slice(self) -> Value:
        """Part of an axis, or all of it."""
        source = self.value()
        end = self.draw(st.sampled_from((1, 2, 2**40)))
        last = source.type.rank - 1
        return self.build.slice(source, self.ints(0), self.ints(end), axes=self.ints(last))

    def join(self) -> Value:
        """A concatenation, an expand, a pad, a tile or a cast and back."""
        source, kind = self.value(), self.draw(st.integers(0, 4))
        if kind == 0:
            parts = [source] * self.draw(st.integers(1, 2))
            return self.build.op("concat", parts, {"axis": source.type.rank - 1}).result
        if kind == 1:
            return self.build.expand(source, self.ints(2, *(1,) * source.type.rank))
        if kind == 2:
            amount = self.draw(st.integers(0, 1))
            return self.build.pad(source, self.ints(*(amount,) * (2 * source.type.rank)))
        if kind == 3:
            return self.build.tile(
                source, self.ints(*(self.draw(st.integers(1, 2)),) * source.type.rank)
            )
        return self.build.cast(self.build.cast(source, to=DType.F64), to=DType.F32)

    def computed(self, *numbers: int) -> Value:
        """A row of integers that no pass can know: zeros that come from data are added."""
        data = self.build.reshape(self.values[0], self.ints(-1))
        number = self.build.slice(data, self.ints(0), self.ints(1))
        nothing = self.build.const(np.zeros((), np.float32))
        number = self.build.where(self.build.is_nan(number), nothing, number)
        half = self.build.const(np.full((), 0.5, np.float32))
        zero = self.build.cast(self.build.clip(number, min=nothing, max=half), to=DType.I64)
        return self.build.add(self.ints(*numbers), zero)

    def at_run_time(self) -> Value:
        """An operation whose sizes, axes or places only run time tells."""
        source, kind = self.value(), self.draw(st.integers(0, 5))
        rank, build = source.type.rank, self.build
        axis = self.draw(st.integers(-rank, max(rank - 1, 0)))
        if kind == 0:
            return build.reshape(source, self.computed(-1, known(source.type.shape[-1])))
        if kind == 1:
            step = self.draw(st.sampled_from((1, 2, -1)))
            parts = [self.computed(number) for number in (0, 2, axis, step)]
            return build.slice(source, parts[0], parts[1], axes=parts[2], steps=parts[3])
        if kind == 2:
            name = self.draw(st.sampled_from(("reduce_sum", "reduce_max")))
            attrs = {"keepdims": self.draw(st.integers(0, 1))}
            return build.op(name, [source, self.computed(axis)], attrs).result
        if kind == 3:
            return build.expand(source, self.computed(2, *(1,) * rank))
        if kind == 4:
            mode = self.draw(st.sampled_from(("constant", "edge")))
            return build.pad(source, self.computed(*(1,) * rank, *(0,) * rank), mode=mode)
        return build.tile(source, self.computed(*(2,) * rank))

    def quantize(self) -> Value:
        """A tensor of a short type, perhaps moved or converted to another, and its numbers."""
        source, scale = self.value(), self.build.const(np.array(0.25, np.float32))
        dtype = self.draw(st.sampled_from(QUANTIZED))
        made = self.build.op(
            "quantize_linear", [source, scale], {"output_dtype": dtype}
        ).result  # fmt: skip
        kind = self.draw(st.integers(0, 3))
        if kind == 1:
            made = self.build.transpose(made)
        if kind == 2:
            made = self.build.op("concat", [made, made], {"axis": source.type.rank - 1}).result
        if kind == 3:
            short = self.draw(st.sampled_from(QUANTIZED))
            made = self.build.cast(self.build.cast(made, to=DType.F32), to=short)
        return self.build.op("dequantize_linear", [made, scale]).result

    def whole_numbers(self) -> Value:
        """Arithmetic on integers of some type, some of them known, as numbers again."""
        build, dtype = self.build, self.draw(st.sampled_from(INTEGERS))
        limits = [build.const(np.full((), number, np.float32)) for number in (0, 3)]
        source = self.value()
        source = build.where(build.is_nan(source), limits[0], source)
        made = build.cast(build.clip(source, min=limits[0], max=limits[1]), to=dtype)
        if self.draw(st.booleans()):  # then their limits are known
            made = build.cast(build.cast(made, to=DType.I8), to=dtype)
        for _ in range(self.draw(st.integers(1, 3))):
            number = self.draw(st.sampled_from((0, 1, 2, 3, np.iinfo(dtype.numpy).max)))
            other = build.const(np.array(number, dtype.numpy))
            pair = [made, other] if self.draw(st.booleans()) else [other, made]
            name = self.draw(st.sampled_from(("add", "sub", "mul", "min", "max")))
            made = build.op(name, pair).result
        return build.cast(build.op("mod", [made, build.const(np.array(7, dtype.numpy))]).result,
                          to=DType.F32)  # fmt: skip

    def other_floats(self) -> Value:
        """A step of algebra in another type of floats."""
        build = self.build
        dtype = self.draw(st.sampled_from((DType.F64, DType.F16, DType.BF16)))
        made = build.cast(self.value(), to=dtype if not self.smooth else DType.F64)
        number = build.const(np.array(self.draw(st.sampled_from(NUMBERS)), made.type.dtype.numpy))
        name = self.draw(st.sampled_from(("add", "sub", "mul")))
        return build.cast(build.op(name, [number, made]).result, to=DType.F32)

    def reduce(self) -> Value:
        """A mean, a sum, a maximum or a softmax."""
        source = self.value()
        name = self.draw(st.sampled_from(("reduce_mean", "reduce_sum", "reduce_max", "softmax")))
        if name == "softmax":
            return self.build.softmax(source)
        axes = self.ints(source.type.rank - 1)
        return self.build.op(
            name, [source, axes], {"keepdims": self.draw(st.integers(0, 1))}
        ).result

    def product(self) -> Value:
        """A matrix product with a constant matrix, as `matmul` or as `gemm`."""
        source = self.value(2)
        matrix = self.random(known(source.type.shape[-1]), self.draw(st.integers(1, 3)))
        if self.draw(st.booleans()):
            return self.build.matmul(source, matrix)
        return self.build.gemm(source, matrix, self.constant(), beta=self.number())

    def convolution(self) -> Value:
        """A convolution with constant weights."""
        source = self.value(4)
        channels = known(source.type.shape[1])
        pads = (self.draw(st.integers(0, 1)),) * 4
        return self.build.conv(source, self.random(3, channels, 2, 2), pads=pads)

    def normalize(self) -> Value:
        """A batch normalisation by constants."""
        source = self.value()
        channels = known(source.type.shape[1])
        rows = [self.random(channels) for _ in range(3)]
        spread = self.build.const(np.full(channels, 0.7, np.float32))
        return self.build.op("batch_normalization", [source, *rows, spread]).results[0]

    def grow(self) -> None:
        """Take one step, unless it does not type."""
        step = self.draw(st.sampled_from(self.steps))
        before = list(self.graph)
        try:
            value = step()
        except (LeptonError, AssertionError, IndexError):
            for op in reversed(list(self.graph)):
                if op not in before:
                    self.graph.erase(op)
            return
        if value.type.rank <= 5 and value.type.dtype is DType.F32:
            self.values.append(value)


@st.composite
def graphs(draw: st.DrawFn, *, smooth: bool = False) -> Graph:
    """A random valid graph; `smooth` leaves out operations that enlarge rounding errors."""
    sketch = Sketch(draw, smooth=smooth)
    for _ in range(draw(st.integers(2, 9))):
        sketch.grow()
    others = draw(st.lists(st.sampled_from(sketch.values), max_size=2))
    outputs = [sketch.values[-1], *others]
    sketch.graph.output_names = tuple(f"y{i}" for i in range(len(outputs)))
    sketch.build.return_(*outputs)
    assume(_extents_agree(sketch.graph))
    return sketch.graph


def _extents_agree(graph: Graph) -> bool:
    """Whether extents that typing had to leave open, such as n and 2, turn out to be equal."""
    try:
        interpret(graph, random_feeds(graph))
    except ValueError:
        return False
    return True
