"""Operators that turn categories into numbers and back, and ZipMap."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np

from leptonc.ir.blob import Array, Blob
from leptonc.ir.diagnostics import LeptonError
from leptonc.ir.graph import Graph, Value
from leptonc.ir.types import DType
from leptonc.onnx_ml_scores import Results, Rule, axis
from leptonc.onnx_scope import Call

NAN_IS_A_KEY = 4
"""The opset since which NaN is equal to itself among keys."""
UNUSED = "_Unused"
"""What ONNX gives for numbers without a text."""

_NUMPY: Mapping[str, Any] = MappingProxyType({
    "strings": object, "int64s": np.int64, "floats": np.float32,
})  # fmt: skip
_KIND = MappingProxyType({"strings": "strs", "int64s": "ints", "floats": "floats"})
_DEFAULT: Mapping[str, tuple[str, str, Any]] = MappingProxyType({
    "strings": ("default_string", "str", UNUSED),
    "int64s": ("default_int64", "int", -1),
    "floats": ("default_float", "float", -0.0),
})  # fmt: skip


def _wrong(call: Call, what: str) -> LeptonError:
    return LeptonError(f"{call.op_type}: {what}", call.location, code="E015")


def array_of(values: Sequence[Any], dtype: Any) -> Array:
    """One axis of elements, text included."""
    array = np.empty(len(values), dtype)
    array[:] = values
    return array


def mapped(call: Call, x: Value, keys: Array, values: Array, default: Array) -> Value:
    """For each element the value of its key, the default where it is no key."""
    build, dtype = call.build, x.type.dtype
    if len(keys) != len(values):
        raise _wrong(call, f"{len(keys)} keys have {len(values)} values")
    if DType.of(keys.dtype) is not dtype:
        raise LeptonError(
            f"{call.op_type} of {dtype} has keys of {DType.of(keys.dtype)}",
            call.location,
            notes=["insert a cast before it"],
            code="E101",
        )
    is_nan = np.isnan(keys) if dtype.is_float else np.zeros(len(keys), bool)
    for_nan = values[is_nan][:1] if call.opset >= NAN_IS_A_KEY else values[:0]
    keys, values = keys[~is_nan], values[~is_nan]
    _, first = np.unique(keys.astype(str) if dtype is DType.STR else keys, return_index=True)
    keys, values = keys[first], values[first]
    place = build.lookup(x, build.const(keys))
    table = np.concatenate([values, default.reshape(1).astype(values.dtype)])
    if len(for_nan):
        table = np.concatenate([table, for_nan])
        at_nan = build.const(np.array(len(table) - 1, np.int64))
        place = build.where(build.is_nan(x), at_nan, place)
    return build.gather(build.const(table), place)


def _label_encoder(call: Call) -> Results:
    x = call.required(0)
    if "classes_strings" in call.attributes:
        return _classes(call, x, call.take("classes_strings", "strs", ()))
    keys, _ = _side(call, "keys")
    values, suffix = _side(call, "values")
    given = call.take("default_tensor", "blob")
    if isinstance(given, Blob) and given.size:
        default = given.array.reshape(-1)[:1]
    elif suffix == "tensor":
        plain = DType.of(values.dtype)
        likely = UNUSED if plain is DType.STR else -0.0 if plain.is_float else -1
        default = array_of([likely], values.dtype)
    else:
        name, kind, value = _DEFAULT[suffix]
        default = array_of([call.take(name, kind, value)], values.dtype)
    for name, _, _ in _DEFAULT.values():
        call.attributes.pop(name, None)
    return [mapped(call, x, keys, values, default)]


def _side(call: Call, side: str) -> tuple[Array, str]:
    """The keys or the values, and the kind of attribute that holds them."""
    found: list[tuple[Array, str]] = []
    for suffix, kind in _KIND.items():
        entries = call.take(f"{side}_{suffix}", kind, ())
        if entries:
            found.append((array_of(entries, _NUMPY[suffix]), suffix))
    tensor = call.take(f"{side}_tensor", "blob")
    if isinstance(tensor, Blob) and tensor.size:
        found.append((tensor.array.reshape(-1), "tensor"))
    if len(found) != 1:
        raise _wrong(call, f"{len(found)} attributes hold its {side}, should be one")
    return found[0]


def _classes(call: Call, x: Value, words: Sequence[str]) -> Results:
    """Text to its place in a list, or places to the text that stands there."""
    text, numbers = array_of(words, object), np.arange(len(words))
    word = array_of([call.take("default_string", "str", UNUSED)], object)
    number = np.array([call.take("default_int64", "int", -1)], np.int64)
    if x.type.dtype is DType.STR:
        return [mapped(call, x, text, numbers, number)]
    return [mapped(call, x, numbers.astype(x.type.dtype.numpy), text, word)]


def _category_mapper(call: Call) -> Results:
    x = call.required(0)
    words = array_of(call.take("cats_strings", "strs", ()), object)
    numbers = array_of(call.take("cats_int64s", "ints", ()), np.int64)
    word = array_of([call.take("default_string", "str", UNUSED)], object)
    number = np.array([call.take("default_int64", "int", -1)], np.int64)
    if x.type.dtype is DType.STR:
        return [mapped(call, x, words, numbers, number)]
    return [mapped(call, x, numbers, words, word)]


def _one_hot_encoder(call: Call) -> Results:
    """One column for each category; what is none of them is an error unless `zeros`."""
    build, x = call.build, call.required(0)
    words, numbers = call.take("cats_strings", "strs", ()), call.take("cats_int64s", "ints", ())
    if bool(words) == bool(numbers):
        raise _wrong(call, "cats_strings or cats_int64s should say the categories, one of them")
    if (x.type.dtype is DType.STR) != bool(words):
        raise _wrong(call, f"its operand is {x.type}, and its categories are of another kind")
    if numbers and x.type.dtype is not DType.I64:
        x = build.op("cast", [x], {"to": DType.I64}).result
    keys = array_of(words, object) if words else array_of(numbers, np.int64)
    count, zeros = len(keys), call.take("zeros", "int", 1)
    order = np.argsort(keys.astype(str) if words else keys, kind="stable")
    if len(set(keys.tolist())) != count:
        raise _wrong(call, "a category is there twice")
    strict = {"strict": 0 if zeros else 1}
    place = build.op("lookup", [x, build.const(keys[order])], strict).result
    place = build.unsqueeze(place, axis(build, x.type.rank))
    columns = np.empty(count, np.int64)
    columns[order] = np.arange(count)
    is_there = build.equal(place, build.const(columns))
    return [build.op("cast", [is_there], {"to": DType.F32}).result]


def _zip_map(call: Call) -> Results:
    """The scores as they are; what the columns are called goes to the model's metadata."""
    x = call.required(0)
    labels: Sequence[int | str] = call.take("classlabels_int64s", "ints", ())
    labels = labels or call.take("classlabels_strings", "strs", ())
    if x.type.rank not in (1, 2) or x.type.shape[-1] != len(labels):
        raise _wrong(call, f"its operand is {x.type}, with names for {len(labels)} columns")
    region: Any = call.build.region
    if isinstance(region, Graph) and call.wants(0):
        region.metadata[f"classes.{call.outputs[0]}"] = json.dumps(list(labels))
    return [call.build.identity(x)]


ENCODE: Mapping[str, Rule] = MappingProxyType({
    "CategoryMapper": _category_mapper,
    "LabelEncoder": _label_encoder,
    "OneHotEncoder": _one_hot_encoder,
    "ZipMap": _zip_map,
})  # fmt: skip
"""Operators by name, and what takes them apart."""
