# pyright: standard
"""Probabilities of classes from those within pairs: a search of its own for each row."""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations
from typing import Any

from leptonc.backends.cpu import emit
from leptonc.backends.cpu.emit import T
from leptonc.backends.tvm.binding import PrimFunc, tirx
from leptonc.backends.tvm.lower.opaque import Kernel, kernel
from leptonc.backends.tvm.lowering import KernelRule, LowerCall, Reason, Rule
from leptonc.ir.graph import Op
from leptonc.ir.ops.ml_pairs import ROUNDS, TOLERANCE

MOST_CLASSES = 64
"""Pairs are written out one by one."""


class _Search:
    """One row's search; loops are over classes."""

    def __init__(self, job: Kernel, classes: int) -> None:
        self.job, self.classes, self.dtype = job, classes, job.call.dtype()
        self.q = emit.workspace((classes, classes), self.dtype)
        self.p, self.qp = (emit.workspace((classes,), self.dtype) for _ in range(2))
        self.pqp, self.worst = (emit.Register(1, self.dtype) for _ in range(2))

    def number(self, value: float) -> Any:
        """A constant."""
        return tirx.const(value, self.dtype)

    def each(self, body: Callable[[Any], None]) -> None:
        """A loop over the classes."""
        with emit.serial(self.classes) as at:
            body(at)

    def begin(self, row: Any) -> None:
        """The matrix of the pairs, and equal probabilities to start from."""
        zero, one = self.number(0), self.number(1)
        self.each(lambda t: emit.store(self.q, zero, [t, t]))
        self.each(lambda t: emit.store(self.p, self.number(1 / self.classes), [t]))
        for which, (a, b) in enumerate(combinations(range(self.classes), 2)):
            first = emit.let(self.job.read(0, [row, emit.integer(which)]))
            second = emit.let(one - first)
            for at, other in ((a, second), (b, first)):
                diagonal = [emit.integer(at), emit.integer(at)]
                emit.store(self.q, emit.load(self.q, diagonal) + other * other, diagonal)
            both = emit.let(zero - first * second)
            emit.store(self.q, both, [emit.integer(a), emit.integer(b)])
            emit.store(self.q, both, [emit.integer(b), emit.integer(a)])

    def measure(self) -> None:
        """How far each class is off, and the most that any is."""
        self.pqp.set(self.number(0))

        def one(t: Any) -> None:
            emit.store(self.qp, self.number(0), [t])
            with emit.serial(self.classes) as j:
                term = emit.load(self.q, [t, j]) * emit.load(self.p, [j])
                emit.store(self.qp, emit.load(self.qp, [t]) + term, [t])
            part = emit.load(self.p, [t]) * emit.load(self.qp, [t])
            self.pqp.set(self.pqp.get() + part)

        self.each(one)
        self.worst.set(self.number(0))

        def compare(t: Any) -> None:
            off = tirx.abs(emit.load(self.qp, [t]) - self.pqp.get())
            self.worst.set(tirx.max(self.worst.get(), off))

        self.each(compare)

    def improve(self) -> None:
        """One round: each class in turn is set right, given the others."""

        def one(t: Any) -> None:
            own = emit.let(emit.load(self.q, [t, t]))
            off = emit.let(emit.load(self.qp, [t]))
            step = emit.let((self.pqp.get() - off) / own)
            by = emit.let(self.number(1) + step)
            emit.store(self.p, emit.load(self.p, [t]) + step, [t])
            total = self.pqp.get() + step * (step * own + self.number(2) * off)
            self.pqp.set(total / by / by)
            with emit.serial(self.classes) as j:
                moved = emit.load(self.qp, [j]) + step * emit.load(self.q, [t, j])
                emit.store(self.qp, moved / by, [j])
                emit.store(self.p, emit.load(self.p, [j]) / by, [j])

        self.each(one)


def _rule(call: LowerCall, cpu: Any) -> PrimFunc:
    classes = call.known.int("classes")

    def body(job: Kernel) -> None:
        search, rows = _Search(job, classes), call.dim(job.shape(0)[0])
        with emit.serial(rows) as row:
            search.begin(row)
            search.worst.set(search.number(1))
            enough = search.number(TOLERANCE / classes)
            going_on = search.worst.get() >= enough
            with emit.serial(max(ROUNDS, classes)), T.If(going_on), T.Then():
                search.measure()
                with T.If(going_on), T.Then():
                    search.improve()
            search.each(lambda t: emit.store(job.outputs[0], emit.load(search.p, [t]), [row, t]))

    return kernel(call, cpu, body)


def _reason(op: Op) -> str:
    classes = op.int("classes")
    return f"{classes} classes are more than {MOST_CLASSES}" if classes > MOST_CLASSES else ""


RULES: dict[str, Rule] = {}
KERNELS: dict[str, KernelRule] = {"coupled_probabilities": _rule}
REASONS: dict[str, Reason] = {"coupled_probabilities": _reason}
