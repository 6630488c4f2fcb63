# pyright: standard
"""From lowered Relax functions to instructions of the virtual machine.

TVM's own generator knows no jump backwards: a loop would have to be a recursion, which costs two
calls a turn and a stack. Here choices and loops are jumps, and regions stand where they run.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import tvm
import tvm_ffi
from tvm import relax
from tvm.ir import Call, GenericConst, Op, StringImm, Tuple
from tvm.relax.exec_builder import SpecialReg

from leptonc.backends.tvm.binding import tirx
from leptonc.backends.tvm.code import Code, Instruction
from leptonc.backends.tvm.control_code import choice_code, loop_code
from leptonc.backends.tvm.control_flow import Choice, Control, Loop
from leptonc.backends.tvm.escapes import Binding, bindings_of, lasting, operator
from leptonc.ir.diagnostics import LeptonBug

Where = int | list[int]
"""The register of a value, or those of several results."""

_CHECKS = (
    "vm.builtin.check_tensor_info", "vm.builtin.check_shape_info", "vm.builtin.check_tuple_info",
)  # fmt: skip
_MATCH = "vm.builtin.match_shape"
_NUMBERS = ("vm.builtin.make_shape", "vm.builtin.make_prim_value")
"""What gives the same for the same sizes, which are written once in a region."""
_REMEMBERS = 1
"""The code of `match_shape` for an extent to remember."""


def write_bytecode(
    builder: relax.ExecBuilder, module: tvm.IRModule, controls: Mapping[str, Control]
) -> None:
    """Add `main` of a lowered module to the program, with all regions inside it."""
    function: Any = module["main"]
    code = Code(builder, len(function.params))
    writer = Writer(code, module, controls)
    results = writer.region("main", range(len(function.params)), weights=function.params[-1])
    answer = code.result("vm.builtin.make_tuple", *map(code.register, results))
    code.write("main", [f"argument_{i}" for i in range(len(function.params))], answer)


class Writer:
    """Writes the functions of a module into one."""

    def __init__(self, code: Code, module: tvm.IRModule, controls: Mapping[str, Control]) -> None:
        self.code, self.module, self.controls = code, module, controls
        self.values: dict[Any, Where] = {}
        self.fixed: set[int] = set()
        """Registers that hold the same in each turn of the loop that is written."""
        self.head: list[Instruction] | None = None
        """The code before that loop."""
        self.weights: set[Any] = set()
        """The tuple of weights, and variables of tensors in it.

        Those are what the artefact says they are, which was written together with this program:
        to compare each with its type would take longer than a small kernel. The tuple holds them.
        """
        self.known: dict[tuple[Any, ...], int] = {}
        """The registers of weights, and of numbers that the region was given before."""

    def region(
        self, name: str, arguments: Iterable[int], *,
        inside: bool = False, read: int = 0, weights: Any = None,
    ) -> list[int]:  # fmt: skip
        """Write a function where the code is; the registers of what it gives back.

        `inside` leaves out the checks of its arguments, which come from code that was checked. The
        first `read` results are only looked at, in each turn anew. `weights` is the parameter that
        is their tuple.
        """
        function: Any = self.module[name]
        around, self.known = self.known, {}
        self.weights |= set() if weights is None else {weights}
        self.values.update(zip(function.params, arguments, strict=True))
        result: Any = function.body.body
        bound, kept = self._result(function, result)
        lasts = lasting(function, read) if self.head is not None and inside else set[Any]()
        parameters = set(function.params) if inside else set[Any]()
        for binding in bindings_of(function):
            if self._is_check(binding, parameters | self.weights):
                continue
            if _is_kill(binding.value) and binding.value.args[0] in (kept | lasts | self.weights):
                continue
            with self._place(binding, lasts):
                self._bind(binding, lazily=bound is not None and binding.var.same_as(bound))
        found = self.values[result] if isinstance(result, relax.Var) else self._tuple(result)
        self.known = around
        return found if isinstance(found, list) else self._unpacked(found, function)

    def _result(self, function: Any, result: Any) -> tuple[Any, set[Any]]:
        """The variable that is bound to the tuple of results, and the variables in it."""
        for binding in bindings_of(function):
            if isinstance(result, relax.Var) and result.same_as(binding.var):
                value = binding.value
                fields = value.fields if isinstance(value, Tuple) else []
                return binding.var, {field for field in fields if isinstance(field, relax.Var)}
        return None, set()

    def _unpacked(self, register: int, function: Any) -> list[int]:
        """The parts of a tuple in a register."""
        count = len(function.ret_ty.fields)
        whole, code = self.code.register(register), self.code
        return [
            code.result("vm.builtin.tuple_getitem", whole, code.number(index))
            for index in range(count)
        ]

    def _is_check(self, binding: Binding, parameters: set[Any]) -> bool:
        """True for a check of a parameter, or of a weight, that tells no size."""
        name = operator(binding.value)
        if name not in (*_CHECKS, _MATCH) or binding.value.args[0] not in parameters:
            return False
        return name in _CHECKS or (name == _MATCH and not _remembers(binding.value))

    @contextmanager
    def _place(self, binding: Binding, lasts: set[Any]) -> Generator[None]:
        """Write before the loop what is the same in each turn."""
        if self.head is None or not self._is_fixed(binding, lasts):
            yield
            return
        with self.code.at(self.head):
            yield

    def _is_fixed(self, binding: Binding, lasts: set[Any]) -> bool:
        value, name = binding.value, operator(binding.value)
        if name == "relax.call_builtin_with_ctx":
            return str(value.args[0].global_symbol) == "vm.builtin.alloc_shape_heap"
        if name == _MATCH and isinstance(value.args[0], relax.Var):
            return self.values[value.args[0]] in self.fixed
        return binding.var in lasts

    def _bind(self, binding: Binding, *, lazily: bool) -> None:
        var, value = binding.var, binding.value
        if isinstance(value, Call):
            self.values[var] = self._call(value)
        elif isinstance(value, relax.Var):
            self.values[var] = self._same(value)
        elif isinstance(value, Tuple):
            parts = self._tuple(value)
            self.values[var] = parts if lazily else self._packed(parts)
        elif isinstance(value, relax.TupleGetItem):
            self.values[var] = self._part(value)
            self.weights |= {var} if value.tuple_value in self.weights else set()
        else:
            self.values[var] = self.code.result("vm.builtin.copy", self._argument(value))

    def _same(self, var: relax.Var) -> Where:
        """Another register for a value that may be let go of; shapes never are."""
        where = self.values[var]
        if isinstance(where, list) or isinstance(var.ty, relax.ShapeType):
            return where
        return self.code.result("vm.builtin.copy", self.code.register(where))

    def _tuple(self, value: Any) -> list[int]:
        parts = [self.values[field] for field in value.fields]
        if not all(isinstance(part, int) for part in parts):
            raise LeptonBug("a tuple holds a tuple")
        return [part for part in parts if isinstance(part, int)]

    def _packed(self, parts: Sequence[int]) -> int:
        return self.code.result("vm.builtin.make_tuple", *map(self.code.register, parts))

    def _part(self, value: Any) -> Where:
        whole = self.values[value.tuple_value]
        if isinstance(whole, list):
            return whole[value.index]
        index = self.code.number(value.index)
        part = "vm.builtin.tuple_getitem", self.code.register(whole), index
        return self._once(*part) if value.tuple_value in self.weights else self.code.result(*part)

    def _once(self, name: str, *arguments: int) -> int:
        """The register with what a function returns, which is never let go of."""
        key = name, *arguments
        if key not in self.known:
            self.known[key] = self.code.result(name, *arguments)
        return self.known[key]

    def _call(self, value: Any) -> Where:
        name = operator(value)
        if name in self.controls:
            return self._control(self.controls[name], [self._register(a) for a in value.args])
        if name == "relax.vm.kill_object":
            return self._clear(value.args[0])
        if name == "relax.null_value":
            return SpecialReg.VOID_ARG
        if name == "relax.call_builtin_with_ctx":
            name = str(value.args[0].global_symbol)
            given = [self.code.machine, *self._all(value.args[1].fields)]
        elif name == "relax.vm.alloc_storage":
            name, given = "vm.builtin.alloc_storage", [self.code.machine, *self._all(value.args)]
        elif name == "relax.vm.alloc_tensor":
            name, given = "vm.builtin.alloc_tensor", self._all(value.args[:4])
        elif isinstance(value.op, Op):
            raise LeptonBug(f"{name} is left after lowering")
        else:
            given = self._all(value.args)
            if isinstance(value.ty, relax.AnyType) or _is_nothing(value.ty):
                self.code.call(name, given)
                return SpecialReg.VOID_ARG
        return self._once(name, *given) if name in _NUMBERS else self.code.result(name, *given)

    def _control(self, control: Control, arguments: list[int]) -> list[int]:
        if isinstance(control, Choice):
            return choice_code(self.code, control, arguments, self._branch)
        return loop_code(self.code, control, arguments, self._turn)

    def _branch(self, name: str, arguments: Sequence[int]) -> list[int]:
        return self.region(name, arguments, inside=True)

    def _turn(
        self, loop: Loop, arguments: Sequence[int], fixed: Iterable[int], head: list[Instruction]
    ) -> list[int]:
        """Write the region of a loop, whose head ends with the last instruction of `head`."""
        around = self.fixed, self.head
        self.fixed, self.head = self.fixed | set(fixed), head
        try:
            read = 0 if loop.endless else 1
            return self.region(loop.region, arguments, inside=True, read=read)
        finally:
            self.fixed, self.head = around

    def _clear(self, var: relax.Var) -> Where:
        """Let go of a value; of several results, of those that nothing reads."""
        where = self.values[var]
        if isinstance(where, int):
            self.code.clear(where)
        return SpecialReg.VOID_ARG

    def _register(self, value: Any) -> int:
        where = self.values[value] if isinstance(value, relax.Var) else None
        if isinstance(where, int):
            return where
        return self.code.result("vm.builtin.copy", self._argument(value))

    def _all(self, values: Iterable[Any]) -> list[int]:
        return [self._argument(value) for value in values]

    def _argument(self, value: Any) -> int:
        """What a call is given for a value."""
        if isinstance(value, relax.Var):
            where = self.values[value]
            if isinstance(where, list):
                raise LeptonBug("several results are given as one argument")
            return self.code.register(where)
        if isinstance(value, tirx.IntImm):
            return self.code.number(int(value.value))
        if isinstance(value, StringImm | GenericConst):
            return self.code.constant(value.value)  # pyright: ignore
        if isinstance(value, relax.ShapeExpr):
            extents: list[Any] = list(value.values)
            return self.code.constant(tvm_ffi.Shape(tuple(map(int, extents))))
        if isinstance(value, Tuple):
            return self.code.register(self._packed(self._tuple(value)))
        raise LeptonBug(f"{type(value).__name__} is left after lowering")


def _is_kill(value: Any) -> bool:
    return operator(value) == "relax.vm.kill_object"


def _is_nothing(type: Any) -> bool:
    return isinstance(type, relax.TupleType) and not len(type.fields)  # pyright: ignore


def _remembers(value: Any) -> bool:
    """True for a comparison with a shape that tells a size."""
    count = int(value.args[2].value)
    return any(int(value.args[3 + 2 * axis].value) == _REMEMBERS for axis in range(count))
