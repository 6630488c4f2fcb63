"""Recurrent layers with packed weights against the meaning of the layers they are made from."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import leptonc
from leptonc.backends.cpu.prepare import prepare
from leptonc.backends.cpu.target import by_name
from leptonc.ir.graph import Graph
from leptonc.ir.interpret import interpret
from leptonc.ir.text import parse_graph
from leptonc.ir.verify import verify
from leptonc.passes.base import parse_pipeline
from leptonc.passes.manager import PassManager
from leptonc.passes.registry import Registry

GATES = {"lstm": 4, "gru": 3, "rnn": 1}


def layer(
    name: str, extents: tuple[int | str, int | str], sizes: tuple[int, int], *,
    attrs: dict[str, str] | None = None, state: bool = True, bias: bool = True, slot: int = 0,
) -> str:  # fmt: skip
    """A layer on `%x` as text, with constants of its own; `slot` tells its values apart."""
    (steps, batch), (inputs, hidden) = extents, sizes
    attrs = attrs or {}
    count = 2 if attrs.get("direction") == '"bidirectional"' else 1
    rows, first = GATES[name] * hidden, attrs.get("layout") == "1"
    at = [batch, count, hidden] if first else [count, batch, hidden]
    y = [batch, steps, count, hidden] if first else [steps, count, batch, hidden]
    states = ["h", "c"] if name == "lstm" else ["h"]
    lines = [
        f"%{label}{slot} = const() {{value = random({seed + 10 * slot})}} : f32[{shape}]"
        for label, seed, shape in (
            ("w", 1, f"{count},{rows},{inputs}"),
            ("large", 2, f"{count},{rows},{hidden}"),
            ("b", 3, f"{count},{2 * rows}"),
        )
    ]
    # a state that is multiplied with large weights again and again would magnify rounding
    lines += [
        f"%s{slot} = const() {{value = splat(0.125)}} : f32[]",
        f"%r{slot} = mul(%large{slot}, %s{slot}) : f32[{count},{rows},{hidden}]",
    ]
    given = [f"%x, %w{slot}, %r{slot}"]
    given += [f"bias=%b{slot}"] if bias else []
    given += [f"initial_{s}=%{s}" for s in states] if state else []
    listed = ", ".join(f"{key} = {value}" for key, value in attrs.items())
    shapes = [y, *(at for _ in states)]
    types = ", ".join(f"f32[{','.join(map(str, shape))}]" for shape in shapes)
    results = ", ".join(f"%y{slot}_{at}" for at in range(len(shapes)))
    lines.append(f"{results} = {name}({', '.join(given)}) {{{listed}}} : {types}")
    return "\n".join(f"  {line}" for line in lines)


def network(
    extents: tuple[int | str, int | str], sizes: tuple[int, int],
    layers: list[tuple[str, dict[str, Any]]],
) -> Graph:  # fmt: skip
    """Layers side by side on one input and one pair of states, each result an output."""
    (steps, batch), (inputs, hidden) = extents, sizes
    attrs: dict[str, str] = layers[0][1].get("attrs", {})
    first = attrs.get("layout") == "1"
    count = 2 if attrs.get("direction") == '"bidirectional"' else 1
    x = [batch, steps, inputs] if first else [steps, batch, inputs]
    at = [batch, count, hidden] if first else [count, batch, hidden]
    y = [batch, steps, count, hidden] if first else [steps, count, batch, hidden]
    body = [layer(name, extents, sizes, slot=i, **more) for i, (name, more) in enumerate(layers)]
    outputs: list[str] = []
    for slot, (name, _) in enumerate(layers):
        shapes = [y, at, at] if name == "lstm" else [y, at]
        outputs += [
            f"y{slot}_{i}: f32[{','.join(map(str, shape))}]" for i, shape in enumerate(shapes)
        ]
    names = ", ".join(f"%{output.partition(':')[0]}" for output in outputs)

    def spelled(shape: list[Any]) -> str:
        return ",".join(map(str, shape))

    head = f"%x: f32[{spelled(x)}], %h: f32[{spelled(at)}], %c: f32[{spelled(at)}]"
    lines = "\n".join(body)
    graph = parse_graph(
        f"graph @m({head}) -> ({', '.join(outputs)}) {{\n{lines}\n  return {names}\n}}\n"
    )
    PassManager(parse_pipeline("fold-constants,eliminate-dead-code", Registry([]))).run(graph)
    return graph


def feeds(graph: Graph, **sizes: int) -> dict[str, Any]:
    """Random operands of known extents."""
    generator = np.random.default_rng(0)
    return {
        value.name: generator.standard_normal(
            [dim if isinstance(dim, int) else sizes[str(dim)] for dim in value.type.shape]
        ).astype(np.float32)
        for value in graph.inputs
    }


def compare(got: dict[str, Any], expected: dict[str, Any]) -> None:
    """Every result near its meaning."""
    assert list(got) == list(expected)
    for name, array in expected.items():
        np.testing.assert_allclose(got[name], array, rtol=1e-4, atol=1e-5, err_msg=name)


LINEAR = ("gru", {"attrs": {"linear_before_reset": "1"}})
PLAIN: list[tuple[str, dict[str, Any]]] = [("lstm", {}), ("gru", {}), ("rnn", {}), LINEAR]


def with_attrs(**attrs: str) -> list[tuple[str, dict[str, Any]]]:
    """The four layers with more attributes."""
    return [(name, {"attrs": {**more.get("attrs", {}), **attrs}}) for name, more in PLAIN]


BARE: list[tuple[str, dict[str, Any]]] = [
    (name, {**more, "state": False, "bias": False}) for name, more in PLAIN
]


@pytest.mark.parametrize("target", ["avx2", "avx512", "sse"])
@pytest.mark.parametrize(
    "layers", [PLAIN, BARE, with_attrs(direction='"bidirectional"', clip="0.5")]
)
def test_packed_layers_mean_the_same(layers: list[tuple[str, dict[str, Any]]], target: str) -> None:
    """What is packed can be unpacked, for vectors of each width and units that fill no panel."""
    graph = network((4, 3), (5, 13), layers)
    given = feeds(graph)
    expected = interpret(graph, given)
    prepare(graph, by_name(target))
    verify(graph)
    assert [op.name for op in graph if op.name not in ("const", "return")] == [
        "packed_recurrent"
    ] * 4
    compare(interpret(graph, given), expected)


@pytest.mark.parametrize(
    ("extents", "sizes", "layers"),
    [
        ((1, 1), (9, 32), PLAIN),
        ((70, 1), (16, 20), with_attrs(direction='"reverse"')),
        ((3, 5), (7, 13), BARE),
        ((9, 12), (8, 136), PLAIN),
        ((4, 3), (6, 11), with_attrs(direction='"bidirectional"', layout="1", clip="0.5")),
    ],
)
def test_compiled_layers(
    extents: tuple[int, int], sizes: tuple[int, int], layers: list[tuple[str, dict[str, Any]]]
) -> None:
    """One step and many, rows that fill no tile, units that fill no vector, depths in parts."""
    graph = network(extents, sizes, layers)
    given = feeds(graph)
    expected = interpret(network(extents, sizes, layers), given, widen=True)
    with leptonc.compile(graph, threads=1, isolated=False) as session:
        compare(session.run(given), expected)


def test_one_artefact_serves_every_length_and_batch() -> None:
    """Also none: without steps the last states are the first."""
    graph = network(("steps", "batch"), (9, 24), PLAIN)
    with leptonc.compile(graph, threads=1, isolated=False) as session:
        for steps, batch in ((1, 1), (5, 3), (17, 2), (2, 11), (0, 2), (3, 0)):
            given = feeds(graph, steps=steps, batch=batch)
            expected = interpret(network(("steps", "batch"), (9, 24), PLAIN), given, widen=True)
            compare(session.run(given), expected)


def test_examples_are_shared_by_threads() -> None:
    """Blocks of examples, each with states of its own."""
    layers = with_attrs(direction='"bidirectional"')
    graph = network((12, 6), (40, 48), layers)
    given = feeds(graph)
    expected = interpret(network((12, 6), (40, 48), layers), given, widen=True)
    with leptonc.compile(graph, threads=2, isolated=False) as session:
        compare(session.run(given), expected)


@pytest.mark.parametrize(
    "attrs", [{"input_forget": "1"}, {"activations": '["relu", "tanh", "elu"]'}]
)
def test_rarer_forms(attrs: dict[str, str]) -> None:
    """Coupled gates keep the kernel without packing; other activations are packed."""
    layers: list[tuple[str, dict[str, Any]]] = [("lstm", {"attrs": attrs})]
    graph = network((3, 2), (5, 8), layers)
    given = feeds(graph)
    expected = interpret(network((3, 2), (5, 8), layers), given, widen=True)
    with leptonc.compile(graph, threads=1, isolated=False) as session:
        compare(session.run(given), expected)
