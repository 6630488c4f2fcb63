"""The package of the page on operators works in every part of leptonc."""

from __future__ import annotations

import importlib
import io
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto
from onnx import helper as h

import leptonc
from leptonc.artifact import Artifact
from leptonc.check import check_model
from leptonc.cli.main import main as command
from leptonc.driver import import_source
from leptonc.extensions import known_operators
from leptonc.ir.interpret import interpret
from leptonc.ir.text import parse_graph, print_graph
from leptonc.targets import Target, backend_of
from leptonc.tools.opt import main as optimizer
from tests.extensions import example
from tests.robustness.models import I64, const, untyped, value

pytestmark = pytest.mark.skipif(example.compiler() is None, reason="there is no C compiler")

Array = np.ndarray[Any, np.dtype[Any]]
DOMAIN = "com.example"
X = np.array([[1, -2, 3, 0.5, -4], [-1, -1, 2, 2.5, 1]], np.float32)


@pytest.fixture(scope="module", autouse=True)
def installed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The package, as if an installer had put it there."""
    folder = tmp_path_factory.mktemp("site")
    example.install(folder)
    sys.path.insert(0, str(folder))
    importlib.invalidate_caches()
    yield folder
    sys.path.remove(str(folder))
    for name in [name for name in sys.modules if name.partition(".")[0] == "lepton_example"]:
        del sys.modules[name]


def own(op: str, *inputs: str, result: str, **attributes: Any) -> onnx.NodeProto:
    return h.make_node(op, inputs, [result], name=f"node {result}", domain=DOMAIN, **attributes)


def model() -> onnx.ModelProto:
    """All three operators, among others that one of them fuses with."""
    nodes = [
        h.make_node("MatMul", ["x", "w"], ["m"], name="product"),
        own("Swish", "m", result="s", beta=2.0),
        h.make_node("Add", ["s", "one"], ["a"], name="sum"),
        own("PairSum", "a", result="p"),
        own("RunningMax", "a", "low", result="up"),
        own("RunningMax", "x", result="back", reverse=1),
        h.make_node("Neg", ["up"], ["n"], name="behind"),
    ]
    weights = [
        const("w", np.linspace(-1, 1, 25).reshape(5, 5), np.float32),
        const("one", 1, np.float32), const("low", 0.75, np.float32),
    ]  # fmt: skip
    outputs = [untyped(name) for name in ("p", "n", "back")]
    graph = h.make_graph(nodes, "own", [value("x", ("rows", 5))], outputs, weights)
    imports = [h.make_opsetid("", 20), h.make_opsetid(DOMAIN, 1)]
    return h.make_model(graph, opset_imports=imports, ir_version=10)


def expected(x: Array) -> dict[str, Array]:
    """The same in numpy, written once more."""
    m = x.astype(np.float64) @ np.linspace(-1, 1, 25).reshape(5, 5)
    a = m / (1 + np.exp(-2.0 * m)) + 1
    up = np.maximum(np.maximum.accumulate(a, -1), 0.75)
    back = np.maximum.accumulate(x[:, ::-1], -1)[:, ::-1]
    return {"p": a[:, 0:4:2] + a[:, 1:4:2], "n": -up, "back": back}


def agree(found: dict[str, Array], x: Array) -> None:
    for name, wanted in expected(x).items():
        np.testing.assert_allclose(found[name], wanted, rtol=2e-5, atol=1e-5, err_msg=name)


@pytest.mark.parametrize("isolated", [True, False])
def test_a_compiled_model_gives_what_the_operators_mean(tmp_path: Path, *, isolated: bool) -> None:
    path = tmp_path / "m.lepton"
    with leptonc.compile(model(), output=path, isolated=isolated, cache=False) as session:
        for rows in (2, 1, 0, 7):
            x = np.random.default_rng(rows).standard_normal((rows, 5)).astype(np.float32)
            agree(session.run({"x": x}), x)
    with Artifact.open(path) as artifact:
        (function,) = artifact.manifest.functions
        assert (function.symbol, function.operator) == ("running_max", "example.running_max")
        library = Path(sys.path[0]) / "lepton_example" / "running_max.so"
        assert bytes(artifact.carried(function.member)) == library.read_bytes()


@pytest.mark.parametrize("level", [0, 3])
def test_every_level_agrees(level: int) -> None:
    with leptonc.compile(model(), level=level, isolated=False) as session:
        agree(session.run({"x": X}), X)


def test_the_interpreter_agrees() -> None:
    graph = import_source(model(), {})
    agree(interpret(graph, {"x": X}), X)
    agree(interpret(graph, {"x": X}, widen=True), X)


def test_an_elementwise_operator_joins_the_kernels_around_it() -> None:
    from leptonc.driver import Options, optimize_graph

    graph = import_source(model(), {})
    optimize_graph(graph, Options(), backend_of(Target()))
    kernels = [{op.name for op in group.regions[0]} for group in graph if group.name == "group"]
    (fused,) = [names for names in kernels if "example.swish" in names]
    assert {"add", "example.swish"} < fused
    alone = [names - {"return"} for names in kernels if "example.running_max" in names]
    assert alone == [{"example.running_max"}] * 2


def test_operators_inside_choices_and_loops() -> None:
    """Each turn keeps the running maximum of what the last one gave, doubled by a branch."""
    branch = h.make_graph([own("Swish", "v", result="s", beta=0.5)], "yes", [], [untyped("s")])
    other = h.make_graph([h.make_node("Neg", ["v"], ["m"])], "no", [], [untyped("m")])
    choose = h.make_node("If", ["c"], ["t"], name="choose", then_branch=branch, else_branch=other)
    again = h.make_node("Identity", ["go"], ["again"], name="again")
    taken = [value("i", (), I64), value("go", (), TensorProto.BOOL), value("v", ("rows", 5))]
    given = [untyped("again"), untyped("w")]
    turn = [choose, own("RunningMax", "t", result="w"), again]
    body = h.make_graph(turn, "body", taken, given)
    loop = h.make_node("Loop", ["turns", "", "x"], ["y"], name="loop", body=body)
    inputs = [value("x", ("rows", 5)), value("c", (), TensorProto.BOOL), value("turns", (), I64)]
    graph = h.make_graph([loop], "inside", inputs, [untyped("y")])
    imports = [h.make_opsetid("", 20), h.make_opsetid(DOMAIN, 1)]
    source = h.make_model(graph, opset_imports=imports, ir_version=10)
    with leptonc.compile(source, isolated=False) as session:
        for turns, choice in ((3, True), (1, False), (0, True)):
            wanted = X.astype(np.float64)
            for _ in range(turns):
                wanted = wanted / (1 + np.exp(-0.5 * wanted)) if choice else -wanted
                wanted = np.maximum.accumulate(wanted, -1)
            feeds = {"x": X, "c": np.array(choice), "turns": np.array(turns)}
            np.testing.assert_allclose(session.run(feeds)["y"], wanted, rtol=1e-5)


def test_what_is_constant_is_computed_when_the_model_is_compiled() -> None:
    source = model()
    source.graph.initializer.append(const("x", X, np.float32))
    graph = leptonc.optimize(source).graph
    assert {node.op_type for node in graph.node} <= {"Identity"}


def test_check_knows_the_operators_and_compile_without_the_package_does_not() -> None:
    unsupported = backend_of(Target()).unsupported
    assert check_model(model(), unsupported).is_supported
    without = sys.path.pop(0)
    importlib.invalidate_caches()
    try:
        found = check_model(model(), unsupported)
    finally:
        sys.path.insert(0, without)
        importlib.invalidate_caches()
    assert {item.op for item in found.findings} == {"Swish", "PairSum", "RunningMax"}


def test_a_model_goes_out_with_its_domain() -> None:
    again = leptonc.optimize(model())
    onnx.checker.check_model(again)  # pyright: ignore[reportUnknownMemberType]
    own_nodes = {node.op_type: node for node in again.graph.node if node.domain == DOMAIN}
    assert set(own_nodes) == {"Swish", "PairSum", "RunningMax"}
    assert {item.domain: item.version for item in again.opset_import}[DOMAIN] == 1
    assert [a.f for a in own_nodes["Swish"].attribute] == [2.0]
    with leptonc.compile(again, isolated=False) as session:
        agree(session.run({"x": X}), X)


def test_textual_ir_is_read_with_the_operators(tmp_path: Path) -> None:
    graph = import_source(model(), {})
    text = print_graph(graph)
    assert print_graph(parse_graph(text, rows=known_operators().by_name)) == text
    path = tmp_path / "swish.lir"
    path.write_text(
        "graph @own(%x: f32[2,5]) -> (y: f32[2,5]) {\n"
        "  %y = example.swish(%x) {beta = 2.0} : f32[2,5]\n  return %y\n}\n"
    )
    out = io.StringIO()
    assert optimizer([str(path)], out) == 0
    assert "example.swish(%x) {beta = 2.0}" in out.getvalue()
    with leptonc.compile(path, isolated=False) as session:
        (y,) = session.run({"x": X}).values()
    np.testing.assert_allclose(y, X / (1 + np.exp(-2 * X)), rtol=1e-5)


def test_an_artefact_runs_without_the_package(tmp_path: Path) -> None:
    import subprocess

    path = tmp_path / "m.lepton"
    leptonc.compile(model(), output=path, isolated=False).close()
    np.save(tmp_path / "x.npy", X)
    program = (
        "import sys, numpy as np, leptonc\n"
        f"x = np.load({str(tmp_path / 'x.npy')!r})\n"
        f"with leptonc.load({str(path)!r}) as s: print(s.run({{'x': x}})['back'].tolist())\n"
        "assert 'lepton_example' not in sys.modules\n"
    )
    root = Path(__file__).parents[2] / "compiler"
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=root, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == expected(X)["back"].tolist()


def test_the_command_line_finds_the_package(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(model().SerializeToString())
    command(["check", str(path), "--shapes"])
    told = capsys.readouterr().out
    assert "com.example.PairSum" in told
    assert "f32[rows,2]" in told
    command(["compile", str(path), "--json"])
    assert json.loads(capsys.readouterr().out)["nodes"]["before"] == 7
    command(["inspect", str(path.with_suffix(".lepton"))])
    assert re.search(
        r"functions: example\.running_max.*running_max of operators0\.so", told_by(capsys)
    )


def told_by(capsys: pytest.CaptureFixture[str]) -> str:
    """What was printed, on one line."""
    return " ".join(capsys.readouterr().out.split())
