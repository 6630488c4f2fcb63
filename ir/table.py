"""The operation table: each operation's operands, attributes, typing and meaning, said once.

Verifier, parser, printer, ONNX importer and exporter, constant folder, reference interpreter,
random-graph generator and the operation page of the manual all read this table. The rows are in
`leptonc.ir.ops`, one file a family; `all_ops()` loads them.
"""

from __future__ import annotations

import enum
import importlib
import pkgutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import numpy as np

from leptonc.ir.blob import Array
from leptonc.ir.diagnostics import LeptonBug, LeptonError
from leptonc.ir.dims import Dim, symbol
from leptonc.ir.extension import Extension
from leptonc.ir.graph import Attribute, Content, Region, Value
from leptonc.ir.types import DType, TensorType


class Trait(enum.Enum):
    """What passes may assume of an operation."""

    ELEMENTWISE = (
        "each result element depends on the operands' elements at the same broadcast index"
    )
    INJECTIVE = "each result element is a copy of one operand element (or a constant)"
    VIEW = "the result has the operand's elements in the operand's row-major order"
    REDUCTION = "result elements combine many operand elements along some axes"
    PRODUCT = "a matrix product or convolution, worth a kernel of its own"
    COMMUTATIVE = "the first two operands may be swapped"
    EFFECT = "must not be removed, merged or evaluated at compile time (random numbers)"
    SHAPE_ONLY = "the result depends on the operands' shapes only"

    __hash__ = object.__hash__  # members are single objects; that of an enumeration is slow


@dataclass(frozen=True, slots=True)
class Operand:
    """One operand of a definition."""

    name: str
    optional: bool = False
    variadic: bool = False
    shape_like: bool = False
    """Only its content matters (`reshape`'s shape): no kernel reads it if that is known."""


@dataclass(frozen=True, slots=True)
class Attr:
    """An attribute: its default and its kind.

    Kinds: int, float, str, ints, floats, strs, dims, dtype, blob, bool.
    """

    kind: str
    default: Attribute = None
    required: bool = False


@dataclass(frozen=True, slots=True)
class OnnxForm:
    """How ONNX spells the operation: name, domain and the opset since which this form holds."""

    name: str
    domain: str = ""
    since: int = 1


T = TypeVar("T")


class Arguments(Generic[T]):
    """Operands by position and by name, with the attributes."""

    def __init__(
        self, definition: OpDef, items: Sequence[T], names: Sequence[str],
        attrs: Mapping[str, Attribute], regions: Sequence[Region] = (),
    ) -> None:  # fmt: skip
        self.definition, self.items, self.names = definition, tuple(items), tuple(names)
        self.attrs, self.regions = attrs, tuple(regions)

    def __getitem__(self, index: int) -> T:
        return self.items[index]

    def __len__(self) -> int:
        return len(self.items)

    def get(self, name: str) -> T | None:
        """The operand called `name`, None where it is absent."""
        return self.items[self.names.index(name)] if name in self.names else None

    def all(self, name: str) -> list[T]:
        """All parts of a variadic operand."""
        return [item for item, label in zip(self.items, self.names, strict=True) if label == name]

    def int(self, name: str) -> int:
        """The integer attribute `name`."""
        value = self.attrs[name]
        if not isinstance(value, int):
            raise LeptonError(
                f"{self.definition.name}.{name} is {value!r}, should be an integer", code="E105"
            )
        return value

    def float(self, name: str) -> float:
        """The number attribute `name`."""
        value = self.attrs[name]
        if not isinstance(value, int | float):
            raise LeptonError(
                f"{self.definition.name}.{name} is {value!r}, should be a number", code="E105"
            )
        return float(value)

    def str(self, name: str) -> str:
        """The text attribute `name`."""
        value = self.attrs[name]
        if not isinstance(value, str):
            raise LeptonError(
                f"{self.definition.name}.{name} is {value!r}, should be text", code="E105"
            )
        return value

    def ints(self, name: str) -> tuple[int, ...] | None:
        """The attribute `name`, a tuple of integers, or None where it is absent."""
        value = self.attrs.get(name)
        if value is None or (
            isinstance(value, tuple) and all(isinstance(item, int) for item in value)
        ):
            return value  # pyright: ignore[reportReturnType]
        raise LeptonError(
            f"{self.definition.name}.{name} is {value!r}, should be integers", code="E105"
        )

    def dtype(self, name: str) -> DType:
        """The element type attribute `name`."""
        value = self.attrs[name]
        if not isinstance(value, DType):
            raise LeptonError(
                f"{self.definition.name}.{name} is {value!r}, should be an element type",
                code="E105",
            )
        return value


