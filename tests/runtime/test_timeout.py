"""A run with a limit of time ends between two kernels, and leaves the session as it was."""

from __future__ import annotations

import numpy as np
import pytest

import leptonc
from leptonc.ir.diagnostics import LeptonError
from leptonc.ir.graph import Graph
from leptonc.ir.text import parse_graph

LAYERS = 40


def deep() -> Graph:
    """Many products in a row, each small enough to keep the numbers finite."""
    lines = ["graph @deep(%a0: f32[n,256]) -> (y: f32[n,256]) {"]
    for layer in range(LAYERS):
        lines.append(f"  %w{layer} = const() {{value = random({layer})}} : f32[256,256]")
        lines.append(f"  %p{layer} = linear(%a{layer}, %w{layer}) : f32[n,256]")
        lines.append(f"  %a{layer + 1} = tanh(%p{layer}) : f32[n,256]")
    return parse_graph("\n".join([*lines, f"  return %a{LAYERS}", "}"]))


@pytest.mark.parametrize("threads", [1, 2])
def test_a_run_ends_when_its_time_is_over(threads: int) -> None:
    """The error names the limit; later runs, with enough time or no limit, give equal numbers."""
    x = np.random.default_rng(0).standard_normal((4000, 256)).astype(np.float32)
    with leptonc.compile(deep(), threads=threads, isolated=False) as session:
        before = session.run({"a0": x})["y"]
        assert np.isfinite(before).all()
        with pytest.raises(LeptonError, match=r"longer than 0\.001 s") as error:
            session.run({"a0": x}, timeout=0.001)
        assert error.value.code == "E706"
        np.testing.assert_array_equal(session.run({"a0": x}, timeout=600)["y"], before)
        np.testing.assert_array_equal(session.run({"a0": x})["y"], before)
