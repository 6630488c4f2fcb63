"""Errors that name the operation, its ONNX origin and what to do about it."""

from __future__ import annotations

from dataclasses import dataclass, field

from leptonc.ir.location import UNKNOWN, Location


@dataclass
class LeptonError(Exception):
    """An error a user can act on. Anything else that escapes leptonc is a bug in leptonc."""

    message: str
    location: Location = UNKNOWN
    notes: list[str] = field(default_factory=list[str])
    code: str = "E000"

    def __str__(self) -> str:
        head = f"error[{self.code}]: {self.message}"
        where = f"  --> {self.location}" if self.location.nodes else ""
        return "\n".join(filter(None, [head, where, *(f"  note: {note}" for note in self.notes)]))


class LeptonBug(LeptonError):
    """A broken invariant of leptonc's own; never the user's fault."""

    def __init__(self, message: str, location: Location = UNKNOWN, notes: list[str] | None = None, code: str = "E900") -> None:
        super().__init__(message, location, notes or [], code)
