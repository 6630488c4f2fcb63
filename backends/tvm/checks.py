# pyright: standard
"""Checks of sizes at run time, which end a run with a message that names the node."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import tvm
from tvm import relax

from leptonc.backends.tvm.binding import tirx
from leptonc.ir.dims import LARGEST_EXTENT
from leptonc.ir.location import Location

_EQUAL_TO_NUMBER = 0
"""The virtual machine's code for an extent that must be the number after it."""


class Fault:
    """One thing that must hold: where `holds` is false, the run ends.

    In `message` the braces stand for `number`, as it is then.
    """

    def __init__(self, holds: Any, number: Any, message: str) -> None:
        # an odd number is never 0, whatever the number is, and halving it gives it back
        odd = number * tirx.const(2, "int64") + tirx.const(1, "int64")
        self.expression = tirx.Select(holds, tirx.const(0, "int64"), odd)
        self.message = message


def extent_fault(number: Any, what: str, why: str = "") -> Fault:
    """`number` must be an extent that memory could hold; `why` ends the message."""
    low, high = tirx.const(0, "int64"), tirx.const(LARGEST_EXTENT, "int64")
    message = f"{what} is {{}}, should be from 0 to {LARGEST_EXTENT}{why}"
    return Fault(tirx.And(number >= low, number <= high), number, message)


def check(location: Location, faults: Sequence[Fault]) -> relax.Expr:
    """A call that ends the run at the first fault: `leptonc.runtime.failures` reads the text."""
    text = "leptonc" + json.dumps(
        {"nodes": location.nodes, "messages": [fault.message for fault in faults]}
    )
    arguments: list[Any] = [
        relax.ShapeExpr([fault.expression for fault in faults]),
        relax.prim_value(0),
        relax.prim_value(len(faults)),
    ]
    for _ in faults:
        arguments += [relax.prim_value(_EQUAL_TO_NUMBER), relax.prim_value(0)]
    arguments.append(tvm.ir.StringImm(text))
    function = relax.ExternFunc("vm.builtin.match_shape")  # pyright: ignore[reportArgumentType]
    return relax.Call(function, arguments, ty_args=[relax.TupleType([])])
