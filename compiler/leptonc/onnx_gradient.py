"""Gradient (ai.onnx.preview.training): reverse-mode differentiation of what was imported before.

The node names tensors: `y`, the ones it is differentiated by (`xs`), and the other ones it is a
function of (`zs`). Where the node's inputs are those very tensors, the operations between them
are gone through backwards. Where other values are given, these operations are copied first, so
that the gradient is taken there. All elements of `y` count alike: the gradient is that of their
sum. It is zero by a tensor that `y` does not depend on.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import TypeAlias

from leptonc.gradient_rules import RULES
from leptonc.gradient_step import Step, filled, summed_to
from leptonc.ir.build import Builder
from leptonc.ir.diagnostics import LeptonError, shown
from leptonc.ir.graph import Op, Value
from leptonc.onnx_limits import LIMITS
from leptonc.onnx_order import GRADIENT
from leptonc.onnx_scope import Call, Failed

Rule: TypeAlias = Callable[[Call], "Sequence[Value | None]"]


def _read(op: Op) -> Iterator[Value]:
    """What an operation reads, its regions included, and defines not itself."""
    yield from op.operands
    for region in op.regions:
        inner = list(region.walk())
        own = {value for part in inner for value in part.results} | set(region.inputs)
        own |= {value for part in inner for nested in part.regions for value in nested.inputs}
        yield from (value for part in inner for value in part.operands if value not in own)


def _between(stops: Collection[Value], ends: Sequence[Value]) -> list[Op]:
    """The operations that compute `ends`, in order, as far back as `stops`."""
    done: set[Op] = set()
    stops = set(stops)
    order: list[Op] = []
    waiting = [(value.producer, False) for value in ends if value not in stops]
    while waiting:
        op, is_ready = waiting.pop()
        if op is None or op in done:
            continue
        if is_ready:
            done.add(op)
            order.append(op)
            continue
        waiting.append((op, True))
        waiting += [(value.producer, False) for value in _read(op) if value not in stops]
    return order


def _values(call: Call, names: Sequence[str]) -> list[Value]:
    """The tensors of these names."""
    found: list[Value] = []
    for name in names:
        meaning = call.meaning(name)
        if isinstance(meaning, Failed):  # told already
            raise LeptonError(f"{shown(name)} could not be imported", call.location, code="E014")
        if not isinstance(meaning, Value):
            raise LeptonError(f"{shown(name)} is no tensor", call.location, code="E014")
        found.append(meaning)
    return found


def _check_floats(call: Call, names: Sequence[str], values: Sequence[Value]) -> None:
    for name, value in zip(names, values, strict=True):
        if not value.type.dtype.is_float or value.type.dtype.is_narrow:
            raise LeptonError(
                f"Gradient of or by {shown(name)}, which is {value.type}: only floats of 16 bits "
                "and more are differentiated",
                call.location,
                code="E102",
            )


def _check_independent(call: Call, names: Sequence[str], values: Sequence[Value]) -> None:
    """Raise E014 where one of the variables is there twice, or is computed from another."""
    read: set[Value] = set()
    for op in _between((), values):
        read.update(_read(op))
    for index, (name, value) in enumerate(zip(names, values, strict=True)):
        if value in read or value in values[:index]:
            raise LeptonError(
                f"another tensor of Gradient's xs and zs is computed from {shown(name)}",
                call.location,
                notes=["xs and zs should be independent; leave out what follows from the others"],
                code="E014",
            )


def _moved(
    build: Builder, variables: Sequence[Value], given: Sequence[Value], y: Value
) -> tuple[list[Value], Value]:
    """New variables that are the values given, and what `y` is for them."""
    # A value may be given for several variables, and each needs one of its own.
    new = [build.identity(value) for value in given]
    copies = dict(zip(variables, new, strict=True))
    for op in _between(variables, [y]):
        if not any(value in copies for value in _read(op)):
            continue
        if op.regions:
            raise _refusal(op, "computed again for other values")
        operands = [copies.get(value, value) for value in op.operands]
        copy = build.op(op.definition, operands, op.attrs, names=op.operand_names)
        copies.update(zip(op.results, copy.results, strict=True))
    return new, copies.get(y, y)


def _refusal(op: Op, what: str) -> LeptonError:
    return LeptonError(
        f"{op.name} stands between the tensors of Gradient and is not {what}",
        op.location,
        notes=[
            f"what is differentiated: {', '.join(sorted(RULES))}",
            "or export the graph of the gradients, as training frameworks do",
        ],
        code="E013",
    )


def gradients(build: Builder, y: Value, xs: Sequence[Value], stops: Sequence[Value]) -> list[Value]:
    """The gradient of the sum of `y` by each of `xs`, where `stops` are held fast.

    Raises E013 for an operation between them that no rule tells the derivative of.
    """
    order = _between([*xs, *stops], [y])
    moving = set(xs)
    for op in order:
        if not moving.isdisjoint(_read(op)):
            moving.update(value for value in op.results if value.type.dtype.is_float)
    found: dict[Value, Value] = {}
    if y in moving:
        found[y] = filled(build, 1, y)
    for op in reversed(order):
        parts = tuple(found.get(result) for result in op.results)
        if all(part is None for part in parts):
            continue
        rule = RULES.get(op.name)
        if rule is None or op.regions:
            raise _refusal(op, "differentiated")
        if len(build.made) > LIMITS.nodes:  # gradients of gradients grow without bounds
            raise LeptonError(
                f"the model has more than {LIMITS.nodes} operations once differentiated",
                build.location,
                code="E018",
            )
        wanted = frozenset(slot for slot, item in enumerate(op.operands) if item in moving)
        slopes = rule(Step(op, parts, build, wanted))
        for slot in sorted(wanted):
            slope, operand = slopes[slot], op.operands[slot]
            if slope is not None:
                part = summed_to(build, slope, operand)
                found[operand] = build.add(found[operand], part) if operand in found else part
    return [found[x] if x in found else filled(build, 0, x) for x in xs]


def _gradient(call: Call) -> Sequence[Value | None]:
    names, fixed = call.take("xs", "strs", ()), call.take("zs", "strs", ())
    y_name = call.take("y", "str", "")
    if not names or not y_name:
        raise LeptonError("Gradient needs the attributes xs and y", call.location, code="E015")
    everything = (*names, *fixed)
    variables, (y,) = _values(call, everything), _values(call, [y_name])
    _check_floats(call, [*names, y_name], [*variables[: len(names)], y])
    _check_independent(call, everything, variables)
    given = _given(call, len(names), everything, variables)
    if any(one is not other for one, other in zip(variables, given, strict=True)):
        variables, y = _moved(call.build, variables, given, y)
    asked = [index for index in range(len(names)) if call.wants(index)]
    slopes = gradients(call.build, y, [variables[index] for index in asked], variables)
    results: list[Value | None] = [None] * len(call.outputs)
    for index, slope in zip(asked, slopes, strict=True):
        results[index] = slope
    return results


def _given(
    call: Call, results: int, names: Sequence[str], variables: Sequence[Value]
) -> list[Value]:
    """The values of the variables; raises E014 or E101 where they are not of the same types."""
    if len(call.operands) != len(names) or len(call.outputs) > results:
        raise LeptonError(
            f"Gradient has {len(call.operands)} inputs and {len(call.outputs)} outputs, should "
            f"have {len(names)} and at most {results}, as xs and zs name them",
            call.location,
            code="E014",
        )
    given = [call.required(index) for index in range(len(names))]
    for name, variable, value in zip(names, variables, given, strict=True):
        if value.type.dtype is not variable.type.dtype:
            raise LeptonError(
                f"Gradient is given {value.type} for {shown(name)}, which is {variable.type}",
                call.location,
                code="E101",
            )
    return given


DIFFERENTIATION: Mapping[tuple[str, str], Rule] = MappingProxyType({GRADIENT: _gradient})
"""By domain and name."""
