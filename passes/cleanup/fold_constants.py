"""fold-constants: what can be computed now is computed now."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from leptonc.ir.blob import Array, Blob
from leptonc.ir.build import Builder
from leptonc.ir.diagnostics import LeptonError
from leptonc.ir.dims import Dim, bounds
from leptonc.ir.graph import Content, Graph, Op, Value
from leptonc.ir.location import Location
from leptonc.ir.ops.control import FRESH
from leptonc.ir.ops.run_time import EXTENTS
from leptonc.ir.table import CONST, DIMS, RETURN, Evaluation, Trait
from leptonc.passes.base import Pass, option
from leptonc.passes.context import PassContext
from leptonc.passes.contract import EXACT, Contract
from leptonc.passes.refine import erase_dead_from, replace_value, substitute_dims

SMALL = 4096
"""Results up to this many bytes are folded however small what they are computed from is."""

PRODUCTS = frozenset({"conv", "conv_transpose", "matmul", "linear", "gemm", "gather"})
ELEMENTWISE = frozenset({"add", "mul"})
QUANTISED = PRODUCTS | {"dequantize_linear"}
"""What else such a sum or product reads."""
MOVED = frozenset({"transpose", "reshape"})
"""What a weight may pass on its way."""


@dataclass(frozen=True)
class FoldConstants(Pass):
    """Replaces operations by their results where those are known at compile time.

    An operation on constants is computed by its reference meaning, in its own element type. An
    integer tensor whose elements are known as extents becomes a constant, or a `dims` operation
    where symbols are among them; so chains of `shape`, `gather` and `concat` dissolve. A result
    without elements is known whatever it is computed from. Results that are large, or much larger
    than what they come from (a broadcast), are left to run time; so are quantised weights where
    `dequantize` is off: they take less room, and runtimes look for them to compute with integers.
    """

    name: ClassVar[str] = "fold-constants"
    numbers: ClassVar[Contract] = EXACT
    megabytes: int = option(64, "the largest result to fold")
    growth: int = option(16, "how many times larger than its operands a result may be")
    dequantize: bool = option(True, "whether quantised weights become real numbers")

    def run(self, graph: Graph, context: PassContext) -> None:
        """Fold in program order, so that whole chains fold in one go."""
        for op in graph.walk():
            if op.region is None or op.definition in (CONST, RETURN):
                continue
            if op.definition is EXTENTS:
                _fold_extents(op, graph, context)
                continue
            if _fold_content(op, context) or op.definition is DIMS or _fold_empty(op, context):
                continue
            if op.operands and all(value.blob is not None for value in op.operands):
                self._fold_data(op, context)

    def _fold_data(self, op: Op, context: PassContext) -> None:
        if op.definition.evaluate is None or op.regions or op.definition.has(Trait.EFFECT):
            return
        if any(value.type.is_static for value in op.results) and self._too_large(op, context):
            return
        if not self.dequantize and _is_weight_in_bytes(op):
            context.miss(self.name, op.location, "weights that are quantised stay integers")
            return
        arrays = [value.blob.array for value in op.operands if value.blob is not None]
        call = Evaluation(op.definition, arrays, op.operand_names, op.attrs)
        call.result_types = tuple(value.type for value in op.results)
        try:
            with np.errstate(all="ignore"):
                results = op.definition.evaluate(call)
        except LeptonError as error:
            if isinstance(op.region, Graph):  # this code runs for certain
                error.location = op.location
                raise
            context.miss(self.name, op.location, error.message)
            return
        parts = [results] if isinstance(results, np.ndarray | np.generic) else list(results)
        if context.grant(self.name, op.location):
            _replace_by_constants(op, [np.asarray(part) for part in parts])

    def _too_large(self, op: Op, context: PassContext) -> bool:
        spent = sum(map(_bytes, op.operands))
        size = sum(_bytes(value) for value in op.results if value.type.is_static)
        limit = min(max(SMALL, self.growth * spent), self.megabytes << 20)
        if size > limit:
            reason = f"the result has {size} bytes, {limit} may be folded"
            context.miss(self.name, op.location, reason)
        return size > limit


def _bytes(value: Value) -> int:
    return math.prod(value.type.extents) * value.type.dtype.bits // 8


def _is_weight_in_bytes(op: Op) -> bool:
    """True where `op` makes a constant real that a product, or a sum of quantised data, reads."""
    if op.name != "dequantize_linear":
        return False
    waiting = [op.result]
    while waiting:
        value = waiting.pop()
        for user in value.users:
            if user.name in PRODUCTS:
                return True
            if user.name in ELEMENTWISE:
                other = user.operands[0 if user.operands[1] is value else 1].producer
                if other is not None and other.name in QUANTISED:
                    return True
            elif user.name in MOVED:
                waiting.append(user.result)
    return False


def _fold_empty(op: Op, context: PassContext) -> bool:
    """Replace `op` where its results have no elements, so that nothing is there to compute."""
    if not op.results or op.definition.has(Trait.EFFECT) or op.regions:
        return False
    if not all(value.type.is_static and 0 in value.type.shape for value in op.results):
        return False
    if not context.grant("fold-constants", op.location):
        return False
    _replace_by_constants(
        op, [np.empty(value.type.extents, value.type.dtype.numpy) for value in op.results]
    )
    return True


def _fold_extents(op: Op, graph: Graph, context: PassContext) -> None:
    """Put what is known of the sizes that `op` binds in place of their symbols."""
    content, names = op.operands[0].content, op.result.content
    if content is None or names is None:
        return
    pairs = list(zip(names, content, strict=True))
    known = {str(name): dim for name, dim in pairs if FRESH.fullmatch(str(name)) and name != dim}
    sure = all(bounds(dim)[0] >= 0 and (name == dim or str(name) in known) for name, dim in pairs)
    if isinstance(op.region, Graph):  # this code runs for certain
        _refuse_wrong_sizes(op, pairs)
    # a size that may turn out wrong is left to the check at run time
    if sure and context.grant(FoldConstants.name, op.location):
        substitute_dims(graph, known)
        row = op.operands[0]
        replace_value(op.result, row)
        assert op.region is not None
        op.region.erase(op)
        erase_dead_from([row.producer] if row.producer is not None else [])


def _refuse_wrong_sizes(op: Op, pairs: Iterable[tuple[Dim, Dim]]) -> None:
    for wanted, found in pairs:
        if bounds(found)[1] < 0 or (
            isinstance(wanted, int) and isinstance(found, int) and wanted != found
        ):
            should = "0 or more" if bounds(found)[1] < 0 else wanted
            raise LeptonError(f"a size is {found}, should be {should}", op.location, code="E103")


def _fold_content(op: Op, context: PassContext) -> bool:
    """Replace `op` where the elements of its only result are known as extents."""
    if len(op.results) != 1 or op.definition.has(Trait.EFFECT):
        return False
    content = op.result.content
    if content is None or not op.result.type.is_static:
        return False
    dims: list[Dim] = list(content.reshape(-1))
    known = all(isinstance(dim, int | np.integer | np.bool_) for dim in dims)
    if (op.definition is DIMS and not known) or not _fits(op, dims):
        return False
    if not context.grant("fold-constants", op.location):
        return False
    if known:
        _replace_by_constants(op, [np.array(dims).reshape(content.shape)])
    else:
        _replace_by_dims(op, content)
    return True


def _fits(op: Op, dims: list[Dim]) -> bool:
    """True where the known numbers fit the element type, which arithmetic on extents ignores."""
    dtype = op.result.type.dtype.numpy
    if dtype.kind == "b":
        return True
    if dtype.kind not in "iu":
        return False
    limits = np.iinfo(dtype)
    return all(limits.min <= dim <= limits.max for dim in dims if isinstance(dim, int))


def _location(op: Op) -> Location:
    return Location.fused([op.location], by="fold-constants")


def _replace_by_constants(op: Op, arrays: list[Array]) -> None:
    assert op.region is not None
    build = Builder(op.region, before=op, location=_location(op))
    for value, array in zip(op.results, arrays, strict=False):
        if value.is_used:
            typed = np.array(array, dtype=value.type.dtype.numpy, order="C", copy=None)
            replace_value(value, build.const(Blob.of(typed)))
    erase_dead_from([op])


def _replace_by_dims(op: Op, content: Content) -> None:
    assert op.region is not None
    build = Builder(op.region, before=op, location=_location(op))
    attrs = {
        "value": tuple(content.reshape(-1)),
        "shape": content.shape,
        "dtype": op.result.type.dtype,
    }
    replace_value(op.result, build.op(DIMS, [], attrs).result)
    erase_dead_from([op])
