"""The meaning of a graph, by the reference definition of each operation."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from leptonc.ir.blob import Array
from leptonc.ir.build import infer_types
from leptonc.ir.diagnostics import LeptonBug, LeptonError
from leptonc.ir.dims import Dim, is_linear, solve_linear, substitute
from leptonc.ir.graph import Graph, Op, Region, Value
from leptonc.ir.table import Evaluation, Inference
from leptonc.ir.types import DType, TensorType

_STEPS = {DType.F32: 2.0**-23, DType.F16: 2.0**-10, DType.BF16: 2.0**-7}
"""The element types narrower than float64, with the steps between their numbers from 1 on."""


def interpret(
    graph: Graph,
    feeds: Mapping[str, Array],
    *,
    widen: bool = False,
    noise: np.random.Generator | None = None,
    look: Callable[[], None] | None = None,
) -> dict[str, Array]:
    """Run `graph` on `feeds`, one array for each input by name.

    `widen` computes f32, f16 and bf16 tensors in float64: the reference that rounding errors are
    measured against. With `noise` each element of those is also off by a random part of what its
    type rounds: results of several such runs differ by what rounding does to this graph. `look` is
    called before each operation, and ends the run by raising. Raises LeptonBug where an operation's
    data does not fit its declared type, and LeptonError where that is because extents that have to
    agree do not in these feeds, or an index is out of range.
    """
    missing = [value.name for value in graph.inputs if value.name not in feeds]
    if missing:
        raise LeptonError(f"no data for input {', '.join(map(repr, missing))}", code="E003")
    run = _Interpreter(widen, noise, look)
    results = run.region(graph, [np.asarray(feeds[value.name]) for value in graph.inputs])
    return dict(zip(graph.output_names, results, strict=True))


class _Interpreter:
    def __init__(
        self,
        widen: bool,
        noise: np.random.Generator | None = None,
        look: Callable[[], None] | None = None,
    ) -> None:
        self.widen, self.noise, self.look = widen, noise, look
        self.values: dict[Value, Array] = {}
        self.sizes: dict[str, Dim] = {}

    def region(self, region: Region, inputs: Sequence[Array]) -> list[Array]:
        """What the region gives back for `inputs`."""
        for value, array in zip(region.inputs, inputs, strict=True):
            self._define(value, array, None)
        for op in region:
            if op.name != "return":
                self._run(op)
        return [self.values[value] for value in region.outputs]

    def turn(self, region: Region, inputs: Sequence[Array]) -> list[Array]:
        """One run of a branch or a loop's body: the sizes it meets are forgotten afterwards."""
        outer = dict(self.sizes)
        names = region.parent.attrs.get("turn") if region.parent is not None else None
        if isinstance(names, tuple):
            self.sizes.update((str(name), int(inputs[0])) for name in names)
        try:
            return self.region(region, inputs)
        finally:
            self.sizes = outer

    def _run(self, op: Op) -> None:
        if self.look is not None:
            self.look()
        arrays = [self.values[value] for value in op.operands]
        with np.errstate(all="ignore"):
            if op.name == "group":
                results: Sequence[Array] | Array = self.region(op.regions[0], arrays)
            elif op.name == "dims":
                results = self._extents(op)
            elif op.definition.evaluate is None:
                raise LeptonError(f"{op.name} has no reference meaning", op.location, code="E004")
            else:
                call = Evaluation(op.definition, arrays, op.operand_names, op.attrs, op.regions)
                call.operand_types = tuple(value.type for value in op.operands)
                call.result_types = tuple(self._sized(value.type) for value in op.results)
                call.run_region = self.turn
                try:
                    results = op.definition.evaluate(call)
                except IndexError as error:  # the data, as types were checked
                    what = f"{op.name} reads a place that is not there: {error}"
                    raise LeptonError(what, op.location, code="E005") from error
        arrays = [results] if isinstance(results, np.ndarray | np.generic) else list(results)
        for value, array in zip(op.results, arrays, strict=False):
            self._define(value, np.asarray(array), op)
        if op.name == "extents":
            self._bind(op)

    def _bind(self, op: Op) -> None:
        """Give the symbols that `op` names their sizes."""
        content = op.result.content
        assert content is not None
        for dim, extent in zip(content, self.values[op.result].tolist(), strict=True):
            if extent < 0 or not self._unify(dim, extent):
                wanted = dim if extent >= 0 else "0 or more"
                raise LeptonError(
                    f"an extent is {extent} at run time, should be {wanted}",
                    op.location,
                    notes=[op.str("fault")] if op.attrs["fault"] else [],
                    code="E005",
                )

    def _sized(self, type: TensorType) -> TensorType:
        """A type with the extents that are known by now."""
        return type.with_shape(*(substitute(dim, self.sizes) for dim in type.shape))

    def _extents(self, op: Op) -> Array:
        content = op.results[0].content
        assert content is not None
        numbers = [substitute(dim, self.sizes) for dim in content.reshape(-1)]
        return np.array(numbers, op.result.type.dtype.numpy).reshape(content.shape)

    def _define(self, value: Value, array: Array, op: Op | None) -> None:
        """Keep `array` as the data of `value`, after holding it against the declared type."""
        type = value.type
        # sums may be taken in another order where elements lie in another order
        array = np.asarray(array, order="C")
        if self.widen and type.dtype in _STEPS:
            array = self._wide(array, type.dtype)
        elif not self.widen and type.dtype is not DType.STR and array.dtype != type.dtype.numpy:
            raise self._misfit(value, array, op)
        if array.ndim != type.rank:
            raise self._misfit(value, array, op)
        for dim, extent in zip(type.shape, array.shape, strict=True):
            if not self._unify(dim, extent):
                raise self._misfit(value, array, op)
        self.values[value] = array

    def _wide(self, array: Array, dtype: DType) -> Array:
        wide: Array = array.astype(np.float64)
        if self.noise is None:
            return wide
        shape: tuple[int, ...] = wide.shape
        steps = (2 * np.asarray(self.noise.random(shape)) - 1) * _STEPS[dtype]
        with np.errstate(all="ignore"):
            return wide + wide * steps

    def _unify(self, dim: Dim, extent: int) -> bool:
        """Compare, after binding the only symbol of `dim` that has no size yet."""
        dim = substitute(dim, self.sizes)
        if isinstance(dim, int):
            return dim == extent
        if not is_linear(dim):
            return True
        solution = solve_linear(dim, extent)
        if solution is not None:
            self.sizes.update([solution])
        return solution is not None

    def _misfit(self, value: Value, array: Array, op: Op | None) -> LeptonError | LeptonBug:
        got = f"{array.dtype}{list(array.shape)}"
        if op is None:
            return LeptonError(f"input {value.name!r} is {value.type}, got {got}", code="E003")
        disagreement = self._disagreement(op, value, array)
        if disagreement is not None:
            return disagreement
        return LeptonBug(
            f"{op.name} is declared {value.type} but its meaning gives {got}", op.location
        )

    def _disagreement(self, op: Op, value: Value, array: Array) -> LeptonError | None:
        """What is wrong with the inputs where an operation gives what its operands' extents imply.

        Then its declared type holds for extents that agree, and those of the operands do not.
        """
        if op.regions or value.type.is_static:
            return None
        operands = [self._as_given(operand) for operand in op.operands]
        try:
            types = infer_types(Inference(op.definition, operands, op.operand_names, op.attrs, ()))
        except LeptonError as error:
            error.location = op.location
            return error
        if types[list(op.results).index(value)].shape != array.shape:
            return None
        shapes = ", ".join(str(list(operand.type.shape)) for operand in operands)
        return LeptonError(
            f"{op.name} has operands of shapes {shapes}, which gives {list(array.shape)}, where "
            f"it should be [{', '.join(map(str, value.type.shape))}]",
            op.location,
            notes=["the inputs have extents that this model does not take together"],
            code="E006",
        )

    def _as_given(self, value: Value) -> Value:
        """A value of the extents and elements that `value` has now."""
        array = self.values[value]
        given = Value(value.type.with_shape(*array.shape), value.name)
        given.content = array.astype(object) if value.content is not None else None
        return given
