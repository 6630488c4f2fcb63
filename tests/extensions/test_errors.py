"""What is wrong with an operator from outside is told with its name, and where it comes from."""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper as h

import leptonc
from leptonc.check import check_model
from leptonc.driver import Options, import_source, optimize_graph
from leptonc.extensions import GROUP, Attr, Operator, Operators, known_operators
from leptonc.ir.diagnostics import LeptonError
from leptonc.ir.extension_text import described, restored
from leptonc.ir.interpret import interpret
from leptonc.ir.table import Inference, Trait
from leptonc.ir.types import TensorType
from leptonc.targets import Target, backend_of
from tests.extensions import example
from tests.robustness.models import untyped, value

RULES = "tests.extensions.rules"
needs_compiler = pytest.mark.skipif(example.compiler() is None, reason="there is no C compiler")


def same(call: Inference) -> TensorType:
    return call[0].type


def own(name: str = "test.own", **fields: Any) -> Operator:
    """An operator Own of the domain test that takes one operand."""
    named: dict[str, Any] = {"onnx": "Own", "domain": "test", "infer": same, **fields}
    return Operator(f"{name}(x)", **named)


def model(domain: str = "test") -> onnx.ModelProto:
    """Own of x, f32[2]."""
    node = h.make_node("Own", ["x"], ["y"], name="the node", domain=domain)
    graph = h.make_graph([node], "g", [value("x")], [untyped("y")])
    imports = [h.make_opsetid("", 20), h.make_opsetid("test", 1)]
    return h.make_model(graph, opset_imports=imports, ir_version=10)


def point(value: str) -> EntryPoint:
    return EntryPoint("some", value, GROUP)


INSTALLED = own(scalar=f"{RULES}:double")
"""What the entry points of these tests name."""
NOTHING: tuple[Operator, ...] = ()
HERE = f"{__name__}:INSTALLED"


def known(*given: Operator, points: tuple[str, ...] = ()) -> Operators:
    return known_operators(given, [point(text) for text in points])


def test_operators_of_the_caller_and_of_entry_points_are_known_together() -> None:
    sys.modules.setdefault(__name__, sys.modules[known.__module__])
    other = own("test.other", onnx="Other")
    found = known(other, points=(HERE,))
    assert set(found.by_name) == {"test.own", "test.other"}
    assert set(found.by_onnx_name) == {("test", "Own"), ("test", "Other")}
    assert set(known(INSTALLED, points=(HERE,)).by_name) == {"test.own"}, "one object is no clash"


CLASHES: dict[str, tuple[Callable[[], Any], str]] = {
    "a row of ours": (lambda: known(own("relu")), "'relu': one from leptonc itself"),
    "an operator of ONNX": (
        lambda: known(own(onnx="Relu", domain="")),
        "'Relu': one from leptonc itself and one from the caller",
    ),
    "twice by the caller": (lambda: known(own(), own()), "'test.own': one from the caller"),
    "twice in ONNX": (lambda: known(own(), own("test.b")), r"'test\.Own'"),
    "the caller and a package": (
        lambda: known(own(), points=(HERE,)),
        "one from the caller and one from entry point .*INSTALLED",
    ),
    "no module": (lambda: known(points=("nowhere:X",)), "nowhere:X .* does not load"),
    "no object": (lambda: known(points=(f"{__name__}:MISSING",)), "does not load: AttributeError"),
    "no operator": (lambda: known(points=(f"{__name__}:HERE",)), "names no operators"),
    "nothing": (lambda: known(points=(f"{__name__}:NOTHING",)), "names no operators"),
}


@pytest.mark.parametrize("name", CLASHES)
def test_names_that_clash_and_entry_points_that_lead_nowhere(name: str) -> None:
    make, pattern = CLASHES[name]
    with pytest.raises(LeptonError, match=pattern) as told:
        make()
    assert told.value.code == "E811"


def raising(call: Inference) -> TensorType:
    raise ZeroDivisionError("oh")


def giving(result: Any) -> Callable[[Any], Any]:
    """A function of anything that gives `result`."""

    def function(_: Any) -> Any:
        return result

    return function


def graph_of(operator: Operator) -> Any:
    return import_source(model(), {}, operators=[operator])