class Inference(Arguments[Value]):
    """What type inference may look at. `unknown` stands for extents that only run time can tell."""

    def type(self, name: str) -> TensorType | None:
        """The type of the operand called `name`, None where it is absent."""
        value = self.get(name)
        return value.type if value is not None else None

    @property
    def types(self) -> list[TensorType]:
        """The types of all operands."""
        return [value.type for value in self.items]

    def content(self, name: str) -> Content | None:
        """The elements of an operand as extents, where they are known that far."""
        value = self.get(name)
        if value is None:
            return None
        blob = value.blob
        if (
            value.content is None
            and blob is not None
            and not blob.is_absent
            and value.type.dtype.is_integer
        ):
            return blob.array.astype(object)
        return value.content

    def constant(self, name: str) -> Array | None:
        """The data of an operand that is a compile-time constant."""
        value = self.get(name)
        blob = value.blob if value is not None else None
        return blob.array if blob is not None and not blob.is_absent else None

    @staticmethod
    def unknown(index: int = 0) -> Dim:
        """An extent not known before run time; equal indices are equal extents within one call."""
        return symbol(f"?{index}")


class Evaluation(Arguments[Array]):
    """The operands' data, the declared types, and a way to run the operation's regions."""

    operand_types: tuple[TensorType, ...] = ()
    result_types: tuple[TensorType, ...] = ()
    run_region: Callable[[Region, Sequence[Array]], list[Array]]


Infer = Callable[[Inference], "Sequence[TensorType] | TensorType"]
Evaluate = Callable[[Evaluation], "Sequence[Array] | Array"]
Contents = Callable[[Inference], "Content | None"]


@dataclass(frozen=True, eq=False)
class OpDef:
    """One row of the table."""

    name: str
    operands: tuple[Operand, ...]
    infer: Infer
    evaluate: Evaluate | None
    attrs: Mapping[str, Attr] = field(default_factory=dict[str, Attr])
    content: Contents | None = None
    traits: frozenset[Trait] = frozenset()
    onnx: OnnxForm | None = None
    summary: str = ""
    extension: Extension | None = None
    """Where the code of an operation is that another package brings."""

    @property
    def takes_memory(self) -> bool:
        """True for a C function: it reads and writes whole tensors, and nothing fuses with it."""
        return self.extension is not None and self.extension.function is not None

    @property
    def required(self) -> int:
        """How many operands must be there."""
        return sum(not (operand.optional or operand.variadic) for operand in self.operands)

    def slot_names(self, count: int, names: Sequence[str] | None = None) -> tuple[str, ...]:
        """The operand name of each of `count` slots: as given, the rest by position."""
        if names is not None and len(names) == count:
            return tuple(names)
        spelled = [operand.name for operand in self.operands if not operand.variadic]
        variadic = [operand.name for operand in self.operands if operand.variadic]
        given = tuple(names or ())
        spelled = [name for name in spelled if name not in given] if given else spelled
        positional = count - len(given)
        if positional <= len(spelled):
            return (*spelled[:positional], *given)
        if not variadic:
            raise LeptonError(
                f"{self.name} takes at most {len(self.operands)} operands, got {count}", code="E205"
            )
        return (*spelled, *variadic * (positional - len(spelled)), *given)

    def has(self, trait: Trait) -> bool:
        """True where passes may assume `trait`."""
        return trait in self.traits

    def complete(self, attrs: Mapping[str, Attribute]) -> dict[str, Attribute]:
        """`attrs` with the defaults filled in; raises E106 for unknown or missing attributes."""
        if not attrs and not self.attrs:
            return {}
        unknown = [name for name in attrs if name not in self.attrs]
        if unknown:
            known = ", ".join(self.attrs) or "none"
            raise LeptonError(
                f"{self.name} has no attribute {', '.join(map(repr, unknown))}",
                notes=[f"it has: {known}"],
                code="E106",
            )
        missing = [name for name, attr in self.attrs.items() if attr.required and name not in attrs]
        if missing:
            raise LeptonError(
                f"{self.name} lacks attribute {', '.join(map(repr, missing))}", code="E106"
            )
        return {name: attrs.get(name, attr.default) for name, attr in self.attrs.items()}


