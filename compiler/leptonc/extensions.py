"""Operators that other packages bring: what they are, and which ones a compilation knows.

An `Operator` is a row of the operation table and the code that computes it: an expression or a
rule for the code generator, or a C function in a shared library. It is given to `compile` by the
caller, or found by the entry points of the group `leptonc.operators`, whose objects are an
`Operator` each or a sequence of them. Nothing is registered: a compilation knows what it is given.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any

from leptonc.extension_code import checked_evaluate, checked_infer, code_of, evaluate_by_function
from leptonc.ir.diagnostics import LeptonError, shown
from leptonc.ir.extension import Extension
from leptonc.ir.table import (
    Attr,
    Evaluate,
    Infer,
    OnnxForm,
    OpDef,
    Trait,
    op_named,
    read_signature,
)
from leptonc.ir.types import DType, TensorType

__all__ = [
    "GROUP", "Attr", "DType", "Operator", "Operators", "TensorType", "Trait", "include_folder",
    "known_operators",
]  # fmt: skip

GROUP = "leptonc.operators"
"""The entry points by which other packages bring operators."""

_TRAITS = frozenset({Trait.ELEMENTWISE, Trait.INJECTIVE, Trait.COMMUTATIVE, Trait.EFFECT})
_KINDS = frozenset({"int", "float", "str", "bool", "ints", "floats", "strs"})
_KINDS_OF_C = _KINDS - {"strs"}


@dataclass(frozen=True, eq=False)
class Operator:
    """One operator from outside of leptonc.

    `signature` names it and its operands: ``swish(x, scale?)``, where ``?`` is optional, ``*``
    any number, and ``!`` an operand of which only the known content matters. `onnx` and `domain`
    are what models call it. `infer` gives the types of the results, `evaluate` their elements.

    At most one of these computes it: `scalar`, the ``module:function`` that gives one element of
    an elementwise result as an expression of those of the operands, which fuses with what stands
    around it; `rule`, the ``module:function`` that gives the results as tensor expressions;
    `library`, the path of a shared library with a C function called `symbol`, which artefacts
    carry. With none of them it can be interpreted, and computed where its operands are constant.
    """

    signature: str
    onnx: str
    domain: str
    infer: Infer
    evaluate: Evaluate | None = None
    summary: str = ""
    since: int = 1
    attrs: Mapping[str, Attr] = field(default_factory=dict[str, Attr])
    traits: Iterable[Trait] = ()
    scalar: str = ""
    rule: str = ""
    library: str | Path = ""
    symbol: str = ""

    @property
    def name(self) -> str:
        """The operation's name in the table."""
        return read_signature(self.signature)[0]

    def row(self) -> OpDef:
        """The row of the table; raises E812 or E813 where something about it cannot be used."""
        name, operands = read_signature(self.signature)
        traits = frozenset(self.traits)
        if self.scalar:
            traits |= {Trait.ELEMENTWISE}
        self._check(name, traits)
        function, digest = code_of(name, self.scalar or self.rule, self.library, self.symbol)
        evaluate = self.evaluate
        if evaluate is None and function is not None:
            evaluate = evaluate_by_function(function, self.library)
        return OpDef(
            name=name,
            operands=operands,
            infer=checked_infer(name, self.infer),
            evaluate=None if evaluate is None else checked_evaluate(name, evaluate),
            attrs=dict(self.attrs),
            traits=traits,
            onnx=OnnxForm(self.onnx, self.domain, self.since),
            summary=self.summary,
            extension=Extension(self.scalar, self.rule, function, digest),
        )

    def _check(self, name: str, traits: frozenset[Trait]) -> None:
        wrong: list[str] = []
        codes = [kind for kind in ("scalar", "rule", "library") if getattr(self, kind)]
        if len(codes) > 1:
            wrong.append(f"has {' and '.join(codes)}, should have one of them")
        if bool(self.library) != bool(self.symbol):
            wrong.append("needs library and symbol together")
        if not name or not self.onnx:
            wrong.append("needs a name in its signature, and one in ONNX")
        strange = sorted(trait.name.lower() for trait in traits - _TRAITS)
        wrong += [f"cannot have the trait {name}" for name in strange]
        kinds = _KINDS_OF_C if self.library else _KINDS
        wrong += [
            f"cannot have attribute {shown(key)} of kind {attr.kind}"
            for key, attr in self.attrs.items()
            if attr.kind not in kinds
        ]
        if wrong:
            raise LeptonError(f"operator {shown(name)} {'; '.join(wrong)}", code="E812")


@dataclass(frozen=True)
class Operators:
    """The rows of other packages that one compilation knows."""

    by_name: Mapping[str, OpDef]
    by_onnx_name: Mapping[tuple[str, str], OpDef]


def known_operators(
    given: Sequence[Operator] = (), points: Iterable[EntryPoint] | None = None
) -> Operators:
    """The operators given, and those of installed packages; raises E811 where names clash."""
    found: dict[int, tuple[Operator, str]] = {}
    for operator in given:
        found[id(operator)] = (operator, "the caller")
    for point in entry_points(group=GROUP) if points is None else points:
        for operator in _loaded(point):
            found.setdefault(id(operator), (operator, f"entry point {point.value}"))
    by_name: dict[str, OpDef] = {}
    by_onnx_name: dict[tuple[str, str], OpDef] = {}
    owners: dict[object, str] = {}
    for operator, owner in found.values():
        row = operator.row()
        key = (operator.domain, operator.onnx)
        if op_named(row.name) is not None:
            raise _clash(shown(row.name), owner, "leptonc itself")
        for name, what in ((row.name, shown(row.name)), (key, shown(".".join(filter(None, key))))):
            if name in owners:
                raise _clash(what, owner, owners[name])
            owners[name] = owner
        if operator.domain == "" and _is_built_in(operator.onnx):
            raise _clash(shown(operator.onnx), owner, "leptonc itself")
        by_name[row.name], by_onnx_name[key] = row, row
    return Operators(by_name, by_onnx_name)


def _is_built_in(onnx_name: str) -> bool:
    from leptonc.ir.table import all_ops

    forms = (row.onnx for row in all_ops().values())
    return any(form is not None and (form.name, form.domain) == (onnx_name, "") for form in forms)


def _clash(name: str, owner: str, other: str) -> LeptonError:
    return LeptonError(
        f"two operators are called {name}: one from {other} and one from {owner}",
        notes=[f"rename one; installed packages bring theirs by the entry points {GROUP}"],
        code="E811",
    )


def _loaded(point: EntryPoint) -> list[Operator]:
    """The operators of an entry point."""
    try:
        found: Any = point.load()
    except Exception as error:
        raise LeptonError(
            f"entry point {point.value} of {GROUP} does not load: {type(error).__name__}: {error}",
            notes=["repair or uninstall the package that has it"],
            code="E811",
        ) from error
    listed: list[Any] = [found]
    if isinstance(found, list | tuple):
        listed = list(found)  # pyright: ignore[reportUnknownArgumentType] - looked at next
    strange = [item for item in listed if not isinstance(item, Operator)]
    if strange or not listed:
        raise LeptonError(
            f"entry point {point.value} of {GROUP} names no operators",
            notes=["an entry point names a leptonc.extensions.Operator, or a sequence of them"],
            code="E811",
        )
    return listed


def include_folder() -> Path:
    """The folder with `lepton_operator.h`, for the C compiler."""
    return Path(__file__).parent / "include"
