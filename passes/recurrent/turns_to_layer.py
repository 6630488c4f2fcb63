"""turns-to-layer: a loop that turns one step of a recurrent layer is the layer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from leptonc.ir.build import Builder
from leptonc.ir.dims import Dim, is_positive
from leptonc.ir.graph import Graph, Op, Value
from leptonc.ir.location import Location
from leptonc.ir.ops.control import LOOP
from leptonc.ir.table import RETURN
from leptonc.passes.base import Pass
from leptonc.passes.context import PassContext
from leptonc.passes.contract import REASSOCIATES, Contract
from leptonc.passes.control_flow.regions import Turning, inner_first, origin
from leptonc.passes.control_flow.speculation import is_free
from leptonc.passes.recurrent.sequences import steps_first
from leptonc.passes.recurrent.steps import VIEWS, behind_views, is_zeros
from leptonc.passes.refine import erase_dead_from, replace_value
from leptonc.passes.views import reshape_to

LAYERS = ("lstm", "gru", "rnn")


@dataclass(frozen=True)
class TurnsToLayer(Pass):
    """Replaces a `loop` or `scan` whose region is one step of a recurrent layer by the layer.

    The region takes one slice of a sequence in each turn, carries the states of the step and
    nothing else, and collects its output or nothing. A scan from the end is a reversed layer. Of a
    sequence that may be empty the first states have to be zeros: that is what runtimes give then.
    """

    name: ClassVar[str] = "turns-to-layer"
    numbers: ClassVar[Contract] = REASSOCIATES

    def run(self, graph: Graph, context: PassContext) -> None:
        """Look at each loop that has a layer inside."""
        for op in inner_first(graph, "loop", "scan"):
            layers = [inner for inner in op.regions[0] if inner.name in LAYERS]
            if not layers:
                continue
            rewrite = _Rewrite(Turning(op), layers[0], graph)
            reason = rewrite.reason()
            if reason is not None:
                context.miss(self.name, op.location, reason)
            elif context.grant(self.name, op.location):
                rewrite.run()


@dataclass(frozen=True)
class _Source:
    """The sequence of which each turn reads one slice."""

    whole: Value
    axis: int
    backward: bool
    used: tuple[Op, ...]
    slice_shape: tuple[Dim, ...]

    @property
    def steps(self) -> Dim:
        return self.whole.type.shape[self.axis]


class _Rewrite:
    def __init__(self, loop: Turning, layer: Op, graph: Graph) -> None:
        self.loop, self.layer, self.graph = loop, layer, graph
        self.source = self._source()

    def reason(self) -> str | None:
        """Why the loop stays."""
        loop, layer = self.loop, self.layer
        plain = layer.attrs["direction"] == "forward" and not layer.int("layout")
        if not plain or layer.operands[0].type.shape[0] != 1 or layer.operand("sequence_lens"):
            return "its layer has several steps, or a direction of its own"
        if self.source is None:
            return "a turn does not read the next slice of one sequence"
        inside = set(loop.region)
        if any(value.producer in inside and value.blob is None for value in self._weights()):
            return "its weights are computed inside"
        if not self._carries_states():
            return "it carries other values than the states"
        if not all(behind_views(value) in layer.results[:2] for value in loop.collected):
            return "it collects other values than the output"
        known = {layer, *self.source.used}
        rest = [op for op in inside if op not in known and op.name not in VIEWS]
        if any(op.definition is not RETURN and not is_free(op) for op in rest):
            return "its region computes more than the step"
        return self._misfit()

    def _weights(self) -> list[Value]:
        pairs = zip(self.layer.operand_names, self.layer.operands, strict=True)
        return [value for name, value in pairs if name in ("w", "r", "bias", "p")]

    def _states(self) -> list[Value]:
        names = ("initial_h", "initial_c")
        return [value for name in names if (value := self.layer.operand(name)) is not None]

    def _carries_states(self) -> bool:
        """True where what is carried is what the layer takes and gives, in any order."""
        states = self._states()
        if len(states) != len(self.layer.results) - 1:
            return False
        taken = [behind_views(value) for value in states]
        if sorted(map(id, taken)) != sorted(map(id, self.loop.taken)):
            return False
        given = dict(zip(self.loop.taken, self.loop.given, strict=True))
        wanted = [self.layer.results[:2], *((result,) for result in self.layer.results[2:])]
        return all(
            behind_views(given[value]) in results
            for value, results in zip(taken, wanted, strict=True)
        )

    def _misfit(self) -> str | None:
        assert self.source is not None
        loop = self.loop
        if any(start.type != taken.type for start, taken in zip(loop.starts, loop.taken,
                                                                strict=True)):  # fmt: skip
            return "the states change their extents"
        known = is_positive(self.source.steps)
        zeros = all(is_zeros(start) for start in loop.starts)
        if not known and not (self.layer.name == "lstm" and zeros):
            return "it may not turn at all, after which runtimes do not give the first states back"
        directions = loop.per_item("scan_output_directions", len(loop.collected))
        if any(bool(back) != self.source.backward for back in directions):
            return "outputs are collected from the other end"
        return None

    def _source(self) -> _Source | None:
        value = behind_views(self.layer.operands[0])
        if self.loop.op.definition is not LOOP:
            if value not in self.loop.region.inputs[len(self.loop.starts) :]:
                return None
            index = self.loop.region.inputs.index(value) - len(self.loop.starts)
            count = len(self.loop.sequences)
            if count != 1:
                return None
            whole = self.loop.sequences[index]
            axis = self.loop.per_item("scan_input_axes", count)[index] % whole.type.rank
            back = bool(self.loop.per_item("scan_input_directions", count)[index])
            return _Source(whole, axis, back, (), value.type.shape)
        return self._gathered(value)

    def _gathered(self, value: Value) -> _Source | None:
        """What a loop of as many turns as there are slices gathers from by its number."""
        op, limit = value.producer, self.loop.op.operand("max_trip")
        if op is None or op.name != "gather" or limit is None or not self.loop.is_endless:
            return None
        whole, place = op.operands
        axis = op.int("axis") % whole.type.rank
        outside = whole.producer is None or whole.producer.region is not self.loop.region
        counts = behind_views(place) is self.loop.region.inputs[0]
        if not outside or not counts or whole in self.loop.region.inputs:
            return None
        turns = self._turns(limit)
        shape = tuple(dim for at, dim in enumerate(whole.type.shape) if at != axis)
        if turns is None or turns != whole.type.shape[axis]:
            return None
        return _Source(whole, axis, False, (op,), shape)

    def _turns(self, limit: Value) -> Dim | None:
        blob = origin(limit).blob
        content = limit.content if blob is None else blob.array.astype(object)
        return None if content is None or content.size != 1 else content.reshape(-1)[0]

    def run(self) -> None:
        """Put the layer in place of the loop."""
        op, layer, source = self.loop.op, self.layer, self.source
        assert op.region is not None
        assert source is not None
        location = Location.fused([op.location, layer.location], by="turns-to-layer")
        build = Builder(op.region, before=op, location=location, graph=self.graph)
        for weight in self._weights():
            if weight.producer is not None and weight.producer.region is self.loop.region:
                op.region.move_before(op, weight.producer)
        x = layer.operands[0].type
        operands = [steps_first(build, source.whole, source.axis, (source.steps, *x.shape[1:]))]
        starts = dict(zip(self.loop.taken, self.loop.starts, strict=True))
        names = list(layer.operand_names[:1])
        for name, value in list(zip(layer.operand_names, layer.operands, strict=True))[1:]:
            state = starts[behind_views(value)] if name in ("initial_h", "initial_c") else value
            if state is not value and is_zeros(state):
                continue
            names.append(name)
            same = state.type.shape == value.type.shape
            operands.append(state if same else reshape_to(build, state, value.type.shape))
        attrs = dict(layer.attrs)
        attrs["direction"] = "reverse" if source.backward else "forward"
        results = build.op(layer.definition, operands, attrs, names=names).results
        for old, new in zip(op.results, self._given(build, results), strict=True):
            if old.is_used:
                new.name = new.name or old.name
                replace_value(old, new)
        feeders = [value.producer for value in op.operands if value.producer is not None]
        op.region.erase(op)
        erase_dead_from([*build.made, *feeders])

    def _given(self, build: Builder, results: tuple[Value, ...]) -> list[Value]:
        """What stands for the results of the loop, those that nothing reads included."""
        assert self.source is not None
        given: list[Value] = []
        last = dict(zip(self.layer.results, results, strict=True))
        last[self.layer.results[0]] = results[1]
        for index, value in enumerate(self.loop.given):
            state = last[behind_views(value)]
            given.append(reshape_to(build, state, self.loop.op.results[index].type.shape))
        axes = self.loop.per_item("scan_output_axes", len(self.loop.collected))
        for value, axis in zip(self.loop.collected, axes, strict=True):
            rows = reshape_to(build, results[0], (self.source.steps, *value.type.shape))
            axis %= rows.type.rank
            if axis:
                rest = list(range(1, rows.type.rank))
                rest.insert(axis, 0)
                rows = build.transpose(rows, perm=tuple(rest))
            given.append(rows)
        return given
