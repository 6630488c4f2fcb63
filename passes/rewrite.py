"""Rules, and the driver that applies them until none fits."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from leptonc.ir.build import Builder
from leptonc.ir.diagnostics import LeptonBug, LeptonError
from leptonc.ir.graph import Graph, Op, Value
from leptonc.ir.location import Location
from leptonc.ir.table import OpDef
from leptonc.passes.context import Miss, PassContext
from leptonc.passes.matching import feeders_of, match, may_fit
from leptonc.passes.pattern import Known, Match, NoMatchError, OpPattern
from leptonc.passes.refine import erase_dead_from, refines, replace_value

Body = Callable[[Match, Builder], "Value | Sequence[Value]"]


@dataclass(frozen=True, eq=False)
class Rule:
    """One rewrite: a pattern, and the function that makes the replacement of its root's results."""

    name: str
    pattern: OpPattern
    body: Body
    doc: str


def rule(pattern: OpPattern) -> Callable[[Body], Rule]:
    """Make a rule of the decorated function; its docstring is the rule's page in the manual."""

    def make(body: Body) -> Rule:
        name = getattr(body, "__name__", "rule").strip("_").replace("_", "-")
        if not body.__doc__:
            raise LeptonBug(f"rule {name} needs a docstring")
        return Rule(name, pattern, body, body.__doc__)

    return make


class RuleSet:
    """Rules by the operation at the top of their pattern, in the order in which they are tried."""

    def __init__(self, rules: Sequence[Rule]) -> None:
        self._by_root: dict[OpDef, list[Rule]] = {}
        for each in rules:
            for definition in each.pattern.definitions:
                self._by_root.setdefault(definition, []).append(each)
        self.depth = max((each.pattern.depth for each in rules), default=1)
        self._fitting: dict[tuple[OpDef, frozenset[OpDef]], list[Rule]] = {}

    def __contains__(self, root: Op) -> bool:
        """True where a rule has such an operation at the top of its pattern."""
        return root.definition in self._by_root

    def __getitem__(self, root: Op) -> list[Rule]:
        """The rules that may fit `root`, which is in here, going by it and by what feeds it."""
        key = root.definition, feeders_of(root)
        if key not in self._fitting:
            rules = self._by_root[root.definition]
            self._fitting[key] = [each for each in rules if may_fit(each.pattern, key[1])]
        return self._fitting[key]


class Rewriter:
    """Applies rules greedily until none fits, within a budget that a loop cannot hide in."""

    def __init__(self, rules: RuleSet, budget: int, context: PassContext) -> None:
        self.rules, self.budget, self.context = rules, budget, context
        self.applied: Counter[str] = Counter()
        self._misses: dict[Miss, None] = {}
        self._waiting: deque[Op] = deque()
        self._queued: set[Op] = set()

    def run(self, graph: Graph) -> None:
        """Rewrite `graph` in place, all regions of it; leave the near misses in the context."""
        before = -1
        while before != self.applied.total():
            before = self.applied.total()
            self._misses.clear()
            self._push(graph.walk())
            self._drain()
        self.context.misses.extend(self._misses)

    def _drain(self) -> None:
        while self._waiting:
            op = self._waiting.popleft()
            self._queued.discard(op)
            if op.region is not None:
                self._apply_first(op)

    def _push(self, ops: Iterable[Op]) -> None:
        for op in ops:
            if op in self.rules and op not in self._queued:
                self._queued.add(op)
                self._waiting.append(op)

    def _apply_first(self, op: Op) -> None:
        rules = self.rules[op]
        if not rules:
            return
        build = Builder(op.region, before=op, location=op.location)  # pyright: ignore[reportArgumentType] - it stands in a region
        known: Known = {}
        for each in rules:
            for found in match(each.pattern, op, known):
                try:
                    new = each.body(found, build)
                except NoMatchError as reason:
                    if build.made:
                        raise LeptonBug(f"rule {each.name} builds before it requires") from reason
                    if reason.args:
                        self._misses[Miss(each.name, op.location, str(reason))] = None
                    continue
                self._replace(each, found, build, [new] if isinstance(new, Value) else list(new))
                return

    def _replace(self, by: Rule, found: Match, build: Builder, new: list[Value]) -> None:
        root = found.root
        if [value.type for value in new] != [value.type for value in root.results]:
            _check_types(by, root, new)
        parts = [op.location for op in (*found.also, *reversed(found.ops.values()))]
        location = Location.fused(parts, by=by.name) if build.made else root.location
        if not self.context.grant(by.name, location):
            erase_dead_from(reversed(build.made))
            return
        for op in build.made:
            op.location = location
        self._count(by, root)
        self._push(build.made)
        self._push(_readers_within(root, self.rules.depth))
        for old, value in zip(root.results, new, strict=True):
            replace_value(old, value)
        feeders = [value.producer for value in root.operands if value.producer is not None]
        assert root.region is not None
        root.region.erase(root)
        erase_dead_from([*build.made, *feeders])
        self._push(op for value in new if (op := value.producer) is not None)
        self._push(_new_only_readers(feeders))

    def _count(self, by: Rule, root: Op) -> None:
        self.applied[by.name] += 1
        if self.applied.total() > self.budget:
            raise LeptonError(
                f"rewriting did not settle within {self.budget} rewrites",
                root.location,
                [f"{name} applied {count} times" for name, count in self.applied.most_common(4)],
                code="E301",
            )


def _check_types(by: Rule, root: Op, new: list[Value]) -> None:
    if len(new) != len(root.results):
        raise LeptonBug(
            f"rule {by.name} gives {len(new)} values for the {len(root.results)} results of "
            f"{root.name}",
            root.location,
            code="E302",
        )
    for old, value in zip(root.results, new, strict=True):
        if not refines(value.type, old.type):
            message = f"rule {by.name} replaces a {old.type} by a {value.type}"
            raise LeptonBug(message, root.location, code="E302")


def _new_only_readers(feeders: Iterable[Op]) -> list[Op]:
    """The operations that became the only readers of what `feeders` give: more rules may fit."""
    values = [value for op in feeders for value in op.results if value.use_count == 1]
    return [reader for value in values for reader in value.users]


def _readers_within(op: Op, depth: int) -> list[Op]:
    """What reads the results of `op`, directly or through up to `depth` operations."""
    found: dict[Op, None] = {}
    layer = [op]
    for _ in range(depth):
        layer = [
            reader for each in layer for value in each.results for reader in value.users
            if reader not in found
        ]  # fmt: skip
        found.update(dict.fromkeys(layer))
    return list(found)
