"""Values as the steps of a recurrent layer take and give them."""

from __future__ import annotations

import numpy as np

from leptonc.ir.blob import Blob
from leptonc.ir.build import Builder
from leptonc.ir.dims import Dim
from leptonc.ir.graph import Value
from leptonc.passes.constants import array_of, is_exactly
from leptonc.passes.views import reshape_to

VIEWS = frozenset({"flatten", "identity", "reshape", "squeeze", "unsqueeze"})


def behind_views(value: Value) -> Value:
    """What `value` is another shape of."""
    while value.producer is not None and value.producer.name in VIEWS:
        value = value.producer.operands[0]
    return value


def as_step(build: Builder, value: Value) -> Value:
    """Rows, one for each example, as one step of a sequence: as they were before, if possible."""
    wanted = value.type.with_shape(1, *value.type.shape)
    op = value.producer
    while op is not None and op.name in VIEWS and op.region is build.region:
        if op.operands[0].type == wanted:
            return op.operands[0]
        op = op.operands[0].producer
    source = behind_views(value).producer
    place = array_of(source.operands[1]) if source is not None and source.name == "gather" else None
    if source is not None and place is not None and place.size == 1 and source.int("axis") == 0:
        whole = source.operands[0]
        if whole.type.shape[1:] == value.type.shape:
            return build.gather(whole, build.const(place.reshape(1)), axis=0)
    return reshape_to(build, value, wanted.shape)


def without_step(build: Builder, value: Value, shape: tuple[Dim, ...]) -> Value:
    """What a layer gives of one step, in another shape."""
    return value if value.type.shape == shape else reshape_to(build, value, shape)


def is_zeros(value: Value) -> bool:
    """True for a tensor of zeros, whatever its extents."""
    source = behind_views(value)
    op = source.producer
    if op is not None and op.name == "constant_of_shape":
        blob = op.attrs["value"]
        return not isinstance(blob, Blob) or not np.any(blob.array)
    return is_exactly(op.operands[0] if op is not None and op.name == "expand" else source, 0.0)
