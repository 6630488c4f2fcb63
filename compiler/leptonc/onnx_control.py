"""Loop and Scan: their subgraphs become regions that read the values around them directly."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import TypeAlias

import onnx

from leptonc.ir.build import Builder
from leptonc.ir.diagnostics import LeptonError
from leptonc.ir.graph import Region, Value
from leptonc.ir.ops.control import SCAN
from leptonc.ir.types import DType, TensorType
from leptonc.onnx_attributes import fit
from leptonc.onnx_branches import import_if
from leptonc.onnx_regions import Attributes, discard, region_of, subgraph, values_of
from leptonc.onnx_scope import FAILED, Failed, Importer, Meaning, Scope
from leptonc.onnx_turns import sequence_map, unrolled_loop


def control(
    importer: Importer,
    scope: Scope,
    node: onnx.NodeProto,
    attributes: Attributes,
    operands: Sequence[Meaning],
) -> Sequence[Meaning]:
    """Import a node that has subgraphs."""
    if node.op_type == "SequenceMap":
        return sequence_map(importer, scope, attributes, operands)
    if node.op_type == "Loop" and any(isinstance(operand, tuple) for operand in operands):
        return unrolled_loop(importer, scope, attributes, operands)
    values: list[Value | None] = []
    for index, operand in enumerate(operands):
        if isinstance(operand, tuple):
            raise LeptonError(f"{node.op_type}: input {index} is a sequence", code="E013")
        assert not isinstance(operand, Failed)
        values.append(operand)
    return _RULES["", node.op_type](importer, scope, attributes, values)


def _loop(
    importer: Importer, scope: Scope, attributes: Attributes, operands: Sequence[Value | None]
) -> Sequence[Meaning]:
    graph = subgraph(attributes, "body")
    trip, condition, *rest = [*operands, None, None] if len(operands) < 2 else operands
    carried = [value for value in rest if value is not None]
    fixed = [TensorType(DType.I64, ()), TensorType(DType.BOOL, ())]
    region = _settled(importer, scope, graph, fixed, [value.type for value in carried], [], 1)
    if region is None:
        return [FAILED] * (len(graph.output) - 1)
    values = [*(value for value in (trip, condition) if value is not None), *carried]
    names = [name for name, value in (("max_trip", trip), ("cond", condition)) if value is not None]
    names += ["carried"] * len(carried)
    return scope.build.op("loop", values, names=names, regions=[region]).results


def _settled(
    importer: Importer,
    scope: Scope,
    graph: onnx.GraphProto,
    before: Sequence[TensorType],
    carried: Sequence[TensorType],
    after: Sequence[TensorType],
    skipped: int,
) -> Region | None:
    """The body of a loop, its carried types so general that each turn gives back what it takes.

    An extent that one turn changes becomes unknown, and the body is imported again; `skipped`
    outputs come before the carried ones.
    """
    types = list(carried)
    while True:
        region = region_of(importer, scope, graph, [*before, *types, *after])
        if region is None:
            return None
        outputs = region.outputs[skipped : skipped + len(types)]
        if len(outputs) < len(types):
            raise LeptonError(
                f"the body gives back {len(region.outputs)} values, should be at least "
                f"{skipped + len(types)}",
                code="E014",
            )
        general = [
            _joined(importer, type, value.type, index)
            for index, (type, value) in enumerate(zip(types, outputs, strict=True))
        ]
        if general == types:
            return region
        discard(region)
        types = general


def _joined(importer: Importer, taken: TensorType, given: TensorType, index: int) -> TensorType:
    if taken.dtype is not given.dtype or taken.rank != given.rank:
        raise LeptonError(
            f"carried value {index} starts a turn as {taken} and ends it as {given}",
            notes=["element type and number of dimensions must stay the same"],
            code="E015",
        )
    return taken.with_shape(
        *(
            old if old == new or _own(importer, old) else importer.graph.fresh_dim()
            for old, new in zip(taken.shape, given.shape, strict=True)
        )
    )


def _own(importer: Importer, dim: object) -> bool:
    """True for an extent that was made general already: a body may give it any size."""
    text = str(dim)
    return text.startswith("u") and text.endswith("_") and text[1:-1].isdigit()


def _scan(
    importer: Importer, scope: Scope, attributes: Attributes, operands: Sequence[Value | None]
) -> Sequence[Meaning]:
    if scope.opsets.get("", 0) < 9:
        return _batched_scan(importer, scope, attributes, operands)
    values = [value for value in operands if value is not None]
    return _plain_scan(importer, scope, scope.build, attributes, values)


def _plain_scan(
    importer: Importer,
    scope: Scope,
    build: Builder,
    attributes: Attributes,
    values: Sequence[Value],
) -> Sequence[Meaning]:
    graph = subgraph(attributes, "body")
    attrs = fit(SCAN, {name: value for name, value in attributes.items() if name != "body"})
    count, axes = attrs["num_scan_inputs"], attrs.get("scan_input_axes")
    if not isinstance(count, int) or not 0 < count <= len(values):
        raise LeptonError(f"num_scan_inputs is {count}, should be 1 to {len(values)}", code="E015")
    axes = [int(str(axis)) for axis in axes] if isinstance(axes, tuple) else [0] * count
    states, scanned = values[: len(values) - count], values[len(values) - count :]
    if len(axes) != count:
        raise LeptonError(f"scan_input_axes has {len(axes)} axes, should have {count}", code="E015")
    slices = [_without_axis(value.type, axis) for value, axis in zip(scanned, axes, strict=True)]
    region = _settled(importer, scope, graph, [], [value.type for value in states], slices, 0)
    if region is None:
        return [FAILED] * len(graph.output)
    return build.op("scan", values, attrs, regions=[region]).results


def _batched_scan(
    importer: Importer, scope: Scope, attributes: Attributes, operands: Sequence[Value | None]
) -> Sequence[Meaning]:
    """Scan of opset 8 had a batch axis first: a scan over it, with the real one inside."""
    if operands and operands[0] is not None:
        raise LeptonError("Scan with sequence lengths is not supported", code="E013")
    values = [value for value in operands[1:] if value is not None]
    outer = Region([Value(_without_axis(value.type, 0)) for value in values])
    build = Builder(outer, location=scope.build.location, graph=importer.graph)
    newer = {"directions": "scan_input_directions"}
    inner = {newer.get(name, name): value for name, value in attributes.items()}
    results = values_of(_plain_scan(importer, scope, build, inner, outer.inputs))
    if results is None:
        return [FAILED] * len(subgraph(attributes, "body").output)
    build.return_(*results)
    attrs = {"num_scan_inputs": len(values)}
    return scope.build.op("scan", values, attrs, regions=[outer]).results


def _without_axis(type: TensorType, axis: int) -> TensorType:
    if not -type.rank <= axis < type.rank:
        raise LeptonError(f"scan axis {axis} does not exist in {type}", code="E107")
    axis %= type.rank
    return type.with_shape(*type.shape[:axis], *type.shape[axis + 1 :])


_Rule: TypeAlias = Callable[
    [Importer, Scope, Attributes, Sequence["Value | None"]], Sequence["Meaning"]
]

_RULES: Mapping[tuple[str, str], _Rule] = MappingProxyType({
    ("", "If"): import_if, ("", "Loop"): _loop, ("", "Scan"): _scan,
})  # fmt: skip

CONTROL = frozenset({*_RULES, ("", "SequenceMap")})
"""The operators with subgraphs."""
