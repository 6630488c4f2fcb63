# pyright: standard
"""Decisions change the kernels, never what they compute beyond rounding."""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np
import pytest
import tvm

from leptonc.backends.cpu.candidates import workloads
from leptonc.backends.cpu.choices import choice
from leptonc.backends.cpu.decision import Decision
from leptonc.backends.cpu.prepare import prepare
from leptonc.backends.cpu.target import by_name, tvm_target, with_threads
from leptonc.backends.tvm.kernels import lower_kernel
from leptonc.backends.tvm.pipeline import PIPELINE
from leptonc.backends.tvm.source import kernel_source
from leptonc.ir.blob import Array
from leptonc.ir.diagnostics import LeptonError
from leptonc.ir.interpret import interpret
from leptonc.ir.text import parse_graph
from leptonc.ir.types import DType
from leptonc.ir.verify import verify
from leptonc.passes.clone import clone_graph

CPU = with_threads(by_name("avx2"), 1)

TEXTS = {
    "linear": """graph @g(%x: f32[5,70]) -> (y: f32[5,40]) {
  %w = const() {value = random(1)} : f32[70,40]
  %y = linear(%x, %w) : f32[5,40]
  return %y
}""",
    "open linear": """graph @g(%x: f32[n,24]) -> (y: f32[n,24]) {
  %w = const() {value = random(1)} : f32[24,24]
  %b = const() {value = random(2)} : f32[24]
  %y = linear(%x, %w, %b) : f32[n,24]
  return %y
}""",
    "integers": """graph @g(%x: u8[6,30]) -> (y: i32[6,20]) {
  %w = const() {value = dense([WEIGHTS])} : i8[30,20]
  %y = integer_linear(%x, %w) : i32[6,20]
  return %y
}""",
    "pointwise": """graph @g(%x: f32[1,32,7,9,8]) -> (y: f32[1,5,7,9,8]) {
  %w = const() {value = random(1)} : f32[40,256,1,1]
  %b = const() {value = random(2)} : f32[40]
  %y = conv_blocked(%x, %w, %b) {lanes = 8} : f32[1,5,7,9,8]
  return %y
}""",
    "strided": """graph @g(%x: f32[1,2,11,9,8]) -> (y: f32[1,3,6,5,8]) {
  %w = const() {value = random(1)} : f32[20,16,3,3]
  %y = conv_blocked(%x, %w) {lanes = 8, pads = [1,1,1,1], strides = [2,2]} : f32[1,3,6,5,8]
  return %y
}""",
    "filtered": """graph @g(%x: f32[1,2,9,10,8]) -> (y: f32[1,3,9,10,8]) {
  %w = const() {value = random(1)} : f32[24,16,3,3]
  %y = conv_blocked(%x, %w) {lanes = 8, pads = [1,1,1,1], tile = 4} : f32[1,3,9,10,8]
  return %y
}""",
    "depthwise": """graph @g(%x: f32[1,1,4,15,8]) -> (y: f32[1,1,4,15,8]) {
  %w = const() {value = random(1)} : f32[8,1,3,3]
  %y = conv_blocked(%x, %w) {lanes = 8, pads = [1,1,1,1], group = 8} : f32[1,1,4,15,8]
  return %y
}""",
}


def text_of(name: str) -> str:
    weights = np.random.default_rng(3).integers(-60, 60, 600)
    return TEXTS[name].replace("WEIGHTS", ", ".join(map(str, weights)))


def decided(name: str, decision: Decision | None, x: Array) -> tuple[str, Array]:
    """The text of the kernel that a decision makes, and what it computes."""
    graph = parse_graph(text_of(name))
    (workload,) = workloads(graph, CPU, 4)
    ((told, kernel),) = prepare(graph, CPU, {} if decision is None else {workload: decision})
    assert told == workload
    verify(graph)
    source = kernel_source(kernel)
    function = lower_kernel(source, CPU).with_attr("global_symbol", "main")
    module = tvm.IRModule({"main": function})
    call = tvm.compile(module, target=tvm_target(CPU), tir_pipeline=PIPELINE).jit()["main"]
    arrays = [
        x if value.blob is None else np.ascontiguousarray(value.blob.array)
        for value in source.inputs
    ]
    (result,) = interpret(graph, {"x": x}).values()
    out = np.zeros_like(result)
    call(*arrays, out)
    return source.text, out


def data(name: str) -> Array:
    graph = parse_graph(text_of(name))
    type = graph.inputs[0].type
    shape = [extent if isinstance(extent, int) else 11 for extent in type.shape]
    generator = np.random.default_rng(0)
    if type.dtype is DType.U8:
        return generator.integers(0, 256, shape, np.uint8)
    return generator.standard_normal(shape).astype(np.float32)


