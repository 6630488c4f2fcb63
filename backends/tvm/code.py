# pyright: standard
"""Instructions of the virtual machine: written with labels, turned into distances at the end."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from tvm import relax


class Label:
    """A place in the code."""


@dataclass(frozen=True)
class Jump:
    """Go on at `to`, or with the next instruction where the register `unless` is not 0."""

    to: Label
    unless: int | None = None


@dataclass(frozen=True)
class Invoke:
    """Call a function and keep what it returns in the register `to`."""

    function: str
    arguments: tuple[int, ...]
    to: int | None


Instruction = Invoke | Jump | Label


class Code:
    """The instructions of one function, and its registers.

    Arguments are words of the machine: registers, numbers and constants look different in them.
    """

    def __init__(self, builder: relax.ExecBuilder, parameters: int) -> None:
        self.builder = builder
        self.registers = parameters
        self.instructions: list[Instruction] = []
        self.machine: int = builder.vm_state()
        """The argument that is the virtual machine itself."""

    def new(self) -> int:
        """A register that nothing was written to."""
        self.registers += 1
        return self.registers - 1

    def register(self, number: int) -> int:
        """The argument that is the content of a register."""
        return self.builder.r(number)

    def number(self, value: int) -> int:
        """The argument that is an integer."""
        return self.builder.convert_constant(value)

    def constant(self, value: Any) -> int:
        """The argument that is text, an element type or a shape."""
        return self.builder.convert_constant(value)

    def call(self, function: str, arguments: Sequence[int], to: int | None = None) -> None:
        """Call a function."""
        self.instructions.append(Invoke(function, tuple(arguments), to))

    def result(self, function: str, *arguments: int) -> int:
        """The new register with what a function returns."""
        register = self.new()
        self.call(function, arguments, register)
        return register

    def copy(self, source: int, to: int) -> None:
        """Let two registers hold the same object."""
        self.call("vm.builtin.copy", [self.register(source)], to)

    @contextmanager
    def at(self, place: list[Instruction]) -> Generator[None]:
        """Write at the end of `place` meanwhile."""
        here, self.instructions = self.instructions, place
        try:
            yield
        finally:
            self.instructions = here

    def clear(self, register: int) -> None:
        """Let go of what a register holds."""
        self.call("vm.builtin.null_value", [], register)

    def place(self, label: Label) -> None:
        """Let `label` be what comes next."""
        self.instructions.append(label)

    def jump(self, to: Label) -> None:
        """Go on elsewhere."""
        self.instructions.append(Jump(to))

    def skip_unless(self, register: int, to: Label) -> None:
        """Go on elsewhere where the register holds 0."""
        self.instructions.append(Jump(to, register))

    def write(self, name: str, parameters: Sequence[str], result: int) -> None:
        """Add the function, which returns a register, to the program."""
        places: dict[Label, int] = {}
        count = 0
        for one in self.instructions:
            if isinstance(one, Label):
                places[one] = count
            else:
                count += 1
        with self.builder.function(name, len(parameters), list(parameters)):
            at = 0
            for one in self.instructions:
                if isinstance(one, Label):
                    continue
                self._write(one, at, places)
                at += 1
            self.builder.emit_ret(self.register(result))

    def _write(self, one: Invoke | Jump, at: int, places: dict[Label, int]) -> None:
        if isinstance(one, Invoke):
            arguments: list[Any] = list(one.arguments)
            self.builder.emit_call(one.function, arguments, one.to)
        elif one.unless is None:
            self.builder.emit_goto(places[one.to] - at)
        else:
            self.builder.emit_if(self.register(one.unless), places[one.to] - at)
