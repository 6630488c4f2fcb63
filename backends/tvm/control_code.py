# pyright: standard
"""The jumps of choices and loops."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import tvm_ffi

from leptonc.backends.tvm.code import Code, Instruction, Label
from leptonc.backends.tvm.control_flow import Choice, Loop
from leptonc.backends.tvm.lowering import TVM_DTYPE
from leptonc.backends.tvm.turns import ROOM, TURN, append_name, carry_name
from leptonc.ir.types import TensorType

Branch = Callable[[str, Sequence[int]], list[int]]
Turn = Callable[[Loop, Sequence[int], Iterable[int], list[Instruction]], list[int]]

_NUMBER, _REMEMBER, _LOOK_UP, _COMPARE = 0, 1, 1, 3
"""Codes of `make_shape` (a number, or what is remembered) and `match_shape`."""


def choice_code(code: Code, choice: Choice, arguments: Sequence[int], branch: Branch) -> list[int]:
    """Run one of the regions; the registers of the results."""
    condition, *given = arguments
    results = [code.new() for _ in range(choice.results)]
    other, end = Label(), Label()
    go = code.result("vm.builtin.read_if_cond", code.register(condition))
    code.skip_unless(go, other)
    for name, after in zip(choice.regions, (end, None), strict=True):
        for found, result in zip(branch(name, given), results, strict=True):
            code.copy(found, result)
        if after is not None:
            code.jump(after)
            code.place(other)
    code.place(end)
    return results


def loop_code(code: Code, loop: Loop, arguments: Sequence[int], turn: Turn) -> list[int]:
    """Run the region as often as the loop turns; the registers of the results."""
    return _LoopCode(code, loop, arguments).write(turn)


class _LoopCode:
    """The parts of one loop. Registers: the turns so far, the limit, whether to go on."""

    def __init__(self, code: Code, loop: Loop, arguments: Sequence[int]) -> None:
        self.code, self.loop = code, loop
        given = list(arguments)
        condition = given.pop(0) if loop.conditional else None
        starts, self.fixed = given[: loop.carried], given[loop.carried : -1]
        self.carried = [self._copied(start) for start in starts]
        self.turns, self.go = self._number(0), self._number(1)
        if condition is not None:
            code.call("vm.builtin.read_if_cond", [code.register(condition)], self.go)
        self.limit, self.scans = self._limits(given[-1])
        self.capacity = self._number(0) if self.scans else None

    def _copied(self, register: int) -> int:
        return self.code.result("vm.builtin.copy", self.code.register(register))

    def _number(self, value: int) -> int:
        return self.code.result("vm.builtin.copy", self.code.number(value))

    def _limits(self, shape: int) -> tuple[int, list[_Scan]]:
        """The register of the limit, and the scan outputs: all numbers come in one shape."""
        code, extents = self.code, [type.rank for type in self.loop.scans]
        count = 1 + sum(extents)
        heap = code.result("vm.builtin.alloc_shape_heap", code.machine, code.number(count))
        code.call(
            "vm.builtin.match_shape",
            [
                code.register(shape), code.register(heap), code.number(count),
                *(code.number(n) for at in range(count) for n in (_REMEMBER, at)),
                code.constant(""),
            ],
        )  # fmt: skip
        limit = code.result(
            "vm.builtin.make_prim_value", code.register(heap), code.number(_LOOK_UP), code.number(0)
        )
        scans: list[_Scan] = []
        for type in self.loop.scans:
            scans.append(_Scan(code, type, heap, count - sum(extents), self.loop.message))
            extents.pop(0)
        return limit, scans

    def write(self, turn: Turn) -> list[int]:
        """Write the whole loop; the registers of carried values and scan outputs."""
        code, again, done = self.code, Label(), Label()
        head = code.instructions
        body: list[Instruction] = []
        with code.at(body):
            code.place(again)
            following = code.result(TURN, *map(code.register, (self.turns, self.limit, self.go)))
            code.skip_unless(following, done)
            arguments = self._arguments()
            code.copy(following, self.turns)
            results = turn(self.loop, arguments, self.fixed, head)
            go = None if self.loop.endless else results.pop(0)
            self._collect(results[self.loop.carried :])
            self._carry(results[: self.loop.carried])
            if go is not None:
                code.call("vm.builtin.read_if_cond", [code.register(go)], self.go)
            code.jump(again)
            code.place(done)
        head += body
        return [*self.carried, *(scan.result(self.turns) for scan in self.scans)]

    def _arguments(self) -> list[int]:
        """What the region is given; `turns` does not count the turn that begins yet."""
        arguments = [*self.carried, *self.fixed]
        if self.loop.counted:
            numbers = map(self.code.number, (0, 1, _NUMBER))
            turn = self.code.register(self.turns)
            arguments.append(self.code.result("vm.builtin.make_shape", *numbers, turn))
        return arguments

    def _carry(self, results: Sequence[int]) -> None:
        """Let the registers of the next turn hold what this one gives back."""
        code = self.code
        moved = [
            code.result("vm.builtin.copy", code.register(given))
            if given != kept and given in self.carried
            else given
            for given, kept in zip(results, self.carried, strict=True)
        ]
        for given, kept in zip(moved, self.carried, strict=True):
            if given != kept:
                code.copy(given, kept)

    def _collect(self, elements: Sequence[int]) -> None:
        """Put the elements of this turn to those before."""
        if self.capacity is None:
            return
        code, fits = self.code, Label()
        self._compare(elements, self.capacity)
        first = code.register(self.limit) if self.loop.endless else code.number(1)
        more = code.result(ROOM, code.register(self.turns), code.register(self.capacity), first)
        code.skip_unless(more, fits)
        for scan in self.scans:
            scan.grow(more, self.turns)
        code.copy(more, self.capacity)
        code.place(fits)
        for scan, element in zip(self.scans, elements, strict=True):
            scan.append(element, self.turns)

    def _compare(self, elements: Sequence[int], capacity: int) -> None:
        """Remember the extents of the first elements; later ones must have the same."""
        pairs = [
            (scan, element)
            for scan, element in zip(self.scans, elements, strict=True)
            if not scan.type.is_static
        ]
        if not pairs:
            return
        first, known = Label(), Label()
        self.code.skip_unless(capacity, first)
        for scan, element in pairs:
            scan.match(element, _COMPARE)
        self.code.jump(known)
        self.code.place(first)
        for scan, element in pairs:
            scan.match(element, _REMEMBER)
        self.code.place(known)


class _Scan:
    """One scan output: memory that doubles when it is full."""

    def __init__(self, code: Code, type: TensorType, heap: int, start: int, message: str) -> None:
        self.code, self.type, self.heap, self.message = code, type, heap, message
        self.places = range(start, start + type.rank)
        """Where the extents of an element are remembered."""
        self.memory = self._allocated(code.number(0))

    def _shape(self, count: int) -> int:
        code = self.code
        return code.result(
            "vm.builtin.make_shape", code.register(self.heap), code.number(self.type.rank + 1),
            code.number(_NUMBER), count,
            *(code.number(n) for at in self.places for n in (_LOOK_UP, at)),
        )  # fmt: skip

    def _allocated(self, count: int) -> int:
        """The register of a new tensor for `count` elements."""
        code, shape = self.code, self.code.register(self._shape(count))
        dtype, zero = code.constant(tvm_ffi.dtype(TVM_DTYPE[self.type.dtype])), code.number(0)
        storage = code.result(
            "vm.builtin.alloc_storage", code.machine, shape, zero, dtype, code.constant("global")
        )
        tensor = code.result("vm.builtin.alloc_tensor", code.register(storage), zero, shape, dtype)
        code.clear(storage)
        return tensor

    def match(self, element: int, what: int) -> None:
        """Remember the extents of an element, or compare them with those."""
        code = self.code
        code.call(
            "vm.builtin.match_shape",
            [
                code.register(element), code.register(self.heap), code.number(self.type.rank),
                *(code.number(n) for at in self.places for n in (what, at)),
                code.constant(self.message),
            ],
        )  # fmt: skip

    def grow(self, count: int, turns: int) -> None:
        """Get memory for `count` elements."""
        code = self.code
        larger = self._allocated(code.register(count))
        code.call(carry_name(self.type), [code.register(r) for r in (self.memory, turns, larger)])
        code.copy(larger, self.memory)
        code.clear(larger)

    def append(self, element: int, turns: int) -> None:
        """Store an element behind the others."""
        arguments = [self.code.register(r) for r in (element, turns, self.memory)]
        self.code.call(append_name(self.type), arguments)

    def result(self, turns: int) -> int:
        """The register of all elements as one tensor."""
        code = self.code
        shape = self._shape(code.register(turns))
        return code.result("vm.builtin.reshape", code.register(self.memory), code.register(shape))
