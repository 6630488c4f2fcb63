# pyright: standard
"""How much memory a planned module takes."""

from __future__ import annotations

import re
from typing import Any

from tvm import relax

from leptonc.backends.tvm.arena import units
from leptonc.backends.tvm.binding import PrimExpr, tirx
from leptonc.backends.tvm.escapes import bindings_of, operator

_NUMBER = re.compile(r"T\.int64\((-?\d+)\)")


def planned_bytes(module: Any) -> dict[str, int]:
    """Bytes of all memory that is allocated, for each unit of a product of extents.

    The empty product is what does not depend on extents. Extents that are computed keep the form
    of their formula.
    """
    total: dict[str, int] = {}
    for function in module.functions.values():
        if not isinstance(function, relax.Function):
            continue
        for binding in bindings_of(function):
            if operator(binding.value) == "relax.memory.alloc_storage":
                size: Any = binding.value.args[0]
                count, factors = units(size.values)
                product = "*".join(map(_text, factors))
                total[product] = total.get(product, 0) + count
    return total


def _text(factor: PrimExpr) -> str:
    """An extent as people write it."""
    text = _NUMBER.sub(r"\1", str(factor)).replace("T.", "").replace(" + -", " - ")
    return text if isinstance(factor, tirx.Var) or text.endswith(")") else f"({text})"
