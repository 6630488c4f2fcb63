"""Floats are between the limits that are said of them, and none of them is NaN."""

from __future__ import annotations

import random

import numpy as np
import pytest

from leptonc.ir.build import Builder
from leptonc.ir.graph import Graph, Value
from leptonc.ir.interpret import interpret
from leptonc.ir.types import DType, TensorType
from leptonc.passes.shapes.float_limits import TRANSFER
from leptonc.passes.shapes.ranges import Ranges

NUMBERS = (-300.0, -2.5, -1.0, -0.3, 0.0, 0.125, 1.0, 7.5, 88.0)
PAIRS = ("add", "sub", "mul", "div", "min", "max")
ALONE = sorted(set(TRANSFER) - {*PAIRS, "clip", "where", "concat"})


def _graph(seed: int) -> Graph:
    draw = random.Random(seed)
    x = Value(TensorType(DType.I8, (64,)), "x")
    graph = Graph("floats", [x])
    build = Builder(graph)
    dtype = draw.choice((DType.F32, DType.F64))
    values = [build.cast(x, to=dtype)]
    for _ in range(12):
        first, second = draw.choice(values[-3:]), draw.choice(values)
        if draw.random() < 0.7:
            second = build.const(np.array([draw.choice(NUMBERS)], dtype.numpy))
        pair = [first, second]
        draw.shuffle(pair)
        match draw.randint(0, 5):
            case 0 | 1:
                made = build.op(draw.choice(PAIRS), pair).result
            case 2 | 3:
                made = build.op(draw.choice(ALONE), [first]).result
            case 4:
                low, high = sorted(draw.sample(NUMBERS, 2))
                limits = [build.const(np.array(k, dtype.numpy)) for k in (low, high)]
                made = build.clip(first, min=limits[0], max=limits[1])
            case _:
                made = build.where(build.greater(*pair), first, second)
        values.append(made)
    graph.output_names = tuple(f"y{place}" for place in range(len(values)))
    build.return_(*values)
    return graph


@pytest.mark.parametrize("block", range(4))
def test_limits_hold(block: int) -> None:
    known = 0
    data = np.arange(-128, 128, 4).astype(np.int8)
    data[-1] = 127
    for seed in range(50 * block, 50 * (block + 1)):
        graph, ranges = _graph(seed), Ranges()
        for op in graph:
            ranges.learn(op)
        found = [ranges.floats(value) for value in graph.outputs]
        for limits, array in zip(found, interpret(graph, {"x": data}).values(), strict=True):
            if limits is None:
                continue
            known += 1
            assert not np.isnan(array).any()
            assert limits[0] <= array.min(), (seed, limits, array.min())
            assert array.max() <= limits[1], (seed, limits, array.max())
    assert known > 200
