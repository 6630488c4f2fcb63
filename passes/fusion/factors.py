"""Products taken apart into one number and the tensors that are multiplied."""

from __future__ import annotations

from dataclasses import dataclass, field

from leptonc.ir.graph import Op, Value
from leptonc.passes.constants import uniform


@dataclass
class Factors:
    """`number` times the tensors of `values`, and the operations that said so."""

    number: float = 1.0
    values: list[Value] = field(default_factory=list[Value])
    ops: list[Op] = field(default_factory=list[Op])


def factors_of(value: Value) -> Factors:
    """The factors of `value`; products inside it count as long as nothing else reads them."""
    found = Factors()
    waiting = [(value, True)]
    while waiting:
        part, outermost = waiting.pop()
        number = uniform(part)
        op = part.producer
        free = outermost or part.use_count == 1
        if number is not None:
            found.number *= number
        elif op is None or not free or part.type != value.type:
            found.values.append(part)
        elif op.name == "mul":
            found.ops.append(op)
            waiting += [(operand, False) for operand in reversed(op.operands)]
        elif op.name == "div" and uniform(op.operands[1]) not in (None, 0.0):
            found.ops.append(op)
            found.number /= uniform(op.operands[1]) or 1.0
            waiting.append((op.operands[0], False))
        elif op.name == "neg":
            found.ops.append(op)
            found.number = -found.number
            waiting.append((op.operands[0], False))
        else:
            found.values.append(part)
    return found


def is_close(number: float, wanted: float) -> bool:
    """True for a constant as exporters print it: to three digits or more."""
    return abs(number - wanted) <= 2e-4 * abs(wanted)


def plus_constant(value: Value, number: float) -> tuple[Op, Value] | None:
    """The sum and its other operand, where `value` is `number` plus something and read once."""
    op = value.producer
    if op is None or op.name != "add" or value.use_count != 1:
        return None
    for constant, other in (op.operands, op.operands[::-1]):
        found = uniform(constant)
        if found is not None and is_close(found, number) and other.type == value.type:
            return op, other
    return None