@pytest.mark.parametrize("name", TEXTS)
def test_every_candidate_computes_the_same(name: str) -> None:
    graph = parse_graph(text_of(name))
    x = data(name)
    (expected,) = interpret(graph, {"x": x}).values()
    (candidates,) = (each.candidates for each in workloads(graph, CPU, 4).values())
    assert len(candidates) > 3
    texts = set[str]()
    for decision in candidates:
        text, found = decided(name, decision, x)
        texts.add(text)
        np.testing.assert_allclose(found, expected, rtol=2e-5, atol=2e-5, err_msg=decision.text)
    assert len(texts) == len(candidates)
    assert decided(name, None, x)[0] not in texts


@pytest.mark.parametrize("shared", [0, 1])
def test_threads_share_what_was_decided(shared: int) -> None:
    graph = parse_graph(text_of("linear"))
    two = with_threads(CPU, 2)
    (workload,) = workloads(graph, two, 4).values()
    assert Decision(shared=shared) in workload.candidates
    ((_, kernel),) = prepare(graph, two, {workload.source.name: Decision(shared=shared)})
    script = str(lower_kernel(kernel_source(kernel), two))
    assert ("parallel" in script) == bool(shared)


@pytest.mark.parametrize(
    ("name", "decision"),
    [
        ("pointwise", Decision(tile=2)),
        ("strided", Decision(tile=4)),
        ("filtered", Decision(tile=3)),
        ("linear", Decision(vectors=99, rows=500)),
        ("filtered", Decision(band=99999, rows=0)),
        ("depthwise", Decision(tile=2, rows=99)),
    ],
)
def test_what_no_kernel_can_do_is_left_to_formulas(name: str, decision: Decision) -> None:
    x = data(name)
    (expected,) = interpret(parse_graph(text_of(name)), {"x": x}).values()
    np.testing.assert_allclose(decided(name, decision, x)[1], expected, rtol=2e-5, atol=2e-5)


def test_without_decisions_texts_are_as_they_were() -> None:
    plain, asked = (parse_graph(text_of("linear")) for _ in range(2))
    assert prepare(plain, CPU) == []
    ((_, kernel),) = prepare(asked, CPU, {})
    assert "decision" not in kernel_source(kernel).text
    assert [kernel_source(op).text for op in plain if op.name == "packed_linear"] == [
        kernel_source(kernel).text
    ]


def test_tiles_are_no_larger_than_passes_may_choose() -> None:
    graph = parse_graph(text_of("filtered").replace(", tile = 4", ""))
    for largest, tiles in ((0, set()), (2, {2}), (4, {2, 4})):
        (workload,) = workloads(graph, CPU, largest).values()
        assert {each.tile for each in workload.candidates} - {None} == tiles


def test_equal_kernels_are_one_workload() -> None:
    text = """graph @g(%x: f32[5,8]) -> (y: f32[5,8]) {
  %w = const() {value = random(1)} : f32[8,8]
  %v = const() {value = random(2)} : f32[8,8]
  %a = linear(%x, %w) : f32[5,8]
  %y = linear(%a, %v) : f32[5,8]
  return %y
}"""
    graph = parse_graph(text)
    (workload,) = workloads(graph, CPU, 4).values()
    assert workload.uses == 2
    kernels = prepare(graph, CPU, {workload.source.name: Decision(vectors=1)})
    assert len(kernels) == 2
    assert len({kernel_source(kernel).name for _, kernel in kernels}) == 1


@pytest.mark.parametrize("weight", ["f32[8,0]", "f32[0,8]", ""])
def test_nothing_is_decided_without_a_weight_to_pack(weight: str) -> None:
    text = """graph @g(%x: f32[5,n], %v: f32[n,m]) -> (y: f32[5,m]) {
  %y = linear(%x, %v) : f32[5,m]
  return %y
}"""
    if weight:
        depth, columns = weight[4:-1].split(",")
        text = f"""graph @g(%x: f32[5,{depth}]) -> (y: f32[5,{columns}]) {{
  %w = const() {{value = random(1)}} : {weight}
  %y = linear(%x, %w) : f32[5,{columns}]
  return %y
}}"""
    assert workloads(parse_graph(text), CPU, 4) == {}


def test_explanations_tell_decisions() -> None:
    graph = parse_graph(text_of("pointwise"))
    (workload,) = workloads(graph, CPU, 4)
    prepared = clone_graph(graph)
    ((_, kernel),) = prepare(prepared, CPU, {workload: Decision(vectors=2, rows=3)})
    told = choice(kernel_source(kernel).graph, CPU)
    assert "vectors=2 rows=3" in told.algorithm


def test_decisions_are_read_as_they_are_written() -> None:
    every = Decision(**{field.name: at for at, field in enumerate(fields(Decision))})
    assert Decision.parse(every.text) == every
    assert Decision.parse("") == Decision()
    assert replace(every, tile=None).text.startswith("vectors=1")


@pytest.mark.parametrize("text", ["rows", "rows=x", "rows=1 rows=2", "length=3", "rows=-1"])
def test_other_text_is_no_decision(text: str) -> None:
    with pytest.raises(LeptonError, match="none that kernels know") as raised:
        Decision.parse(text)
    assert raised.value.code == "E810"
