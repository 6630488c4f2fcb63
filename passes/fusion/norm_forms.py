"""Divisions by a root of a mean square, however their products are associated."""

from __future__ import annotations

from dataclasses import dataclass, field

from leptonc.ir.dims import product
from leptonc.ir.graph import Op, Value
from leptonc.passes.constants import integers, uniform

MOST_FACTORS = 8
MOST_OPERATIONS = 32
"""Products of more operations than this are not looked into."""


@dataclass
class Factors:
    """A product: `number` and the powers of values, and the operations that say so."""

    number: float = 1.0
    powers: list[tuple[Value, float]] = field(default_factory=list[tuple[Value, float]])
    ops: list[Op] = field(default_factory=list[Op])


def factors_of(root: Op) -> Factors | None:
    """What `root` multiplies, through products that nothing else reads and that may broadcast.

    A power stands for a root or a reciprocal; None where there are too many factors or steps.
    """
    found = Factors()
    waiting: list[tuple[Value, float]] = [(root.results[0], 1.0)]
    while waiting:
        value, power = waiting.pop()
        if len(found.powers) + len(waiting) > MOST_FACTORS or len(found.ops) > MOST_OPERATIONS:
            return None
        number, op = uniform(value), value.producer
        if number is not None and (abs(power) == 1 and number != 0):
            found.number *= number**power
            continue
        parts = None
        if op is not None and (op is root or value.use_count == 1):
            parts = _parts(op, power)
        if op is None or parts is None:
            found.powers.append((value, power))
            continue
        found.ops.append(op)
        waiting += parts
    return found


def _parts(op: Op, power: float) -> list[tuple[Value, float]] | None:
    """The factors of which `op` to the `power` is the product; None for other operations."""
    if op.name == "reciprocal":
        return [(op.operands[0], -power)]
    if op.name == "cast":
        both = op.operands[0].type.dtype.is_float and op.result.type.dtype.is_float
        return [(op.operands[0], power)] if both else None
    if op.name == "sqrt":
        return [(op.operands[0], power / 2)]
    if op.name == "pow":
        exponent = uniform(op.operands[1])
        usual = exponent in (0.5, -0.5, -1) and op.operands[0].type.shape == op.result.type.shape
        return [(op.operands[0], power * exponent)] if usual and exponent is not None else None
    if op.name in ("mul", "div") and abs(power) == 1:
        return [(op.operands[0], power), (op.operands[1], power if op.name == "mul" else -power)]
    return None


@dataclass
class Spread:
    """`factor` times the mean of `squared`^2 over `axes`, plus `epsilon`."""

    squared: Value
    axes: tuple[int, ...]
    factor: float
    epsilon: float
    ops: list[Op]
    mean: Value | None = None
    """With it, what is squared is `squared` less this mean of it."""


def spread_of(value: Value) -> Spread | None:
    """`value` as a multiple of a mean square or a variance plus a number; None if it is not."""
    ops: list[Op] = []
    factor, epsilon = 1.0, 0.0
    for _ in range(8):
        op = value.producer
        if op is None:
            return None
        ops.append(op)
        step = _one_step(op)
        if step is None:
            break
        value, times, plus = step
        epsilon += factor * plus
        factor *= times
    op = ops[-1]
    if op.name == "sub":
        return _difference_of_means(op, factor, epsilon, ops)
    found = mean_of(op)
    if found is None:
        return None
    source, axes, times = found
    if op.name == "reduce_sum_square":
        squared = source
    else:
        squared = _square_root(source)
        if squared is None or source.producer is None:
            return None
        ops.append(source.producer)
    return Spread(squared, axes, factor * times, epsilon, ops)


