"""Resolved operations compile, give what they mean, and end a run that cannot be."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import leptonc
from leptonc.ir.diagnostics import LeptonError
from leptonc.ir.interpret import interpret
from tests.passes.extents.test_resolve_extents import CASES, WRONG, Case

COMPILED = (
    "reduce_two", "reshape_more", "unsqueeze", "expand", "split", "range_float", "slice_1",
    "slice_2", "slice_3", "pad_wrap", "pad_reflect", "col2im", "resize_1", "resize_smaller",
)  # fmt: skip
REFUSED = ("elements", "broadcast", "declared", "k", "negative", "delta")


@pytest.fixture(scope="module")
def kernels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the cases have in common is built once."""
    return tmp_path_factory.mktemp("kernels")


def session(case: Case, kernels: Path) -> leptonc.Session:
    """The loaded artefact of a case."""
    return leptonc.compile(case.graph(), cache=kernels, isolated=False, threads=1)


@pytest.mark.parametrize("name", COMPILED)
def test_compiled_operations_mean_the_same(name: str, kernels: Path) -> None:
    """Against the reference meaning of the operation, which reads the data directly."""
    case = CASES[name]
    found = session(case, kernels).run(case.data())
    for key, array in interpret(case.graph(), case.data()).items():
        assert found[key].dtype == array.dtype
        np.testing.assert_allclose(found[key], array, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_ends_the_run_and_not_the_session(name: str, kernels: Path) -> None:
    """The error says which size; the session goes on to work."""
    case = WRONG[name]
    loaded = session(case, kernels)
    for _ in range(2):
        with pytest.raises(LeptonError, match=r"size \d is .*: .* cannot be met") as error:
            loaded.run(case.data())
        assert error.value.code == "E707"