_ROWS: dict[str, OpDef] = {}


def read_signature(signature: str) -> tuple[str, tuple[Operand, ...]]:
    """The name and the operands of a signature."""
    name, _, rest = signature.rstrip(")").partition("(")
    spelled = [part.strip() for part in rest.split(",") if part.strip()]
    return name.strip(), tuple(
        Operand(part.rstrip("?*!"), "?" in part, "*" in part, shape_like="!" in part)
        for part in spelled
    )


def define(
    signature: str,
    summary: str,
    *,
    infer: Infer,
    evaluate: Evaluate | None,
    content: Contents | None = None,
    attrs: Mapping[str, Attr] | None = None,
    traits: Iterable[Trait] = (),
    onnx: str = "",
    domain: str = "",
    since: int = 1,
) -> OpDef:
    """Add a row. In ``name(operand, shape!, optional?, variadic*)`` the ``!`` is `shape_like`."""
    name, operands = read_signature(signature)
    row = OpDef(
        name=name,
        operands=operands,
        infer=infer,
        evaluate=evaluate,
        content=content,
        attrs=dict(attrs or {}),
        traits=frozenset(traits),
        onnx=OnnxForm(onnx, domain, since) if onnx else None,
        summary=summary,
    )
    if name in _ROWS:
        raise LeptonBug(f"operation {name} is defined twice")
    _ROWS[name] = row
    return row


def all_ops() -> Mapping[str, OpDef]:
    """Every row by name, the families of `leptonc.ir.ops` included."""
    package = importlib.import_module("leptonc.ir.ops")
    for module in pkgutil.iter_modules(package.__path__):
        importlib.import_module(f"leptonc.ir.ops.{module.name}")
    return _ROWS


def op_named(name: str) -> OpDef | None:
    """The row called `name`."""
    return _ROWS.get(name) or all_ops().get(name)


def _core_infer(call: Inference) -> Sequence[TensorType]:
    return ()


def _const_infer(call: Inference) -> Any:
    return call.attrs["value"].type  # pyright: ignore


RETURN = define(
    "return(values*)",
    "Ends a region; reads what the region gives back.",
    infer=_core_infer,
    evaluate=None,
)
CONST = define(
    "const()", "A tensor known at compile time.",
    infer=_const_infer, evaluate=lambda call: call.attrs["value"].array,  # pyright: ignore
    attrs={"value": Attr("blob", required=True)},
)  # fmt: skip
DIMS = define(
    "dims()",
    "An integer tensor whose elements are extents: what shape arithmetic folds to.",
    infer=lambda call: TensorType(call.dtype("dtype"), tuple(call.attrs["shape"])),  # pyright: ignore
    evaluate=None,  # the interpreter knows the symbols, a row does not
    content=lambda call: np.array(call.attrs["value"], dtype=object).reshape(call.attrs["shape"]),  # pyright: ignore
    attrs={
        "value": Attr("dims", required=True),
        "shape": Attr("ints", required=True),
        "dtype": Attr("dtype", DType.I64),
    },
)
GROUP = define(
    "group(inputs*)",
    "Operations that become one kernel; the region reads its own inputs only.",
    infer=lambda call: [value.type for value in call.regions[0].outputs],
    evaluate=None,
    attrs={"kind": Attr("str", "elementwise")},
)
