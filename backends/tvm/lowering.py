# pyright: standard
"""From operations to tensor expressions: what lowering rules are given and where they are."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from leptonc.backends.tvm.binding import PrimFunc, Tensor, tirx
from leptonc.ir.blob import Array
from leptonc.ir.diagnostics import LeptonBug
from leptonc.ir.dims import Call, Dim, Symbol
from leptonc.ir.graph import Content, Op
from leptonc.ir.table import Inference
from leptonc.ir.types import DType

TVM_DTYPE = {
    DType.F32: "float32", DType.F16: "float16", DType.BF16: "bfloat16", DType.F64: "float64",
    DType.I8: "int8", DType.I16: "int16", DType.I32: "int32", DType.I64: "int64",
    DType.U8: "uint8", DType.U16: "uint16", DType.U32: "uint32", DType.U64: "uint64",
    DType.BOOL: "bool",
    **{dtype: "uint8" for dtype in DType if dtype.is_narrow},
}  # fmt: skip
"""What kernels hold elements in; what is missing here is unsupported on TVM targets.

Of a narrow type a kernel has the bits, one element a byte, the unused ones 0; `lower/narrow.py`
makes numbers of them."""


def literal(element: Any, dtype: DType) -> Any:
    """One element of a constant, as kernels hold it.

    TVM does not survive constants of bfloat16, so those are converted bits.
    """
    bits = np.asarray(element)
    if dtype.is_narrow:
        code = int(bits.view(np.uint8)) & (2**dtype.width - 1)
        return tirx.const(code, "uint8")
    if dtype is DType.BF16:
        code = int(np.float32(bits).view(np.uint32)) >> 16  # exact: the value came from bfloat16
        return tirx.reinterpret("bfloat16", tirx.const(code, "uint16"))
    return tirx.const(bits.item(), TVM_DTYPE[dtype])


class DimTable:
    """The variable of each symbol of one kernel, and the index type its extents use.

    Kernels with static extents below 2**31 index by int32, which is faster; others by int64.
    """

    def __init__(self, index_dtype: str = "int64") -> None:
        self.index_dtype = index_dtype
        self.variables: dict[str, Any] = {}

    def expression(self, dim: Dim) -> Any:
        """`dim` as a TIR expression of the index type."""
        if isinstance(dim, int):
            return tirx.const(dim, self.index_dtype)
        total: Any = None
        for monomial, factor in dim.terms:
            term: Any = None if factor == 1 and monomial else tirx.const(factor, self.index_dtype)
            for atom in monomial:
                value = self._atom(atom)
                term = value if term is None else term * value
            total = term if total is None else total + term
        return total

    def _atom(self, atom: Symbol | Call) -> Any:
        if isinstance(atom, Symbol):
            if atom.name not in self.variables:
                self.variables[atom.name] = tirx.Var(atom.name, self.index_dtype)
            return self.variables[atom.name]
        functions = {
            "floordiv": _quotient, "min": tirx.min, "max": tirx.max, "broadcast": _broadcast,
        }  # fmt: skip
        return functions[atom.function](*(self.expression(arg) for arg in atom.args))


def _quotient(a: Any, b: Any) -> Any:
    """The quotient rounded down; an extent of 0, which no error may come from, divides like 1."""
    if isinstance(b, tirx.IntImm):
        return tirx.floordiv(a, b)
    return tirx.floordiv(a, tirx.max(b, tirx.const(1, str(b.ty))))


def _broadcast(a: Any, b: Any) -> Any:
    """The larger extent, or 0 where one of them is."""
    return tirx.max(a, b) * tirx.min(tirx.min(a, b), tirx.const(1, str(a.ty)))


class LowerCall:
    """One operation to lower: its tensors, result shapes and whatever is known at compile time."""

    def __init__(self, op: Op, tensors: Mapping[int, Tensor], dims: DimTable) -> None:
        self.op, self.dims = op, dims
        self._tensors = tensors
        self._known = Inference(op.definition, op.operands, op.operand_names, op.attrs, op.regions)

    def __getitem__(self, slot: int) -> Tensor:
        return self._tensors[slot]

    def get(self, name: str) -> Tensor | None:
        """The tensor of the operand called `name`; None where it is absent."""
        names = self.op.operand_names
        return self._tensors[names.index(name)] if name in names else None

    def all(self, name: str) -> list[Tensor]:
        """The tensors of a variadic operand."""
        return [
            self._tensors[slot] for slot, label in enumerate(self.op.operand_names) if label == name
        ]

    @property
    def known(self) -> Inference:
        """The IR side: types, attributes, `content(name)` and `constant(name)` of operands."""
        return self._known

    def content(self, name: str) -> Content:
        """The elements of a shape-like operand, which are known, as extents."""
        content = self._known.content(name)
        if content is None:
            raise LeptonBug(f"{self.op.name}: the content of {name} is unknown", self.op.location)
        return content

    def constant(self, name: str) -> Array:
        """The data of an operand that is a compile-time constant."""
        array = self._known.constant(name)
        if array is None:
            raise LeptonBug(f"{self.op.name}: {name} is no constant", self.op.location)
        return array

    def dim(self, dim: Dim) -> Any:
        """An extent as a TIR expression."""
        return self.dims.expression(dim)

    def shape(self, result: int = 0) -> list[Any]:
        """The extents of a result as TIR expressions."""
        return [self.dim(dim) for dim in self.op.results[result].type.shape]

    def dtype(self, result: int = 0) -> str:
        """The TVM element type of a result."""
        return TVM_DTYPE[self.op.results[result].type.dtype]

    def index(self, value: int | np.integer[Any]) -> Any:
        """A constant of the index type."""
        return tirx.const(int(value), self.dims.index_dtype)


Rule = Callable[[LowerCall], Tensor | Sequence[Tensor]]
Reason = Callable[[Op], str]
"""Why an operation cannot be lowered (its element type, an attribute...); empty if it can."""

FAMILIES = (
    "elementwise", "reduce", "quantize", "shape", "movement", "gather", "scatter", "select",
    "quantize_dynamic", "signal", "random", "generate", "resize", "sampling", "nn", "pool",
    "softmax", "normalize",
    "linear", "quantized_linear", "linear_bytes", "integer_linear", "deform_conv", "sequential",
    "recurrent", "blocked", "run_time",
    "selections", "suppression", "ml_trees", "ml_pairs", "ml_lookup",
    "recurrent_packed", "attention",
)  # fmt: skip
"""Modules of `leptonc.backends.tvm.lower`; each has RULES and REASONS, both by operation name."""


def rules() -> dict[str, Rule]:
    """Every lowering rule by the operation's name."""
    merged: dict[str, Rule] = {}
    for family in FAMILIES:
        merged.update(importlib.import_module(f"leptonc.backends.tvm.lower.{family}").RULES)
    return merged


def reasons() -> dict[str, Reason]:
    """Every limit of a lowering rule by the operation's name."""
    merged: dict[str, Reason] = {}
    for family in FAMILIES:
        merged.update(importlib.import_module(f"leptonc.backends.tvm.lower.{family}").REASONS)
    return merged


KernelRule = Callable[[LowerCall, Any], PrimFunc | None]
"""A whole operation as one function (operands, scalars, results), given the call and the CPU.

None where its tensor expressions are as good."""


def kernel_rules() -> dict[str, KernelRule]:
    """The operations that bring a function of their own, by name."""
    merged: dict[str, KernelRule] = {}
    for family in FAMILIES:
        module = importlib.import_module(f"leptonc.backends.tvm.lower.{family}")
        merged.update(getattr(module, "KERNELS", {}))
    return merged
