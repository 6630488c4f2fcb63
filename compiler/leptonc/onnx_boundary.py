"""The inputs and outputs of a model: tensors, and what stands for sequences and optionals.

A sequence is as many tensors as the caller says it has; an optional is there or not.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import onnx

from leptonc.groups import Groups, element
from leptonc.ir.diagnostics import LeptonError, shown
from leptonc.ir.graph import Graph, Value
from leptonc.onnx_declared import check_output
from leptonc.onnx_dims import InputDims, present
from leptonc.onnx_faults import INPUTS, OUTPUTS, Findings
from leptonc.onnx_limits import Limits
from leptonc.onnx_rows import check_extents
from leptonc.onnx_scope import FAILED, Failed, Meaning, Scope
from leptonc.onnx_sequence import LONGEST_SEQUENCE


def add_inputs(
    graph: Graph,
    scope: Scope,
    inputs: Sequence[onnx.ValueInfoProto],
    dims: Mapping[str, int | str],
    limits: Limits,
    findings: Findings,
) -> None:
    """Put the inputs of a model into the graph and the scope."""
    try:
        extents = InputDims(inputs, dims)
    except LeptonError as error:
        findings.add(error, INPUTS)
        extents = InputDims(inputs, {})
    for index, item in enumerate(inputs):
        with findings.at(INPUTS, index):
            if item.name in scope.names:
                message = f"input {shown(item.name)} is there twice"
                findings.add(LeptonError(message, code="E014"))
                continue
            try:
                scope.names[item.name] = _input(graph, item, extents, limits, findings)
            except LeptonError as error:
                findings.add(error)
                scope.names[item.name] = FAILED
    if findings.faults:  # an input that failed may be the one with the extent
        return
    try:
        extents.check_all_used()
    except LeptonError as error:
        findings.add(error, INPUTS)


def _input(
    graph: Graph,
    item: onnx.ValueInfoProto,
    extents: InputDims,
    limits: Limits,
    findings: Findings,
) -> Meaning:
    """What an input stands for, added to the graph: a tensor, several of them, or nothing."""
    sequence = present(item.type).HasField("sequence_type")
    optional, spelled = item.type.HasField("optional_type"), shown(item.name)
    length = extents.length_of(item) if sequence or optional else None
    if optional and length == 0:
        return None
    if sequence:
        if length is None:
            raise LeptonError(
                f"input {spelled} is a sequence, of which nothing says how many tensors it has",
                notes=[f"say how many: --dim {item.name}=3, or dims={{{spelled}: 3}}"],
                code="E013",
            )
        if length > LONGEST_SEQUENCE:
            raise LeptonError(
                f"input {spelled} has {length} tensors, more than {LONGEST_SEQUENCE}", code="E018"
            )
        named = [extents.element_of(item, index, limits.rank) for index in range(length)]
    else:
        named = [(item.name, extents.type_of(item, limits.rank))]
        if optional and length is None:
            findings.notices.append(
                f"input {spelled} is optional; a run must give it, unless it is compiled with "
                "an extent of that name of 0"
            )
    for name, type in named:
        check_extents(type, f"input {shown(name)}", limits)
    values = [graph.add_input(Value(type, name)) for name, type in named]
    return tuple(values) if sequence else values[0]


def groups_of(
    scope: Scope,
    inputs: Sequence[onnx.ValueInfoProto],
    model: onnx.ModelProto,
    outputs: Sequence[Meaning],
) -> Groups:
    """Which inputs and outputs are no plain tensors."""

    def length(meaning: Meaning) -> int | None:
        return len(meaning) if isinstance(meaning, tuple) else None

    given = {item.name: scope.names[item.name] for item in inputs}
    made = {item.name: meaning for item, meaning in zip(model.graph.output, outputs, strict=True)}
    grouped = [
        {name: length(meaning) for name, meaning in named.items() if not isinstance(meaning, Value)}
        for named in (given, made)
    ]
    return Groups(grouped[0], grouped[1], tuple(made))


def check_outputs(
    model: onnx.ModelProto,
    outputs: Sequence[Meaning],
    findings: Findings,
    *,
    trust_inferred: bool,
) -> list[tuple[str, Value]]:
    """The tensors that a model gives, by name, held against what it declares."""
    values: list[tuple[str, Value]] = []
    seen: set[str] = set()
    if not outputs:
        findings.add(LeptonError("the model has no outputs", code="E014"), OUTPUTS)
    for index, (item, meaning) in enumerate(zip(model.graph.output, outputs, strict=True)):
        with findings.at(OUTPUTS, index):
            if item.name in seen:
                message = f"output {shown(item.name)} is there twice"
                findings.add(LeptonError(message, code="E014"))
            seen.add(item.name)
            if isinstance(meaning, Failed):
                continue
            declared = present(item.type)
            parts = [(item.name, meaning)]
            if isinstance(meaning, tuple):
                declared = declared.sequence_type.elem_type
                parts = [(element(item.name, index), part) for index, part in enumerate(meaning)]
            for name, value in parts:
                if not isinstance(value, Value):
                    continue  # an optional that is absent
                error = check_output(name, declared, value.type)
                if error is not None and not trust_inferred:
                    findings.add(error)
                values.append((name, value))
    if not values and not findings.faults:
        findings.add(LeptonError("no output of the model is a tensor", code="E014"), OUTPUTS)
    return values
