"""How a sum over labelled axes of two tensors is computed as one product of matrices."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product as combined
from math import prod

from leptonc.ir.dims import Dim, product
from leptonc.ir.graph import Value

Labels = tuple[str, ...]

OPEN = 64
"""What an extent that is not known counts as."""


@dataclass(frozen=True)
class Term:
    """A tensor, and the labels of its axes."""

    value: Value
    labels: Labels


def extent_of(term: Term, label: str) -> Dim:
    """The extent of the axis with that label."""
    return term.value.type.shape[term.labels.index(label)]


def weight_of(shape: Sequence[Dim]) -> float:
    """About how many elements a tensor has."""
    return float(prod(dim if isinstance(dim, int) else OPEN for dim in shape))


@dataclass(frozen=True)
class Groups:
    """Labels of both terms and the result, of the terms alone, and of one and the result."""

    batch: Labels
    inner: Labels
    rows: Labels
    columns: Labels


def labels_of(left: Term, right: Term, output: Labels) -> Groups:
    """What each label stands for, in the order of the terms."""
    both = tuple(label for label in left.labels if label in right.labels)
    return Groups(
        tuple(label for label in both if label in output),
        tuple(label for label in both if label not in output),
        tuple(label for label in left.labels if label not in right.labels),
        tuple(label for label in right.labels if label not in left.labels),
    )


@dataclass(frozen=True)
class Plan:
    """A product of matrices: how its operands are ordered and shaped before, and it after."""

    left: Term
    right: Term
    output: Labels
    lead: Labels
    """Rows that stay before the batch, along which the right operand broadcasts."""
    right_lead: Labels
    """Columns that do, where no rows do."""
    batch: Labels
    rows: Labels
    columns: Labels
    inner: Labels

    @property
    def left_order(self) -> Labels:
        """The labels of the left operand as the product reads it."""
        return (*self.lead, *self.batch, *self.rows, *self.inner)

    @property
    def right_order(self) -> Labels:
        """The labels of the right operand as the product reads it."""
        return (*self.right_lead, *self.batch, *self.inner, *self.columns)

    @property
    def result_order(self) -> Labels:
        """The labels of the product."""
        return (*self.lead, *self.right_lead, *self.batch, *self.rows, *self.columns)

    def _left(self, labels: Labels) -> tuple[Dim, ...]:
        return tuple(extent_of(self.left, label) for label in labels)

    def _right(self, labels: Labels) -> tuple[Dim, ...]:
        return tuple(extent_of(self.right, label) for label in labels)

    @property
    def left_shape(self) -> tuple[Dim, ...]:
        """The left operand as matrices."""
        lead = self._left((*self.lead, *self.batch))
        return (*lead, product(self._left(self.rows)), product(self._left(self.inner)))

    @property
    def right_shape(self) -> tuple[Dim, ...]:
        """The right operand as matrices."""
        matrix = (product(self._right(self.inner)), product(self._right(self.columns)))
        return (*self._right((*self.right_lead, *self.batch)), *matrix)

    @property
    def result_shape(self) -> tuple[Dim, ...]:
        """The product with an axis for each label."""
        rows = self._left((*self.batch, *self.rows))
        return (
            *self._left(self.lead),
            *self._right(self.right_lead),
            *rows,
            *self._right(self.columns),
        )

    @property
    def cost(self) -> float:
        """How many elements are moved to get there, and a little for each view."""
        total = _turning(self.left, self.left_order) + _turning(self.right, self.right_order)
        if self.result_order != self.output:
            total += weight_of(self.result_shape)
        views = (len(self.rows) != 1) + (len(self.columns) != 1) + (len(self.inner) != 1)
        return total + 0.1 * views + 0.01 * len((*self.lead, *self.right_lead))


def _turning(term: Term, order: Labels) -> float:
    """What a transpose costs; nothing for a constant, and half where only matrices turn."""
    if term.labels == order or term.value.blob is not None:
        return 0.0
    swapped = (*order[:-2], *order[-2:][::-1])
    return weight_of(term.value.type.shape) * (0.5 if term.labels == swapped else 1.0)


def best_plan(left: Term, right: Term, output: Labels) -> Plan:
    """The product that moves the fewest elements."""
    every = (*_plans(left, right, output), *_plans(right, left, output))
    return min(every, key=lambda plan: plan.cost)


def _plans(left: Term, right: Term, output: Labels) -> Iterator[Plan]:
    found = labels_of(left, right, output)

    def orders(labels: Labels, *like: Labels) -> list[Labels]:
        sorted_like = [tuple(label for label in each if label in labels) for each in like]
        return list(dict.fromkeys(sorted_like))

    choices = combined(
        orders(found.batch, output, left.labels, right.labels),
        orders(found.rows, left.labels, output),
        orders(found.columns, right.labels, output),
        orders(found.inner, left.labels, right.labels),
    )
    for batch, rows, columns, inner in choices:
        for count in range(max(len(rows), 1)):
            lead, last = rows[:count], rows[count:]
            yield Plan(left, right, output, lead, (), batch, last, columns, inner)
        for count in range(1, len(columns)):
            lead, last = columns[:count], columns[count:]
            yield Plan(left, right, output, (), lead, batch, rows, last, inner)
