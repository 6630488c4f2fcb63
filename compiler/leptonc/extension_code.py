# pyright: standard
"""The code of operators from other packages: found, digested, and held to what it promises."""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import importlib.util
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from leptonc.ir.blob import Array
from leptonc.ir.diagnostics import LeptonBug, LeptonError, shown, shown_path
from leptonc.ir.extension import ABI_DTYPE, CFunction, attribute_tensor
from leptonc.ir.graph import Value
from leptonc.ir.table import Evaluate, Evaluation, Infer, Inference
from leptonc.ir.types import DType, TensorType
from leptonc.runtime.carried import SharedLibrary


def code_of(
    name: str, reference: str, library: str | Path, symbol: str
) -> tuple[CFunction | None, str]:
    """The C function of an operator, or the digest of the Python code it refers to.

    Raises E812 or E813 where there is no such function.
    """
    if library:
        try:
            code = Path(library).read_bytes()
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            raise LeptonError(
                f"{_named(library)} of operator {shown(name)} cannot be read: {reason}",
                code="E813",
            ) from None
        with contextlib.closing(SharedLibrary(code, _named(library))) as opened:
            opened.address(symbol)
        return CFunction(hashlib.sha256(code).hexdigest(), symbol, code), ""
    return None, _digest(name, reference) if reference else ""


def _named(library: str | Path) -> str:
    return f"the library {shown_path(library)}"


def _digest(name: str, reference: str) -> str:
    """A digest of the module that ``module:function`` names, and of the package it is part of."""
    module, _, function = reference.partition(":")
    top = module.partition(".")[0]
    try:
        found = importlib.util.find_spec(top) if function and top else None
    except (ImportError, ValueError):
        found = None
    if found is None or not found.origin or top == "__main__":
        raise LeptonError(
            f"the code of operator {shown(name)} is not at {shown(reference)}",
            notes=["write module:function, a function of a module that can be imported"],
            code="E812",
        )
    origin = Path(found.origin)
    files = sorted(origin.parent.rglob("*.py")) if origin.name == "__init__.py" else [origin]
    hasher = hashlib.sha256()
    for path in files:
        hasher.update(str(path.relative_to(origin.parent)).encode() + b"\0")
        hasher.update(path.read_bytes())
    return hasher.hexdigest()[:32]


def checked_infer(name: str, infer: Infer) -> Infer:
    """`infer`, held to giving types; raises E812 where it gives anything else, or fails."""

    def held(call: Inference) -> list[TensorType]:
        try:
            found: Any = infer(call)
        except (LeptonError, LeptonBug):
            raise
        except Exception as error:
            what = f"infer of operator {shown(name)} raised {type(error).__name__}: {error}"
            raise LeptonError(what, code="E812") from error
        types: list[Any] = [found]
        if isinstance(found, list | tuple):
            types = list(found)
        if not types or not all(isinstance(item, TensorType) for item in types):
            raise LeptonError(
                f"infer of operator {shown(name)} gives {shown(found)}, should give TensorTypes",
                code="E812",
            )
        return types

    return held


def checked_evaluate(name: str, evaluate: Evaluate) -> Evaluate:
    """`evaluate`, held to giving what was inferred; raises E812 where it does not."""

    def held(call: Evaluation) -> list[Array]:
        try:
            found: Any = evaluate(call)
        except (LeptonError, LeptonBug):
            raise
        except Exception as error:
            what = f"evaluate of operator {shown(name)} raised {type(error).__name__}: {error}"
            raise LeptonError(what, code="E812") from error
        arrays = [found] if isinstance(found, np.ndarray | np.generic) else list(found)
        results = [np.asarray(array) for array in arrays]
        for array, due in zip(results, call.result_types, strict=False):
            widened = array.dtype == np.float64 and due.dtype.is_float
            if array.ndim != due.rank or (array.dtype != due.dtype.numpy and not widened):
                raise LeptonError(
                    f"evaluate of operator {shown(name)} gives {array.dtype}{list(array.shape)}, "
                    f"inferred was {due}",
                    code="E812",
                )
        return results

    return held


class _Tensor(ctypes.Structure):
    """A `lepton_tensor`."""

    _fields_ = (
        ("data", ctypes.c_void_p),
        ("shape", ctypes.POINTER(ctypes.c_int64)),
        ("rank", ctypes.c_int32),
        ("dtype", ctypes.c_int32),
    )


def evaluate_by_function(function: CFunction, library: str | Path) -> Evaluate:
    """The meaning of an operator as its C function has it."""
    opened = SharedLibrary(function.code, _named(library))
    kind = ctypes.CFUNCTYPE(
        ctypes.c_int, ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p, ctypes.c_int
    )
    call_it = kind(opened.address(function.symbol))

    def evaluate(call: Evaluation) -> list[Array]:
        return _called(call_it, call)

    weakref.finalize(evaluate, opened.close).atexit = False
    return evaluate


def _called(function: Any, call: Evaluation) -> list[Array]:
    """What the C function computes."""
    if call.operand_types:  # the interpreter may compute in wider types, the function does not
        pairs = zip(call.items, call.operand_types, strict=True)
        call.items = tuple(array.astype(type.dtype.numpy, copy=False) for array, type in pairs)
    results = [np.empty(type.extents, type.dtype.numpy) for type in _types(call)]
    given = [None if array is None else np.asarray(array, order="C") for array in _operands(call)]
    for name, attr in call.definition.attrs.items():
        data = attribute_tensor(attr.kind, call.attrs.get(name))
        given.append(None if data is None else _attribute(*data))
    into, out = _tensors(given), _tensors(results)
    status = function(into, len(given), out, len(results))
    if status:
        what = f"operator {call.definition.name} failed with status {status}"
        raise LeptonError(what, code="E704")
    return results


def _types(call: Evaluation) -> list[TensorType]:
    values = [Value(TensorType(DType.of(array.dtype), array.shape)) for array in call.items]
    for value, array in zip(values, call.items, strict=True):
        value.content = array.astype(object) if value.type.dtype.is_integer else None
    found = call.definition.infer(Inference(call.definition, values, call.names, call.attrs))
    types = [found] if isinstance(found, TensorType) else list(found)
    if not all(type.is_static for type in types):
        raise LeptonError(
            f"operator {call.definition.name} gives {', '.join(map(str, types))}: a C function "
            "needs the sizes of its results",
            code="E812",
        )
    return types


def _operands(call: Evaluation) -> list[Array | None]:
    found: list[Array | None] = []
    for operand in call.definition.operands:
        found += call.all(operand.name) if operand.variadic else [call.get(operand.name)]
    return found


def _attribute(dtype: DType, numbers: list[int | float], rank: int) -> Array:
    array = np.array(numbers, dtype.numpy)
    return array if rank else array.reshape(())


def _tensors(arrays: Sequence[Array | None]) -> Any:
    made = (_Tensor * len(arrays))()
    for tensor, array in zip(made, arrays, strict=True):
        if array is None:
            tensor.rank = -1
            continue
        tensor.data = array.ctypes.data
        tensor.shape = (ctypes.c_int64 * array.ndim)(*array.shape)
        tensor.rank = array.ndim
        tensor.dtype = ABI_DTYPE[DType.of(array.dtype)]
    return made
