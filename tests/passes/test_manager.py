"""The manager, its observers, and that each of them sees what it is there to see."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest

from leptonc.ir.blob import Blob
from leptonc.ir.diagnostics import LeptonBug, LeptonError
from leptonc.ir.graph import Graph, Use
from leptonc.ir.text import parse_graph, print_graph
from leptonc.passes.base import Pass, option, parse_pipeline
from leptonc.passes.check_numbers import CheckNumbers, random_feeds
from leptonc.passes.context import PassContext
from leptonc.passes.contract import EXACT, REASSOCIATES, Contract, lossy
from leptonc.passes.manager import PassManager
from leptonc.passes.observers import Observer, PrintAfterChange, Timer, VerifyEach
from leptonc.passes.registry import BUILTIN, Registry
from leptonc.passes.reproducer import Reproducer
from leptonc.passes.size import Size, size_of
from leptonc.pipelines import GROUP, OPTIMIZE

TEXT = """graph @g(%x: f32[2]) -> (y: f32[2]) {
  %a = identity(%x) : f32[2]
  %b = relu(%a) : f32[2]
  return %b
}
"""


@dataclass(frozen=True)
class Breaks(Pass):
    """A pass that does as `how` says."""

    name: ClassVar[str] = "breaks"
    numbers: ClassVar[Contract] = EXACT
    how: str = option("crash", "what to do")
    times: int = option(1, "how often")
    loud: bool = option(False, "whether to say so")

    def run(self, graph: Graph, context: PassContext) -> None:
        """Do something wrong."""
        first, relu, _ = list(graph)
        if self.how == "crash":
            raise ZeroDivisionError("of ours")
        if self.how == "order":
            graph.move_before(first, relu)
        if self.how == "uses":
            first.result._uses.pop(Use(relu, 0))  # pyright: ignore[reportPrivateUsage]
            graph.version += 1
        if self.how == "numbers":
            relu.set_operand(0, graph.inputs[0])
            relu.definition = first.definition
        if self.how == "error":
            raise LeptonError("the model is wrong", relu.location, code="E103")


def run(how: str, *observers: Observer) -> Graph:
    graph = parse_graph(TEXT)
    PassManager([Breaks(how=how)], observers).run(graph)
    return graph


@pytest.mark.parametrize(("how", "code"), [("order", "E203"), ("uses", "E204")])
def test_verifier_catches_broken_invariants(how: str, code: str) -> None:
    with pytest.raises(LeptonBug) as caught:
        run(how, VerifyEach())
    assert caught.value.code == code
    assert caught.value.notes[-1] == f"while running pass breaks{{how={how}}}"


def test_crash_is_a_bug_that_leaves_a_reproducer(tmp_path: Path) -> None:
    file = tmp_path / "repro.lir"
    with pytest.raises(LeptonBug, match="failed with ZeroDivisionError: of ours") as caught:
        run("crash", Reproducer(file))
    assert f"rerun with leptonc-opt {file} -p 'breaks'" in caught.value.notes
    text = file.read_text()
    assert text.startswith("// RUN: leptonc-opt %s -p 'breaks'\n// bug in leptonc[E900]")
    assert print_graph(parse_graph(text)) == TEXT


def test_reproducer_shows_the_input_of_a_pass_that_changed_it_before_it_failed(
    tmp_path: Path,
) -> None:
    file = tmp_path / "repro.lir"
    with pytest.raises(LeptonBug):
        run("order", Reproducer(file), VerifyEach())
    assert print_graph(parse_graph(file.read_text())) == TEXT


def test_reproducer_that_cannot_be_written_says_so(tmp_path: Path) -> None:
    with pytest.raises(LeptonBug) as caught:
        run("crash", Reproducer(tmp_path / "missing" / "repro.lir"))
    assert "No such file" in caught.value.notes[-1]


def test_error_of_the_user_leaves_no_reproducer(tmp_path: Path) -> None:
    with pytest.raises(LeptonError, match="the model is wrong"):
        run("error", Reproducer(tmp_path / "repro.lir"))
    assert not list(tmp_path.iterdir())


def test_number_check_names_pass_output_and_contract() -> None:
    graph = parse_graph(TEXT)
    feeds = {"x": np.array([-1.0, 2.0], np.float32)}
    with pytest.raises(LeptonBug, match=r"changed output 'y' by .* its contract EXACT") as caught:
        PassManager([Breaks(how="numbers")], [CheckNumbers([feeds])]).run(graph)
    assert caught.value.code == "E501"


def test_changed_lines_are_printed() -> None:
    out = io.StringIO()
    PassManager(parse_pipeline("simplify,simplify", Registry([])), [PrintAfterChange(out)]).run(
        parse_graph(TEXT)
    )
    lines = out.getvalue().splitlines()
    assert lines[0] == "// after simplify"
    assert "-  %a = identity(%x) : f32[2]" in lines
    assert "+  %b = relu(%x) : f32[2]" in lines
    assert sum(line.startswith("// after") for line in lines) == 1


def test_whole_graph_is_printed_on_request() -> None:
    out = io.StringIO()
    graph = parse_graph(TEXT)
    PassManager(parse_pipeline("simplify", Registry([])), [PrintAfterChange(out, None)]).run(graph)
    assert out.getvalue() == "// after simplify\n" + print_graph(graph)


def test_a_replaced_value_changes_its_own_line_only() -> None:
    """Values without a name keep the number they were first printed with."""
    out = io.StringIO()
    pair = ("sigmoid", "tanh")
    chain = "".join(f"  %{n + 3} = {pair[n % 2]}(%{n + 2}) : f32[2]\n" for n in range(20))
    head = "graph @g(%x: f32[2]) -> (y: f32[2]) {\n  %0 = identity(%x) : f32[2]\n"
    text = f"{head}  %1 = sigmoid(%0) : f32[2]\n  %2 = tanh(%1) : f32[2]\n{chain}  return %22\n}}\n"
    graph = parse_graph(text)
    for op in graph:
        for value in op.results:
            value.name = ""
    PassManager(parse_pipeline("simplify", Registry([])), [PrintAfterChange(out)]).run(graph)
    changed = [line for line in out.getvalue().splitlines() if line.startswith(("+", "-"))]
    assert changed == [
        "-  %0 = identity(%x) : f32[2]",
        "-  %1 = sigmoid(%0) : f32[2]",
        "+  %1 = sigmoid(%x) : f32[2]",
    ]


def test_timer_counts_changes_and_sizes() -> None:
    timer = Timer()
    PassManager(parse_pipeline("simplify,simplify", Registry([])), [timer]).run(parse_graph(TEXT))
    first, second = timer.timings
    assert (first.step, first.before.nodes, first.after.nodes) == ("simplify", 2, 1)
    assert (first.changes, second.changes) == (1, 0)
    assert second.before == second.after == first.after
    assert first.seconds > 0


def test_sizes_count_shared_constants_once_and_both_halves_of_products() -> None:
    graph = parse_graph(
        """graph @g(%x: f32[n,4]) -> (y: f32[n,3], z: f32[n,3]) {
  %w = const() {value = random(1)} : f32[4,3]
  %t = transpose(%x) {perm = [1, 0]} : f32[4,n]
  %u = transpose(%t) {perm = [1, 0]} : f32[n,4]
  %y = matmul(%u, %w) : f32[n,3]
  %z = relu(%y) : f32[n,3]
  return %y, %z
}"""
    )
    # transposes are free; one row of the product adds up 4 * 3 terms, and relu takes 3 elements
    assert size_of(graph) == Size(nodes=4, constant_bytes=48, flops=2 * 12 + 3)
    conv = parse_graph(
        """graph @g(%x: f32[1,4,8,8]) -> (y: f32[1,6,8,8]) {
  %w = const() {value = random(1)} : f32[6,2,3,3]
  %y = conv(%x, %w) {group = 2, pads = [1, 1, 1, 1]} : f32[1,6,8,8]
  return %y
}"""
    )
    assert size_of(conv).flops == 2 * (6 * 8 * 8) * (2 * 3 * 3)


@pytest.mark.parametrize(
    ("q", "k", "v", "y", "heads"),
    [("2,6,5,4", "2,3,7,4", "2,3,7,8", "2,6,5,8", ""),
     ("2,5,24", "2,7,12", "2,7,24", "2,5,48", ", q_num_heads = 6, kv_num_heads = 3")],
)  # fmt: skip
def test_attention_works_for_each_query_and_key(q: str, k: str, v: str, y: str, heads: str) -> None:
    graph = parse_graph(
        f"""graph @m(%q: f32[{q}], %k: f32[{k}], %v: f32[{v}]) -> (y: f32[{y}]) {{
          %y = attention(%q, %k, %v) {{scale = 0.5{heads}}} : f32[{y}]
          return %y
        }}"""
    )
    assert size_of(graph).flops == 2 * (2 * 6) * (5 * 7) * (4 + 8)


def test_changes_stop_after_the_limit() -> None:
    graph = parse_graph(TEXT)
    context = PassManager(parse_pipeline("simplify", Registry([]))).run(
        graph, PassContext(stop_after=0)
    )
    assert print_graph(graph) == TEXT
    assert not context.applied


KNOWN = {"breaks": Breaks, **Registry([])}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "simplify",
        "breaks{how=order times=3 loud=true},simplify{budget=5}",
        *OPTIMIZE.values(),
        *GROUP.values(),
    ],
)
def test_pipelines_print_back(text: str) -> None:
    assert str(PassManager(parse_pipeline(text, KNOWN))) == text


@pytest.mark.parametrize(
    ("text", "code", "words"),
    [
        ("simplify,,", "E401", "cannot read the pipeline from ','"),
        ("Simplify", "E401", "cannot read the pipeline"),
        ("simplyfy", "E402", "there is no pass 'simplyfy'"),
        ("breaks{why=1}", "E403", "breaks has no option 'why'"),
        ("breaks{times=often}", "E404", "breaks cannot take 'often' for times, which is an int"),
        ("breaks{loud=1}", "E404", "which is true or false"),
    ],
)
def test_bad_pipelines_are_refused(text: str, code: str, words: str) -> None:
    with pytest.raises(LeptonError, match=words) as caught:
        parse_pipeline(text, KNOWN)
    assert caught.value.code == code


def test_unknown_pass_lists_the_known_ones() -> None:
    with pytest.raises(LeptonError) as caught:
        parse_pipeline("simplyfy", KNOWN)
    assert caught.value.notes[0] == "did you mean simplify?"
    assert all(name in caught.value.notes[1] for name in BUILTIN)


def test_every_builtin_pass_has_its_name_a_contract_and_a_manual() -> None:
    registry = Registry([])
    for name in BUILTIN:
        kind = registry[name]
        assert kind.name == name
        assert isinstance(kind.numbers, Contract)
        assert kind.__doc__


def f32(*numbers: float) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
    return np.array(numbers, np.float32)


def test_exact_contract_sees_signs_of_zeros_and_no_nan_payloads() -> None:
    assert EXACT.worst(f32(1, float("nan")), f32(1, -float("nan"))) == 0
    assert EXACT.worst(f32(0.0), f32(-0.0)) == float("inf")
    assert EXACT.worst(f32(1.0), np.nextafter(f32(1.0), f32(2.0))) == float("inf")
    assert EXACT.worst(f32(1.0), f32(1.0).astype(np.float64)) == float("inf")


def test_reassociating_contract_allows_roundings_only() -> None:
    assert REASSOCIATES.worst(f32(1.0, 100.0), f32(1.00001, 100.001)) < 1
    assert REASSOCIATES.worst(f32(1.0), f32(1.01)) > 1
    assert REASSOCIATES.worst(f32(float("inf")), f32(1.0)) == float("inf")
    assert lossy(0.1).worst(f32(1.05), f32(1.0)) < 1 < lossy(0.01).worst(f32(1.05), f32(1.0))


def test_random_feeds_fit_the_inputs() -> None:
    graph = parse_graph(
        "graph @g(%x: f16[n,3], %i: u8[2*n], %b: bool[m]) -> (y: f16[n,3]) {\n  return %x\n}\n"
    )
    feeds = random_feeds(graph, sizes={"n": 5}, special=True)
    assert feeds["x"].shape == (5, 3)
    assert feeds["x"].dtype == np.float16
    assert not np.isfinite(feeds["x"]).all()
    assert feeds["i"].shape == (10,)
    assert feeds["b"].dtype == bool


def test_blobs_are_shared_by_the_copy_of_a_reproducer(tmp_path: Path) -> None:
    graph = parse_graph(
        "graph @g() -> (y: f32[1000]) {\n  %c = const() {value = random(1)} : f32[1000]\n"
        "  return %c\n}\n"
    )
    observer = Reproducer(tmp_path / "r.lir")
    observer.before(Breaks(), graph)
    kept = observer._before  # pyright: ignore[reportPrivateUsage]
    assert kept is not None
    assert kept.outputs[0].blob is graph.outputs[0].blob
    assert isinstance(graph.outputs[0].blob, Blob)
