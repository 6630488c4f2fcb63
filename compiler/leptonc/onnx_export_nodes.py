"""What a node is called, and where its operands go."""

from __future__ import annotations

from leptonc.ir.graph import Op, Value


def node_name(op: Op) -> str:
    """The names of the nodes an operation stands for, as the name of one.

    Names that were joined before are taken apart, and parts of what has a name here are left out,
    so that names do not grow where a written model is optimised again.
    """
    parts = dict.fromkeys(part for node in op.location.nodes for part in node.split("+"))
    kept = [part for part in parts if part.rpartition("_")[0] not in parts]
    return "+".join(kept)[:200]


def operand_slots(op: Op) -> list[Value | None]:
    """The operands in the places ONNX has for them; None for absent ones, none at the end."""
    slots: list[Value | None] = []
    for operand in op.definition.operands:
        if operand.variadic:
            slots.extend(op.operands_called(operand.name))
        else:
            slots.append(op.operand(operand.name))
    while slots and slots[-1] is None:
        slots.pop()
    return slots