def evaluated(evaluate: Any) -> Any:
    graph = graph_of(own(evaluate=evaluate))
    return interpret(graph, {"x": np.ones(2, np.float32)})


def compiled(**fields: Any) -> Any:
    return leptonc.compile(model(), operators=[own(**fields)], isolated=False)


UNUSABLE: dict[str, tuple[Callable[[], Any], str]] = {
    "two codes": (lambda: own(scalar="a:b", rule="a:b").row(), "has scalar and rule, should have"),
    "library without symbol": (lambda: own(library="x.so").row(), "library and symbol together"),
    "no name in ONNX": (lambda: own(onnx="").row(), "one in ONNX"),
    "a trait": (lambda: own(traits=[Trait.VIEW]).row(), "cannot have the trait view"),
    "a kind": (lambda: own(attrs={"a": Attr("blob")}).row(), "attribute 'a' of kind blob"),
    "no module": (lambda: own(rule="no_such_module:f").row(), "is not at 'no_such_module:f'"),
    "no function": (lambda: own(rule=RULES).row(), "is not at 'tests.extensions.rules'"),
    "a script": (lambda: own(rule="__main__:f").row(), "is not at '__main__:f'"),
    "infer of nothing": (lambda: graph_of(own(infer=giving(None))), "gives 'None', should give"),
    "infer of text": (lambda: graph_of(own(infer=giving(["f32[2]"]))), "should give TensorTypes"),
    "infer that raises": (lambda: graph_of(own(infer=raising)), "raised ZeroDivisionError: oh"),
    "evaluate of another type": (
        lambda: evaluated(giving(np.zeros(2, np.int64))),
        r"gives int64\[2\], inferred was f32\[2\]",
    ),
    "evaluate of another rank": (
        lambda: evaluated(giving(np.zeros((2, 1), np.float32))),
        r"gives float32\[2, 1\], inferred",
    ),
    "evaluate that raises": (lambda: evaluated(raising), "raised ZeroDivisionError: oh"),
    "a rule that is not there": (lambda: compiled(rule=f"{RULES}:nothing"), "rules:nothing"),
    "an expression that raises": (lambda: compiled(scalar=f"{RULES}:raising"), "raised KeyError"),
    "a rule of two": (lambda: compiled(rule=f"{RULES}:two"), "gave 2 tensors, should give 1"),
    "a rule of another type": (
        lambda: compiled(rule=f"{RULES}:integers"),
        r"gave int32 of 1 dimensions, should give f32\[2\]",
    ),
    "a rule of no tensor": (lambda: compiled(rule=f"{RULES}:no_tensor"), "gave int"),
}


@pytest.mark.parametrize("name", UNUSABLE)
def test_what_cannot_be_used_of_an_operator(name: str) -> None:
    make, pattern = UNUSABLE[name]
    with pytest.raises(LeptonError, match=pattern) as told:
        make()
    assert "own" in str(told.value)
    assert told.value.code == ("E802" if name == "a rule that is not there" else "E812")


def test_an_error_of_a_rule_comes_out_of_the_process_that_builds() -> None:
    with pytest.raises(LeptonError, match="gave 2 tensors") as told:
        leptonc.compile(model(), operators=[own(rule=f"{RULES}:two")], cache=False)
    assert told.value.location.nodes == ("the node",)


def test_an_operator_without_code_is_known_but_has_no_kernel() -> None:
    report = check_model(model(), backend_of(Target()).unsupported, operators=[own()])
    (finding,) = report.findings
    assert (finding.op, finding.domain, finding.nodes) == ("Own", "test", ("the node",))
    assert "neither an expression nor a rule nor a C function" in finding.reason
    with pytest.raises(LeptonError, match="neither an expression") as told:
        compiled()
    assert told.value.code == "E802"


def test_results_whose_sizes_nothing_tells_have_no_kernel() -> None:
    def infer(call: Inference) -> TensorType:
        return call[0].type.with_shape(call.unknown())

    unknown = own(infer=infer, rule=f"{RULES}:copied")
    with pytest.raises(LeptonError, match="do not follow from those of its operands"):
        leptonc.compile(model(), operators=[unknown], isolated=False)


