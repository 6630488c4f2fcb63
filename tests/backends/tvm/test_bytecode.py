"""The instructions of a program: none for what nobody can have got wrong, or is known already."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

import leptonc
from leptonc.backends.tvm.code import Code, Invoke
from leptonc.ir.interpret import interpret
from leptonc.ir.text import parse_graph

MADE = ("make_shape", "make_prim_value")

LAYERS = """graph @m(%x: f32[n,64]) -> (y: f32[n,64], z: f32[n,64]) {
  %v = const() {value = random(1)} : f32[64,64]
  %w = const() {value = random(2)} : f32[64,64]
  %a = matmul(%x, %v) : f32[n,64]
  %b = softmax(%a) {axis = -1} : f32[n,64]
  %c = matmul(%b, %w) : f32[n,64]
  return %c, %b
}"""

CHOICE = """graph @m(%go: bool[], %x: f32[n,64]) -> (y: f32[n,64]) {
  %w = const() {value = random(2)} : f32[64,64]
  %y = if(%go) () {
    %v = const() {value = random(1)} : f32[64,64]
    %a = matmul(%x, %v) : f32[n,64]
    %s = softmax(%a) {axis = -1} : f32[n,64]
    return %s
  } () {
    %b = matmul(%x, %w) : f32[n,64]
    return %b
  } : f32[n,64]
  return %y
}"""


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> list[Invoke]:
    """The calls of the programs that are written meanwhile."""
    calls: list[Invoke] = []
    write = Code.write

    def spy(self: Code, name: str, parameters: list[str], result: int) -> None:
        calls.extend(one for one in self.instructions if isinstance(one, Invoke))
        write(self, name, parameters, result)

    monkeypatch.setattr(Code, "write", spy)
    return calls


def counted(calls: list[Invoke]) -> Counter[str]:
    """How often each function is called."""
    return Counter(call.function.removeprefix("vm.builtin.") for call in calls)


@pytest.mark.parametrize("text", [LAYERS, CHOICE], ids=["layers", "choice"])
def test_weights_are_taken_once_and_not_checked(text: str, written: list[Invoke]) -> None:
    """Inputs are: they come from outside."""
    x = np.random.default_rng(0).standard_normal((5, 64), np.float32)
    graph = parse_graph(text)
    feeds = {"go": np.array(True), "x": x} if len(graph.inputs) == 2 else {"x": x}
    expected = interpret(graph, feeds)
    with leptonc.compile(parse_graph(text), threads=1, isolated=False, cache=False) as session:
        found = session.run(feeds)
        inputs, weights = len(session.manifest.inputs), len(session.manifest.weights)
    for name, want in expected.items():
        np.testing.assert_allclose(found[name], want, rtol=1e-5, atol=1e-6)
    calls = counted(written)
    assert weights == 2
    assert (calls["check_tensor_info"], calls["tuple_getitem"]) == (inputs, weights)
    assert calls["check_tuple_info"] == 0


@pytest.mark.parametrize("text", [LAYERS, CHOICE], ids=["layers", "choice"])
def test_sizes_are_put_together_once(text: str, written: list[Invoke]) -> None:
    """The same numbers of the same sizes are the same shape."""
    with leptonc.compile(parse_graph(text), threads=1, isolated=False, cache=False):
        pass
    made = [
        (call.function, call.arguments)
        for call in written
        if call.function.removeprefix("vm.builtin.") in MADE
    ]
    assert made
    assert len(made) == len(set(made))
