# pyright: standard
"""Lowering of non-maximum suppression: the boxes that overlap with no better one of their class."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tvm import tirx
from tvm.tirx import PrimFunc
from tvm.tirx.script import builder as T  # noqa: N812

from leptonc.backends.cpu import emit
from leptonc.backends.tvm.lower.arithmetic import not_a_number
from leptonc.backends.tvm.lower.opaque import Kernel, kernel
from leptonc.backends.tvm.lower.sorting import Heap, key_of, packed, place_in
from leptonc.backends.tvm.lowering import KernelRule, LowerCall, Reason, Rule
from leptonc.ir.ops.counted import boxes_per_class

ZERO = tirx.const(0, "int64")
NOTHING = tirx.const(0.0, "float32")


class _Kept:
    """The boxes kept so far, by corners and area, one vector of them after the other."""

    def __init__(self, room: Any, lanes: int) -> None:
        self.lanes, self.number = lanes, emit.Register(1, "int64")
        self.number.set(ZERO)
        self.columns = [emit.workspace((room + lanes,)) for _ in range(5)]
        self.step, self.overlaps = emit.Register(1, "int64"), emit.Register(1)

    def add(self, box: Sequence[Any]) -> None:
        """Keep one more; what is behind it in its vector has no area."""
        at = self.number.lane(0)
        with T.If(tirx.floormod(at, self.lanes) == 0), T.Then():
            for column in self.columns:
                emit.store(column, emit.broadcast(NOTHING, self.lanes), [at], self.lanes)
        for column, value in zip(self.columns, box, strict=True):
            emit.store(column, value, [at])
        self.number.set(at + 1)

    def overlap(self, box: Sequence[Any], limit: Any) -> Any:
        """Whether a box shares more than `limit` of its area and that of one that was kept."""
        self.step.set(ZERO)
        self.overlaps.set(NOTHING)
        with T.While(
            tirx.all(self.step.lane(0) < self.number.lane(0), self.overlaps.lane(0) == NOTHING)
        ):
            others = [
                emit.let(emit.load(column, [self.step.lane(0)], self.lanes))
                for column in self.columns
            ]
            mine = [emit.broadcast(value, self.lanes) for value in box]
            hits = emit.let(_overlaps(mine, others, emit.broadcast(limit, self.lanes), self.lanes))
            self.overlaps.set(emit.reduce_lanes(hits, self.lanes, tirx.max))
            self.step.set(self.step.lane(0) + self.lanes)
        return self.overlaps.lane(0) != NOTHING


def _overlaps(a: Sequence[Any], b: Sequence[Any], limit: Any, lanes: int) -> Any:
    """1 where the common area is more than `limit` of the area of both, else 0."""
    nothing, one = (emit.broadcast(tirx.const(x, "float32"), lanes) for x in (0.0, 1.0))
    low: list[Any] = [tirx.max(a[at], b[at]) for at in (0, 1)]
    high: list[Any] = [tirx.min(a[at], b[at]) for at in (2, 3)]
    height, width = emit.let(high[0] - low[0]), emit.let(high[1] - low[1])
    common = emit.let(height * width)
    union = emit.let(a[4] + b[4] - common)
    hit = emit.let(tirx.Select(common / union > limit, one, nothing))
    for part in (height, width, a[4], b[4], union):
        hit = tirx.Select(part > nothing, hit, nothing)
    return hit


def _box(job: Kernel, index: Sequence[Any], *, centered: bool) -> list[Any]:
    """The lower corner, the upper corner and the area of one box."""
    a, b, c, d = (emit.let(job.read(0, [*index, tirx.const(part, "int64")])) for part in range(4))
    if centered:
        two = tirx.const(2.0, "float32")
        corners = [a - c / two, b - d / two, a + c / two, b + d / two]
    else:
        corners = [tirx.min(a, c), tirx.min(b, d), tirx.max(a, c), tirx.max(b, d)]
    corners = [emit.let(corner) for corner in corners]
    return [*corners, emit.let((corners[2] - corners[0]) * (corners[3] - corners[1]))]


class _Suppression:
    """One call: its limits, and the places it has chosen, those of each class in a row."""

    def __init__(self, call: LowerCall, job: Kernel, lanes: int) -> None:
        self.call, self.job, self.lanes = call, job, lanes
        self.batches, self.classes, self.boxes = map(call.dim, call.op.operands[1].type.shape)
        self.room = call.dim(boxes_per_class(call.known))
        size = call.dim(call.op.results[0].type.shape[0])
        self.places = job.outputs[0] if 0 in job.outputs else emit.workspace((size,), "int64")
        self.numbers = emit.workspace((self.batches * self.classes,), "int64")
        most = self._number("max_output_boxes_per_class", ZERO)
        self.most = emit.let(tirx.min(tirx.max(most, ZERO), self.room))
        self.limit = emit.let(self._number("iou_threshold", NOTHING))
        self.least = self._number("score_threshold", None)

    def _number(self, name: str, default: Any) -> Any:
        names = self.call.op.operand_names
        if name not in names:
            return default
        slot = names.index(name)
        type = self.call.op.operands[slot].type
        if 0 in type.shape:
            return default
        return emit.let(self.job.read(slot, [ZERO] * type.rank))

    def choose(self, pair: Any) -> None:
        """The boxes of one class of one batch."""
        index = emit.unflatten(pair, (self.batches, self.classes))
        heap = Heap(self.boxes)
        with emit.serial(self.boxes) as at:
            score = emit.let(self.job.read(1, [*index, at]))
            good = tirx.Not(not_a_number(score)) if self.least is None else score > self.least
            with T.If(good), T.Then():
                heap.append(packed(~key_of(score), at))
        heap.arrange()
        kept = _Kept(self.room, self.lanes)
        with T.While(tirx.all(heap.size.lane(0) > 0, kept.number.lane(0) < self.most)):
            place = emit.let(place_in(heap.pop()))
            centered = bool(self.call.op.int("center_point_box"))
            box = _box(self.job, [index[0], place], centered=centered)
            with T.If(tirx.Not(kept.overlap(box, self.limit))), T.Then():
                to = pair * self.room + kept.number.lane(0)
                emit.store(self.places, pair * self.boxes + place, [to])
                kept.add(box)
        emit.store(self.numbers, kept.number.lane(0), [pair])

    def close_up(self) -> Any:
        """Leave no room between the classes; gives how many boxes there are."""
        total, at = emit.Register(1, "int64"), emit.Register(1, "int64")
        total.set(ZERO)
        with emit.serial(self.batches * self.classes) as pair:
            at.set(ZERO)
            with T.While(at.lane(0) < emit.load(self.numbers, [pair])):
                place = emit.load(self.places, [pair * self.room + at.lane(0)])
                emit.store(self.places, place, [total.lane(0)])
                at.set(at.lane(0) + 1)
                total.set(total.lane(0) + 1)
        return total.lane(0)


def _non_max_suppression_places(call: LowerCall, cpu: Any) -> PrimFunc:
    def body(job: Kernel) -> None:
        work = _Suppression(call, job, cpu.lanes)
        scores = call.op.operands[1].type.shape
        with job.shared(scores[:2], scores) as pair:
            work.choose(pair)
        total = work.close_up()
        if 1 in job.outputs:
            emit.store(job.outputs[1], total, [0])

    return kernel(call, cpu, body)


RULES: dict[str, Rule] = {}
KERNELS: dict[str, KernelRule] = {"non_max_suppression_places": _non_max_suppression_places}
REASONS: dict[str, Reason] = {}
