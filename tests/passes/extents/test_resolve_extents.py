"""Sizes from data: resolved graphs compute what the operations mean, and refuse what cannot be."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from leptonc.driver import run_passes
from leptonc.ir.diagnostics import LeptonError
from leptonc.ir.graph import Graph
from leptonc.ir.interpret import interpret
from leptonc.ir.text import parse_graph
from leptonc.passes.extents.resolution import is_open
from leptonc.passes.extents.resolve_extents import RESOLVERS

X = np.random.default_rng(0).standard_normal((2, 3, 4)).astype(np.float32)
DIMS = "n,3,4"


@dataclass(frozen=True)
class Case:
    """One operation, the types of its operands and results, and data for it."""

    line: str
    results: str
    feeds: dict[str, Any] = field(default_factory=dict[str, Any])
    x: np.ndarray = field(default_factory=lambda: X)  # pyright: ignore
    x_type: str = f"f32[{DIMS}]"

    def graph(self) -> Graph:
        """The graph of this one operation."""
        arrays = {name: np.asarray(value) for name, value in self.feeds.items()}
        kinds = {"int64": "i64", "float32": "f32", "float64": "f64", "int32": "i32"}
        inputs = [f"%x: {self.x_type}"] + [
            f"%{name}: {kinds[str(a.dtype)]}[{','.join(map(str, a.shape))}]"
            for name, a in arrays.items()
        ]
        types = self.results.split(" ")
        outs = ", ".join(f"y{i}: {t}" for i, t in enumerate(types))
        names = ", ".join(f"%y{i}" for i in range(len(types)))
        text = f"graph @m({', '.join(inputs)}) -> ({outs}) {{\n"
        text += f"  {names} = {self.line} : {', '.join(types)}\n  return {names}\n}}"
        return parse_graph(text)

    def data(self) -> dict[str, np.ndarray]:  # pyright: ignore[reportMissingTypeArgument, reportUnknownParameterType]
        """The data of all inputs."""
        return {"x": self.x, **{name: np.asarray(value) for name, value in self.feeds.items()}}


R3 = "f32[u1_,u2_,u3_]"
ONE = np.array(1)
SLICE = "slice(%x, %s, %e, axes=%a, steps=%t)"
RESIZE = "coordinate_transformation_mode"
CASES = {
    **{
        f"reduce_{kind}_{axes}_{keep}": Case(
            f"reduce_{kind}(%x, %a) {{keepdims = {keep}}}",
            R3 if keep else "f32[u1_,u2_]",
            {"a": axes},
        )
        for kind, axes, keep in (
            ("sum", [1], 0), ("mean", [-1], 1), ("max", [0], 0), ("l2", [-3], 1),
        )
    },
    "reduce_two": Case("reduce_sum(%x, %a) {keepdims = 0}", "f32[u1_]", {"a": [2, 0]}),
    "reduce_none": Case("reduce_prod(%x, %a)", R3, {"a": np.zeros(0, np.int64)}),
    "reduce_static": Case("reduce_sum(%x, %a)", "f32[n,1,4]", {"a": [1]}),
    "cum_sum": Case("cum_sum(%x, %a) {exclusive = 1}", f"f32[{DIMS}]", {"a": np.array(-2)}),
    "cum_prod": Case("cum_prod(%x, %a) {reverse = 1}", f"f32[{DIMS}]", {"a": [2]}),
    "reshape": Case("reshape(%x, %s)", "f32[u1_,u2_]", {"s": [0, -1]}),
    "reshape_more": Case("reshape(%x, %s)", "f32[u1_,u2_,u3_,2]", {"s": [0, -1, 1, 2]}),
    "squeeze": Case("squeeze(%x, %a)", "f32[u1_,u2_]", {"a": [-2]}, X[:, :1], "f32[n,1,4]"),
    "unsqueeze": Case("unsqueeze(%x, %a)", "f32[u1_,u2_,u3_,u4_,u5_]", {"a": [-1, 1]}),
    "expand": Case("expand(%x, %s)", "f32[u1_,u2_,u3_,u4_]", {"s": [5, 1, 3, 4]}),
    "expand_less": Case("expand(%x, %s)", R3, {"s": [4]}, X[:, :, :1], "f32[n,3,1]"),
    "tile": Case("tile(%x, %s)", R3, {"s": [2, 1, 3]}),
    "top_k": Case("top_k(%x, %k)", "f32[n,3,u1_] i64[n,3,u1_]", {"k": [2]}),
    "one_hot": Case(
        "one_hot(%i, %d, %v)", "f32[5,u1_]",
        {"i": [0, -1, 2, 7, 1], "d": np.array(3), "v": np.array([0.5, 2.0], np.float32)},
    ),
    "split": Case("split(%x, %s) {axis = 2}", "f32[n,3,u1_] f32[n,3,u2_]", {"s": [1, 3]}),
    "constant_of_shape": Case("constant_of_shape(%s)", "f32[u1_,u2_]", {"s": [2, 0]}),
    "range": Case("range(%a, %b, %c)", "i64[u1_]", {"a": 3 * ONE, "b": 11 * ONE, "c": 3 * ONE}),
    "range_back": Case("range(%a, %b, %c)", "i64[u1_]", {"a": ONE, "b": -7 * ONE, "c": -2 * ONE}),
    "range_float": Case(
        "range(%a, %b, %c)", "f32[u1_]",
        {k: np.array(v, np.float32) for k, v in {"a": 0.5, "b": 2.6, "c": 0.7}.items()},
    ),
    **{
        f"slice_{i}": Case(SLICE, f"f32[{','.join(f'u{d}_' for d in (1, 2, 3))}]",
                           {"s": s, "e": e, "a": a, "t": t})
        for i, (s, e, a, t) in enumerate((
            ([0], [1], [0], [1]), ([-1], [-5], [-1], [-2]), ([1, 0], [100, 2], [1, 2], [1, 1]),
            ([2**62], [-(2**63)], [2], [-1]), ([3], [1], [2], [1]), ([0], [9], [2], [2**62]),
        ))
    },
    "slice_prefix": Case("slice(%x, %s, %e)", "f32[u1_,u2_,4]", {"s": [1, 0], "e": [2, -1]}),
    **{
        f"pad_{mode}": Case(f'pad(%x, %p) {{mode = "{mode}"}}', R3, {"p": [1, 0, 2, -1, 1, 3]})
        for mode in ("constant", "edge", "reflect", "wrap")
    },
    "pad_axes": Case("pad(%x, %p, %v, %a)", R3,
                     {"p": [1, 2], "v": np.array(7, np.float32), "a": [-1]}),
    "col2im": Case("col2im(%x, %i, %b)", "f32[n,u1_,u2_,u3_]", {"i": [3, 3], "b": [2, 2]},
                   np.arange(2 * 8 * 4, dtype=np.float32).reshape(2, 8, 4), "f32[n,8,4]"),
    "center_crop_pad": Case("center_crop_pad(%x, %s) {axes = [1, 2]}", "f32[n,u1_,u2_]",
                            {"s": [5, 2]}),
    **{
        f"resize_{i}": Case(f'resize(%x, scales=%s) {{mode = "{mode}", {RESIZE} = "{how}"}}', R3,
                            {"s": np.array([1, scale, 1.5], np.float32)})
        for i, (mode, how, scale) in enumerate((
            ("nearest", "asymmetric", 2), ("linear", "half_pixel", 0.6),
            ("cubic", "align_corners", 2.3), ("linear", "pytorch_half_pixel", 1.7),
        ))
    },
    "resize_sizes": Case('resize(%x, sizes=%s) {axes = [2, 1], mode = "linear"}',
                         "f32[n,u1_,u2_]", {"s": [7, 2]}),
    "resize_smaller": Case(
        'resize(%x, sizes=%s) {axes = [1, 2], keep_aspect_ratio_policy = "not_larger"}',
        "f32[n,u1_,u2_]", {"s": [7, 8]}),
}  # fmt: skip
WRONG = {
    "axis": Case("reduce_sum(%x, %a)", R3, {"a": [3]}),
    "elements": Case("reshape(%x, %s)", "f32[u1_,u2_]", {"s": [5, 5]}),
    "rest": Case("reshape(%x, %s)", "f32[u1_,u2_]", {"s": [-1, 5]}),
    "two_rests": Case("reshape(%x, %s)", "f32[u1_,u2_]", {"s": [-1, -1]}),
    "broadcast": Case("expand(%x, %s)", R3, {"s": [2, 5, 4]}),
    "not_one": Case("squeeze(%x, %a)", "f32[u1_,u2_]", {"a": [1]}),
    "twice": Case("unsqueeze(%x, %a)", "f32[u1_,u2_,u3_,u4_,u5_]", {"a": [1, 1]}),
    "declared": Case("reduce_sum(%x, %a)", "f32[n,1,4]", {"a": [2]}),
    "step": Case(SLICE, R3, {"s": [0], "e": [2], "a": [1], "t": [0]}),
    "k": Case("top_k(%x, %k)", "f32[n,3,u1_] i64[n,3,u1_]", {"k": [5]}),
    "parts": Case("split(%x, %s) {axis = 2}", "f32[n,3,u1_] f32[n,3,u2_]", {"s": [1, 2]}),
    "negative": Case("constant_of_shape(%s)", "f32[u1_,u2_]", {"s": [2, -3]}),
    "delta": Case("range(%a, %b, %c)", "i64[u1_]", {"a": ONE, "b": ONE, "c": 0 * ONE}),
    "columns": Case(
        "col2im(%x, %i, %b)",
        "f32[n,u1_,u2_,u3_]",
        {"i": [3, 4], "b": [2, 2]},
        np.zeros((2, 8, 4), np.float32),
        "f32[n,8,4]",
    ),
    "cut_away": Case('pad(%x, %p) {mode = "edge"}', R3, {"p": [0, 0, -4, 0, 0, 9]}),
}


def resolved(case: Case) -> Graph:
    """The case's graph after the pass."""
    graph = case.graph()
    run_passes(graph, "resolve-extents,fold-constants,eliminate-dead-code")
    return graph