def _one_step(op: Op) -> tuple[Value, float, float] | None:
    """What `op` is a multiple of plus a number, which are given too; None for other operations."""
    first = op.operands[0] if op.operands else None
    if first is None:
        return None
    if op.name == "cast" and first.type.dtype.is_float:
        return first, 1.0, 0.0
    if op.name == "reshape" and _without_ones(first) == _without_ones(op.results[0]):
        return first, 1.0, 0.0
    if op.name == "relu":
        return first, 1.0, 0.0  # a variance is not negative
    if op.name not in ("add", "mul", "div", "max") or len(op.operands) != 2:
        return None
    for constant, other in ((op.operands[1], first), (first, op.operands[1])):
        number = uniform(constant)
        if number is None or other.type.shape != op.results[0].type.shape:
            continue
        if op.name == "add":
            return other, 1.0, number
        if op.name == "mul":
            return other, number, 0.0
        if op.name == "max":
            return (other, 1.0, 0.0) if number == 0 else None
        return (other, 1 / number, 0.0) if constant is op.operands[1] and number else None
    return None


def _without_ones(value: Value) -> list[object]:
    return [dim for dim in value.type.shape if dim != 1]


def mean_of(op: Op) -> tuple[Value, tuple[int, ...], float] | None:
    """What a reduction averages, over which axes, and how many times the mean it is."""
    if op.name not in ("reduce_mean", "reduce_sum", "reduce_sum_square"):
        return None
    source, operand = op.operands[0], op.operand("axes")
    rank = source.type.rank
    if operand is None:
        axes = () if op.int("noop_with_empty_axes") else tuple(range(rank))
    else:
        axes = integers(operand)
    if not axes:
        return None
    axes = tuple(sorted({axis % rank for axis in axes}))
    count = product(source.type.shape[axis] for axis in axes)
    if op.name == "reduce_mean":
        return source, axes, 1.0
    return (source, axes, float(count)) if isinstance(count, int) and count > 0 else None


def _square_root(value: Value) -> Value | None:
    """The x of x^2."""
    op = value.producer
    if op is None:
        return None
    if op.name == "mul" and is_same(*op.operands):
        return op.operands[0]
    square = op.name == "pow" and uniform(op.operands[1]) == 2
    return op.operands[0] if square and op.operands[0].type == value.type else None


def _difference_of_means(op: Op, factor: float, epsilon: float, ops: list[Op]) -> Spread | None:
    """The variance as the mean of the squares less the square of the mean."""
    left, right = (operand.producer for operand in op.operands)
    mean = _square_root(op.operands[1])
    found = mean_of(left) if left is not None else None
    if left is None or right is None or mean is None or found is None or left.name == "reduce_sum":
        return None
    squared = found[0] if left.name == "reduce_sum_square" else _square_root(found[0])
    if squared is None or found[0].producer is None:
        return None
    if left.name == "reduce_sum_square" and found[2] != 1:
        return None
    if not is_mean(mean, squared, found[1]):
        return None
    inner = [left, right, *([found[0].producer] if left.name == "reduce_mean" else [])]
    return Spread(squared, found[1], factor, epsilon, [*ops, *inner], mean)


def is_mean(value: Value, of: Value, axes: tuple[int, ...]) -> bool:
    """True where `value` is the mean of `of` over `axes`, which stay as extents of 1."""
    factor = 1.0
    for _ in range(4):
        op = value.producer
        if op is None:
            return False
        found = mean_of(op)
        if found is not None:
            kept = value.type.rank == of.type.rank or not value.type.shape
            return (
                kept
                and op.name != "reduce_sum_square"
                and found[:2] == (of, axes)
                and (abs(factor * found[2] - 1) <= 1e-6)
            )
        step = _one_step(op)
        if step is None or step[2] or op.name in ("relu", "max"):
            return False
        value, factor = step[0], factor * step[1]
    return False


def uncast(value: Value) -> Value:
    """What `value` is a cast of, from one type of floats to another."""
    op = value.producer
    if op is not None and op.name == "cast" and op.operands[0].type.dtype.is_float:
        return op.operands[0]
    return value


def is_same(a: Value, b: Value) -> bool:
    """True for one value, or for two differences of the same values."""
    a, b = uncast(a), uncast(b)
    if a is b:
        return True
    left, right = a.producer, b.producer
    both = left is not None and right is not None and left.name == right.name == "sub"
    return both and left is not None and right is not None and left.operands == right.operands
