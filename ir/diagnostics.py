"""Errors that name the operation, its ONNX origin and what to do about it."""

from __future__ import annotations

from collections.abc import Iterable
from types import MappingProxyType

from leptonc.ir.location import UNKNOWN, Location, shown, shown_path

__all__ = ["CODES", "LeptonBug", "LeptonError", "shown", "shown_path"]

CODES = MappingProxyType({
    "E000": "an error without a code of its own",
    "E001": "an operation is not in the table",
    "E002": "the data of a constant is not at hand",
    "E003": "an input of the interpreter is missing or of the wrong type",
    "E004": "an operation has no reference meaning",
    "E005": "an extent or an index that is computed at run time is not what it should be",
    "E006": "inputs have extents that do not go together",
    "E011": "the file is no ONNX model",
    "E012": "the model is written for versions of ONNX that are not known here",
    "E013": "the model uses operators that cannot be imported",
    "E014": "the model's graph is not well formed",
    "E015": "an attribute of a node is not what its operator takes",
    "E016": "a tensor's data does not fit its type",
    "E017": "external data cannot be used",
    "E018": "the model is beyond a limit",
    "E019": "an output is not what the model declares",
    "E020": "the model has several problems",
    "E021": "an extent to fix is not one of the model's inputs",
    "E022": "the graph cannot be written as an ONNX model",
    "E101": "operands that must share an element type do not",
    "E102": "an operation is not defined for an element type",
    "E103": "shapes do not fit each other",
    "E104": "an operation has the wrong number of operands",
    "E105": "an attribute has the wrong type",
    "E106": "an attribute that the operation needs is missing",
    "E107": "an axis does not exist",
    "E108": "an attribute has a value that is not defined",
    "E109": "something has to be known at compile time and is not",
    "E110": "a constant index is out of range",
    "E115": "a text is no number",
    "E201": "a region does not end in return",
    "E202": "the graph does not name its outputs one by one",
    "E203": "a value is read before it is defined",
    "E204": "the records of uses or of regions are stale",
    "E205": "an operation does not have the results its definition says",
    "E206": "a result is not of the type its operation computes",
    "E301": "rewrite rules undo each other, or loop",
    "E302": "a rewrite rule gives a value of another type",
    "E401": "a pipeline cannot be read",
    "E402": "there is no pass of that name",
    "E403": "a pass has no option of that name",
    "E404": "a pass option has a value of the wrong kind",
    "E405": "two passes have the same name, or an entry point names no pass",
    "E501": "a pass changed results by more than its numeric contract allows",
    "E502": "there is no linker",
    "E503": "the linker failed",
    "E504": "an optimised model computes something else than the original",
    "E601": "the artefact file cannot be read",
    "E602": "the file is empty",
    "E603": "the file is no artefact of leptonc",
    "E604": "the artefact is truncated, or has bytes around it",
    "E605": "the artefact is corrupted: a digest does not match",
    "E606": "the artefact has a newer format than this leptonc reads",
    "E607": "the artefact was built for another kind of machine",
    "E608": "the processor lacks features the artefact was built for",
    "E609": "the artefact is not laid out as leptonc lays it out",
    "E610": "the artefact's manifest is not valid",
    "E611": "the artefact cannot be written",
    "E612": "the C library is older than the one the artefact needs",
    "E613": "the runtime that runs compiled libraries is missing or does not load",
    "E701": "the inputs of a run do not fit the signature",
    "E702": "the session is closed",
    "E704": "the compiled program failed while running",
    "E705": "the number of threads is not usable",
    "E706": "a run took longer than it was given",
    "E707": "a size that is computed at run time does not fit",
    "E708": "elements of this type are laid out otherwise by DLPack than by compiled programs",
    "E801": "a target cannot be read or does not exist",
    "E802": "the target has no kernel for an operation",
    "E803": "a precision is not available",
    "E804": "there is no such optimisation level",
    "E805": "an option of the command line cannot be read",
    "E806": "a file given to a command cannot be read",
    "E809": "a runtime to measure against is not installed",
    "E810": "what was decided of kernels, or measured for it, cannot be used",
    "E811": "two operators from other packages have the same name, or an entry point names none",
    "E812": "an operator from another package is not described in a way that can be used",
    "E813": "the shared library of an operator cannot be used",
    "E900": "an invariant of leptonc does not hold",
})  # fmt: skip
"""What each error code says, in one line."""


class DiagnosticError(Exception):
    """What users and developers are told: a message, where, what else to know, and a code."""

    kind = "error"

    def __init__(
        self,
        message: str,
        location: Location = UNKNOWN,
        notes: Iterable[str] = (),
        code: str = "E000",
    ) -> None:
        super().__init__(message)
        self.message = message
        self.location = location
        self.notes = list(notes)
        self.code = code

    def __str__(self) -> str:
        lines = [f"{self.kind}[{self.code}]: {self.message}"]
        if self.location.nodes:
            lines.append(f"  --> {self.location}")
        lines += [f"  note: {note}" for note in self.notes]
        return "\n".join(lines)


class LeptonError(DiagnosticError):
    """An error a user can act on. Anything else that escapes leptonc is a bug in leptonc."""

    faults: tuple[LeptonError, ...] = ()
    """What is wrong one by one, where the error tells of several things."""


class LeptonBug(DiagnosticError):  # noqa: N818 - it is no error of anybody but leptonc
    """A broken invariant of leptonc's own; never the user's fault."""

    kind = "bug in leptonc"

    def __init__(
        self,
        message: str,
        location: Location = UNKNOWN,
        notes: Iterable[str] = (),
        code: str = "E900",
    ) -> None:
        super().__init__(message, location, notes, code)