@pytest.mark.parametrize("name", CASES)
def test_resolved_operations_mean_the_same(name: str) -> None:
    """Against the reference meaning of the operation, which reads the data directly."""
    case = CASES[name]
    want = interpret(case.graph(), case.data())
    graph = resolved(case)
    found = interpret(graph, case.data())
    assert name == "reduce_none" or any(op.name == "extents" for op in graph)
    for key, array in want.items():
        assert found[key].dtype == array.dtype
        np.testing.assert_allclose(found[key], array, rtol=1e-6)


@pytest.mark.parametrize("name", CASES)
def test_no_size_is_read_from_data_afterwards(name: str) -> None:
    """Every shape-like operand of what is left is known, by symbols where not by numbers."""
    for op in resolved(CASES[name]):
        for operand in op.definition.operands:
            if operand.shape_like and op.name in RESOLVERS:
                assert not is_open(op, operand.name) or op.name == "range"


@pytest.mark.parametrize("name", WRONG)
def test_what_cannot_be_is_refused_at_run_time(name: str) -> None:
    """An extent that is none stops the run."""
    case = WRONG[name]
    with pytest.raises(LeptonError, match="an extent is") as error:
        interpret(resolved(case), case.data())
    assert error.value.code == "E005"


def test_a_size_that_is_certain_to_be_wrong_is_refused_at_once() -> None:
    """Where the operation runs whatever the data."""
    graph = parse_graph("""graph @wrong(%x: f32[4]) -> (y: f32[5,u1_]) {
  %c = const() {value = dense([4, 1])} : i64[2]
  %e = extents(%c) {names = [5, u1_]} : i64[2] loc("Reshape_7")
  %y = reshape(%x, %e) : f32[5,u1_]
  return %y
}""")
    with pytest.raises(LeptonError, match=r"a size is 4, should be 5.*\n.*Reshape_7") as error:
        run_passes(graph, "fold-constants")
    assert error.value.code == "E103"


def test_a_size_that_may_turn_out_wrong_is_left_for_run_time_to_tell() -> None:
    """Where it may not come to that."""
    graph = parse_graph("""graph @wrong(%c: bool[], %x: f32[4], %z: f32[5,1]) -> (y: f32[5,u2_]) {
  %y = if(%c) () {
    %s = const() {value = dense([4, 1])} : i64[2]
    %e = extents(%s) {names = [5, u1_]} : i64[2]
    %r = reshape(%x, %e) : f32[5,u1_]
    return %r
  } () {
    return %z
  } : f32[5,u2_]
  return %y
}""")
    run_passes(graph, "fold-constants")
    assert any(op.name == "extents" for op in graph.walk())
    feeds = {"x": np.zeros(4, np.float32), "z": np.zeros((5, 1), np.float32)}
    assert interpret(graph, {**feeds, "c": np.array(False)})["y"].shape == (5, 1)
    with pytest.raises(LeptonError, match="an extent is 4"):
        interpret(graph, {**feeds, "c": np.array(True)})