def test_other_code_gives_another_library_from_the_same_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = "def f(op, operands):\n    return operands[0] * {factor}\n"
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    found: list[list[float]] = []
    for factor in (2, 3, 2):
        (tmp_path / "lepton_changing.py").write_text(code.format(factor=factor))
        with leptonc.compile(model(), operators=[own(scalar="lepton_changing:f")]) as session:
            found.append(session.run({"x": np.ones(2, np.float32)})["y"].tolist())
    assert found == [[2, 2], [3, 3], [2, 2]]


def test_code_that_this_process_has_imported_already_is_kept_in_no_cache(tmp_path: Path) -> None:
    backend = backend_of(Target(), isolated=False)
    graph = graph_of(own(scalar=f"{RULES}:double"))
    optimize_graph(graph, Options(), backend)
    backend.prepare(graph)
    folder = tmp_path / "cache"
    folder.mkdir()

    def progress(what: str, done: int, total: int) -> None:
        """Tell nobody."""

    backend.build(graph, tmp_path / "l.so", cache_folder=folder, progress=progress)
    assert not list(folder.rglob("*"))


def test_rows_pass_to_the_process_that_builds_whole() -> None:
    attrs = {"k": Attr("ints", (1, 2)), "f": Attr("float", 0.5), "r": Attr("str", required=True)}
    row = own(attrs=attrs, traits=[Trait.COMMUTATIVE], scalar=f"{RULES}:double").row()
    again = restored(described(row))
    assert described(again) == described(row)
    assert again.attrs == row.attrs
    assert (again.operands, again.traits, again.extension) == (
        row.operands,
        row.traits,
        row.extension,
    )


LIBRARIES: dict[str, tuple[str, str]] = {
    "no symbol": ("LEPTON_OPERATOR_LIBRARY", "has no function 'f'"),
    "no version": ("", "does not say which version"),
    "another version": (
        'const int lepton_abi_version __attribute__((visibility("default"))) = 99;',
        "is for version 99 of lepton_operator.h, this is 1",
    ),
    "hidden": (
        "LEPTON_OPERATOR_LIBRARY\nstatic int f(void) { return 0; }\nint g(void) { return f(); }",
        "has no function 'f'",
    ),
    "another library that is not there": (
        "LEPTON_OPERATOR_LIBRARY\nint nobody(void);\nint f(void) { return nobody(); }",
        "does not load",
    ),
}


@needs_compiler
@pytest.mark.parametrize("name", LIBRARIES)
def test_a_shared_library_that_cannot_be_used(name: str, tmp_path: Path) -> None:
    source, pattern = LIBRARIES[name]
    path = example.compile_c(f"#include <lepton_operator.h>\n{source}\n", tmp_path / "f.so")
    with pytest.raises(LeptonError, match=pattern) as told:
        own(library=path, symbol="f", evaluate=giving(None)).row()
    assert told.value.code == "E813"
    assert "f.so" in told.value.message


def test_what_is_no_shared_library(tmp_path: Path) -> None:
    path = tmp_path / "text.so"
    for text, pattern in ((None, "cannot be read"), (b"", "does not load"), (b"hello", "not load")):
        if text is not None:
            path.write_bytes(text)
        with pytest.raises(LeptonError, match=pattern) as told:
            own(library=path, symbol="f").row()
        assert told.value.code == "E813"


def test_an_operator_without_a_meaning_is_left_to_run_time_and_its_opset_goes_out() -> None:
    source = model()
    source.graph.initializer.append(onnx.numpy_helper.from_array(np.ones(2, np.float32), "x"))
    operator = own(rule=f"{RULES}:copied", since=3)
    with leptonc.compile(source, operators=[operator], isolated=False) as session:
        assert session.run({})["y"].tolist() == [1, 1]
    again = leptonc.optimize(source, operators=[operator])
    assert [(node.op_type, node.domain) for node in again.graph.node] == [("Own", "test")]
    assert {item.domain: item.version for item in again.opset_import}["test"] == 3


def test_a_local_function_goes_before_an_operator_of_its_name() -> None:
    source = model()
    body = [h.make_node("Neg", ["a"], ["b"])]
    imports = [h.make_opsetid("", 20)]
    source.functions.append(h.make_function("test", "Own", ["a"], ["b"], body, imports))
    graph = import_source(source, {}, operators=[own(infer=raising)])
    assert [op.name for op in graph] == ["neg", "return"]
