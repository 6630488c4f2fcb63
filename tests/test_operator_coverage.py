"""Every operator of the newest ONNX is imported, or refused with a reason; none is forgotten."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import onnx
import pytest

from leptonc.backends.cpu.anchor_kernels import ANCHORS
from leptonc.backends.tvm.lowering import kernel_rules, rules
from leptonc.backends.tvm.regions import CONTROL as CONTROL_KERNELS
from leptonc.ir.table import all_ops
from leptonc.onnx_composed import COMPOSED
from leptonc.onnx_control import CONTROL
from leptonc.onnx_functions import has_body
from leptonc.onnx_refused import REFUSED
from leptonc.onnx_sequence import SEQUENCE
from leptonc.onnx_support import rows_by_onnx_name, why_not
from leptonc.passes.extents.resolve_extents import RESOLVERS

Name = tuple[str, str]


def live_operators() -> dict[Name, Any]:
    """The newest schema of every operator that is not deprecated."""
    found: dict[Name, Any] = {}
    for schema in onnx.defs.get_all_schemas():
        assert schema.domain.startswith("ai.onnx") or not schema.domain
        if not schema.deprecated:
            found[schema.domain, schema.name] = schema
    return found


LIVE = live_operators()
WAYS: Mapping[str, Callable[[Name], bool]] = {
    "a row of the table": lambda name: name in rows_by_onnx_name(),
    "taken apart": lambda name: name in COMPOSED,
    "control flow": lambda name: name in CONTROL,
    "a sequence or an optional": lambda name: name in SEQUENCE,
    "a constant": lambda name: name == ("", "Constant"),
    "a function of ONNX": lambda name: has_body(LIVE[name]),
    "refused": lambda name: name in REFUSED,
}


@pytest.mark.parametrize("name", LIVE, ids=".".join)
def test_there_is_a_way(name: Name) -> None:
    ways = [way for way, holds in WAYS.items() if holds(name)]
    assert ways, f"{name} is neither imported nor refused"
    reason = why_not((*name, ""), LIVE[name].since_version)
    assert (reason is not None) == (ways == ["refused"])


def test_what_is_refused_exists_and_says_why() -> None:
    assert set(REFUSED) <= set(LIVE)
    for reason, help in REFUSED.values():
        assert reason[0].islower()
        assert help[0].islower()


REWRITTEN = {"compress", "non_max_suppression", "non_zero", "scan", "stft", "unique"}
"""Rows that other rows stand for when kernels are made."""

TEXT = {"string_split"}
"""Rows that tables of words stand for."""


def test_every_row_of_an_operator_has_a_kernel() -> None:
    have = {*rules(), *kernel_rules(), *ANCHORS, *CONTROL_KERNELS}
    lacking = {
        row.name for row in all_ops().values() if row.onnx is not None and row.name not in have
    }
    assert lacking <= REWRITTEN | TEXT
    assert set(RESOLVERS) >= REWRITTEN - {"scan"}
