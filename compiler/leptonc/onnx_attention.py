"""ONNX's Attention and RotaryEmbedding as one operation each.

What that cannot say is left to the bodies that ONNX gives for them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import TypeVar

from leptonc.ir.graph import Attribute, Value
from leptonc.ir.types import DType
from leptonc.onnx_scope import Call

T = TypeVar("T", int, float)

NOTHING = -1
"""What a window says that bounds nothing."""


def _number(call: Call, name: str, default: T) -> T:
    """The number `name` is, which stays where it is: another reading may follow."""
    _, value = call.attributes.get(name, ("", default))
    return type(default)(value) if isinstance(value, int | float) else default


def attention(call: Call) -> Sequence[Value] | None:
    """The operation that a node is, None where the node asks for more than that.

    A past, scores as a result, windows, lengths of padded keys and narrow numbers are more.
    """
    if len(call.operands) < 3 or None in call.operands[:3]:
        return None
    q, k, v = (call.required(index) for index in range(3))
    mask = call.operand(3)
    more = any(item is not None for item in call.operands[4:]) or any(
        call.wants(index) for index in range(1, len(call.outputs))
    )
    windows = [_number(call, f"{side}_window_size", NOTHING) for side in ("left", "right")]
    heads = [_number(call, f"{name}_num_heads", 0) for name in ("q", "kv")]
    rank = q.type.rank
    if more or windows != [NOTHING] * 2 or {x.type.rank for x in (q, k, v)} not in ({3}, {4}):
        return None
    if any(x.type.dtype is not DType.F32 for x in (q, k, v)) or (rank == 3) != (min(heads) > 0):
        return None
    lengths = tuple(x.type.shape[rank // 2] for x in (q, k))
    is_causal, softcap = _number(call, "is_causal", 0), _number(call, "softcap", 0.0)
    if is_causal and lengths[0] != lengths[1]:
        return None
    if mask is not None and (softcap or mask.type.shape[-2:] != lengths):
        return None
    width = q.type.shape[-1]
    if not isinstance(width, int) or (rank == 3 and width % heads[0]):
        return None
    wide = width if rank == 4 else width // heads[0]
    scale = _number(call, "scale", 0.0) or wide**-0.5 if wide else 1.0
    attributes: dict[str, Attribute] = {
        "scale": scale, "softcap": softcap, "is_causal": is_causal,
        "q_num_heads": heads[0] if rank == 3 else 0, "kv_num_heads": heads[1] if rank == 3 else 0,
    }  # fmt: skip
    operands = [q, k, v] if mask is None else [q, k, v, mask]
    return [call.build.op("attention", operands, attributes).result]


def rotary(call: Call) -> Sequence[Value] | None:
    """The operation that a node is, None where angles are looked up by places."""
    if len(call.operands) != 3 or None in call.operands:
        return None
    x, cos, sin = (call.required(index) for index in range(3))
    heads, pairs = _number(call, "num_heads", 0), cos.type.shape[-1]
    part = _number(call, "rotary_embedding_dim", 0)
    width = x.type.shape[-1] if x.type.rank == 4 else 0
    if x.type.rank == 3 and heads > 0 and isinstance(x.type.shape[2], int):
        width = x.type.shape[2] // heads
    known = isinstance(pairs, int) and cos.type.rank == sin.type.rank == 3
    if x.type.dtype is not DType.F32 or not known or not width:
        return None
    if 2 * pairs != (part or width):
        return None
    attributes: dict[str, Attribute] = {
        "interleaved": _number(call, "interleaved", 0),
        "num_heads": heads if x.type.rank == 3 else 0,
    }
    return [call.build.op("rotary_embedding", [x, cos, sin], attributes).result]


ATTENTION: Mapping[tuple[str, str], Callable[[Call], Sequence[Value] | None]] = MappingProxyType(
    {("", "Attention"): attention, ("", "RotaryEmbedding"): rotary}
)
"""By domain and name."""
