"""How an operation that another package brings is computed, as plain data.

A row of the table that has an `Extension` carries all that a backend needs: it is looked up in no
registry, so two compilations in one process may know different operations.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TypeAlias

from leptonc.ir.diagnostics import LeptonBug
from leptonc.ir.types import DType

ABI_VERSION = 1
"""The version of `lepton_operator.h` that C functions are called by."""

ABI_DTYPE = MappingProxyType({
    DType.BOOL: 1, DType.I8: 2, DType.I16: 3, DType.I32: 4, DType.I64: 5,
    DType.U8: 6, DType.U16: 7, DType.U32: 8, DType.U64: 9,
    DType.F16: 10, DType.BF16: 11, DType.F32: 12, DType.F64: 13,
})  # fmt: skip
"""The element types that C functions are given, as numbered in the header."""


AttributeTensor: TypeAlias = tuple[DType, list[int | float], int]
"""The element type, the elements and the rank of an attribute that is passed as a tensor."""


def attribute_tensor(kind: str, value: object) -> AttributeTensor | None:
    """An attribute of this kind as C functions are given it; None for one that is absent."""
    match kind, value:
        case _, None:
            return None
        case "bool", _:
            return DType.BOOL, [int(bool(value))], 0
        case "int", int():
            return DType.I64, [value], 0
        case "float", int() | float():
            return DType.F64, [float(value)], 0
        case "str", str():
            return DType.U8, list(value.encode()), 1
        case "ints", tuple() | list():
            return DType.I64, [int(str(item)) for item in value], 1  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType]
        case "floats", tuple() | list():
            return DType.F64, [float(str(item)) for item in value], 1  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType]
        case _:
            raise LeptonBug(f"no C function takes an attribute {value!r} of kind {kind}")


@dataclass(frozen=True, slots=True)
class CFunction:
    """A C function in a shared library that artefacts carry."""

    library: str
    """The digest of the library."""
    symbol: str
    code: bytes = field(default=b"", compare=False, repr=False)
    """The library itself; not needed to build kernels."""

    @property
    def slot(self) -> str:
        """What the place of the function's address is called in a compiled library."""
        return hashlib.sha256(f"{self.library}:{self.symbol}".encode()).hexdigest()[:24]


@dataclass(frozen=True, slots=True)
class Extension:
    """Where the code of an operation is; at most one of the three is given."""

    scalar: str = ""
    """``module:function`` that gives one element of the result as an expression."""
    rule: str = ""
    """``module:function`` that gives the results as tensor expressions."""
    function: CFunction | None = None
    digest: str = ""
    """A digest of the code that `scalar` or `rule` names."""

    @property
    def identity(self) -> str:
        """What tells this code from other code for an operation of the same name."""
        function = self.function
        called = "" if function is None else f"{function.library}:{function.symbol}"
        return f"{self.scalar}|{self.rule}|{self.digest}|{called}"
