"""Products of attention that are written as sums over labelled axes."""

from __future__ import annotations

from leptonc.ir.build import Builder
from leptonc.ir.graph import Op, Value
from leptonc.ir.ops.einsum import Equation, parse_equation
from leptonc.passes.pattern import Match, Var, pat
from leptonc.passes.rewrite import rule

a, b = Var("a"), Var("b")

_AHEAD = 8
"""How many operations there may be between a product and the softmax that reads it."""

_PASSED = frozenset({"mul", "div", "add", "where", "reshape", "tanh"})


def _feeds_softmax(op: Op) -> bool:
    """True where a softmax reads what `op` gives, alone and through few operations."""
    value = op.result
    for _ in range(_AHEAD):
        if value.use_count != 1:
            return False
        (reader,) = value.users
        if reader.name == "softmax":
            return True
        if reader.name not in _PASSED or not reader.results:
            return False
        value = reader.result
    return False


def _reads_softmax(op: Op) -> bool:
    makers = [value.producer for value in op.operands]
    return any(maker is not None and maker.name in ("softmax", "where") for maker in makers)


def _apart(equation: Equation) -> tuple[list[str], str, str, str] | None:
    """The labels of the batch, of rows, of columns and of what is summed, one each."""
    if len(equation.terms) != 2 or any(len(set(term)) != len(term) for term in equation.terms):
        return None
    left, right = equation.terms
    both = [label for label in left if label in right]
    batch = [label for label in equation.output if label in both]
    inner = [label for label in both if label not in equation.output]
    rows = [label for label in left if label not in right]
    columns = [label for label in right if label not in left]
    if any(len(group) != 1 for group in (inner, rows, columns)):
        return None
    if {*batch, *rows, *columns} != {*equation.output}:
        return None
    return batch, rows[0], columns[0], inner[0]


def _ordered(build: Builder, value: Value, term: tuple[str, ...], wanted: list[str]) -> Value:
    perm = tuple(term.index(label) for label in wanted)
    return value if perm == tuple(range(len(perm))) else build.transpose(value, perm=perm)


@rule(pat.einsum(a, b))
def sum_beside_softmax(m: Match, build: Builder) -> Value:
    """A sum over labelled axes before or after a softmax is a product of matrices."""
    op = m.root
    m.fits(_feeds_softmax(op) or _reads_softmax(op))
    values = [m[a], m[b]]
    equation = parse_equation(op.str("equation"), [value.type.rank for value in values])
    parts = _apart(equation)
    m.require(parts is not None, "the labels are not those of a product of matrices")
    assert parts is not None
    batch, rows, columns, inner = parts
    extents = [
        [value.type.shape[term.index(label)] for label in batch]
        for value, term in zip(values, equation.terms, strict=True)
    ]
    m.require(extents[0] == extents[1], "a batch is broadcast")
    left = _ordered(build, values[0], equation.terms[0], [*batch, rows, inner])
    right = _ordered(build, values[1], equation.terms[1], [*batch, inner, columns])
    product = build.matmul(left, right)
    return _ordered(build, product, (*batch, rows, columns), list(equation.output))
