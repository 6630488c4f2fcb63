"""Which constants a library takes as parameters."""

from __future__ import annotations

from leptonc.backends.tvm.regions import scopes
from leptonc.backends.tvm.source import is_inlined, is_read
from leptonc.ir.graph import Graph, Op


def weights_of(graph: Graph) -> list[Op]:
    """The constants that a library of `graph` takes as parameters, in the order of its tuple."""
    return [
        op
        for region in scopes(graph)
        for op in region
        if op.name == "const" and not is_inlined(op.result) and op.result.is_used and _is_data(op)
    ]


def _is_data(op: Op) -> bool:
    """True where a kernel or an output reads the constant, not only shapes."""
    for use in op.result.uses:
        if use.op.name == "return":
            return True
        if use.op.name == "group":
            inner = use.op.regions[0].inputs[use.slot]
            if any(is_read(reader.op, reader.slot) for reader in inner.uses):
                return True
        elif is_read(use.op, use.slot):
            return True
    return False
