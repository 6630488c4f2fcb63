# pyright: standard
"""Choices and loops as functions of the Relax module: what their regions are called and take.

To Relax, a choice or loop is a call of a function it cannot look into; what it is given is then
kept out of the memory plan, so that regions may hand it on. Its jumps are written by
`control_code`. Parameters of a region's function: its inputs (of a loop the carried ones), the
captured values, then shapes: the sizes it needs, and for a loop the number of the turn.
"""

from __future__ import annotations

from dataclasses import dataclass

from tvm import relax

from leptonc.ir.graph import Value
from leptonc.ir.types import TensorType


@dataclass(frozen=True)
class Choice:
    """Arguments: condition, captured values, sizes if there are any."""

    regions: tuple[str, str]
    results: int


@dataclass(frozen=True)
class Loop:
    """Arguments: condition if there is one, carried and captured values, sizes, limits.

    The limits are one shape: of the turns, then the extents of the elements of each scan output.
    """

    region: str
    conditional: bool
    """The first argument is the condition before the first turn."""
    endless: bool
    """No turn can end the loop; its limit does."""
    carried: int
    captured: int
    counted: bool
    """The region takes the number of the turn."""
    scans: tuple[TensorType, ...]
    """The elements of scan outputs; extents that are no numbers are those of the first turn."""
    message: str
    """What is told where an element has other extents than the first one."""


Control = Choice | Loop


@dataclass(frozen=True)
class Called:
    """How an operation is called: the function, its tensors, the sizes behind them."""

    function: relax.Expr
    operands: tuple[Value, ...]
    sizes: tuple[str, ...]
    scans: tuple[TensorType, ...]
