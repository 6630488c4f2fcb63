# pyright: standard
"""Sums and extremes of whole tensors, fp32."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from tvm.tirx import PrimFunc
from tvm.tirx.script import builder as T  # noqa: N812

from leptonc.backends.cpu import emit
from leptonc.backends.cpu.emit import IDENTITY, Epilogue, Extent, Shape
from leptonc.backends.cpu.sweep import Fold, sweep
from leptonc.backends.cpu.target import CpuTarget
from leptonc.backends.tvm.binding import Buffer, PrimExpr, tirx


@dataclass(frozen=True)
class WholeSpec:
    """`out = epilogue(all elements of x[*shape] combined)`; all extents of `out` are 1."""

    shape: Shape
    kind: str
    out_shape: Shape = ()
    epilogue: Epilogue = IDENTITY
    out_dtype: str = "float32"


def _larger(a: PrimExpr, b: PrimExpr) -> PrimExpr:
    return tirx.Select(tirx.Or(b > a, emit.is_nan(b)), b, a)


def _smaller(a: PrimExpr, b: PrimExpr) -> PrimExpr:
    return tirx.Select(tirx.Or(b < a, emit.is_nan(b)), b, a)


KINDS: Mapping[str, tuple[float, Callable[[PrimExpr, PrimExpr], PrimExpr]]] = {
    "sum": (0.0, lambda a, b: a + b),
    "max": (-math.inf, _larger),
    "min": (math.inf, _smaller),
}
"""What no elements give, and how two are combined; not-a-number is kept."""


def whole(name: str, spec: WholeSpec, cpu: CpuTarget) -> PrimFunc:
    """The kernel (x, *operands, out)."""
    parameters = [
        ("x", spec.shape, "float32"),
        *spec.epilogue.parameters(),
        ("out", spec.out_shape, spec.out_dtype),
    ]
    start, combine = KINDS[spec.kind]

    def body(x: Buffer, *rest: Buffer) -> None:
        *operands, out = rest
        count = emit.product(spec.shape)
        flat = emit.view(x, (count,))
        fold = Fold(cpu.lanes, start, combine)

        def visit(offset: PrimExpr, width: int, chain: int, seen: Extent) -> None:
            fold.take(emit.load(flat, [offset], width), width, chain, seen)

        sweep(count, cpu.lanes, visit)
        index = [emit.integer(0) for _ in spec.out_shape]
        T.buffer_store(out, spec.epilogue.apply(fold.total(), index, operands), index)

    return emit.function(name, parameters, body)
