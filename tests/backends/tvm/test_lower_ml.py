"""Lowered rows of classical machine learning against their meaning."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import leptonc
from leptonc.ir.interpret import interpret
from leptonc.onnx_import import import_model
from tests.backends.tvm.kernel_of_row import Case, check_kernel, check_kernels
from tests.ir.ops.single import check_refusal
from tests.trees import elements, ensemble_node, ml_model, random_ensemble

RNG = np.random.default_rng(4)


def keys(dtype: Any, count: int) -> Any:
    """Keys that ascend, with gaps."""
    return np.cumsum(RNG.integers(1, 4, count)).astype(dtype) - dtype(7)


def test_lookups() -> None:
    cases: list[Case] = []
    for dtype, count in ((np.int64, 1), (np.int32, 7), (np.float32, 8), (np.float64, 100)):
        known = keys(dtype, count)
        around = np.arange(-12, 240).astype(dtype).reshape(6, 42)
        cases.append(Case("lookup", [around, known]))
    cases.append(Case("lookup", [np.array(3, np.int64), keys(np.int64, 9)]))
    cases.append(Case("lookup", [np.zeros((2, 0), np.int64), keys(np.int64, 9)]))
    odd = np.array([np.nan, np.inf, -np.inf, -0.0, 1.5], np.float32)
    cases.append(Case("lookup", [odd, np.array([-np.inf, 0, np.inf], np.float32)]))
    found = check_kernels(cases)
    assert found[-1][0].tolist() == [3, 2, 0, 1, 3]


def test_keys_have_to_ascend() -> None:
    wrong = np.array([1, 3, 2])
    check_refusal("lookup", ["i64[n]", wrong], {}, "E108", "should ascend")
    check_refusal("lookup", ["i32[n]", wrong], {}, "E101", "i32 and i64")


@pytest.mark.parametrize(("classes", "dtype"), [(2, np.float32), (3, np.float64), (9, np.float32)])
def test_coupled_probabilities(classes: int, dtype: Any) -> None:
    pairs = RNG.uniform(1e-7, 1 - 1e-7, (33, classes * (classes - 1) // 2)).astype(dtype)
    pairs[0], pairs[1] = 1e-7, 0.5
    sizes: Any = {0: ["n", pairs.shape[1]]}
    check_kernel(
        "coupled_probabilities", [pairs], {"classes": classes}, [pairs[:1]], [pairs[:0]],
        shapes=sizes, tolerance=2e-4,
    )  # fmt: skip


def test_threads_share_the_rows_of_trees() -> None:
    made = [random_ensemble(RNG, 12, 4, targets=3), random_ensemble(RNG, 4, 13)]
    x = elements(RNG, 700, 4, np.float32)
    nodes = [ensemble_node(one, np.float32, "x", f"y{at}") for at, one in enumerate(made)]
    model = ml_model(nodes, x, ["y0", "y1"])
    graph = import_model(model)
    with leptonc.compile(model, threads=2, isolated=False) as session:
        for rows in (1, 65, 700):
            expected = interpret(graph, {"x": x[:rows]})
            for name, found in session.run({"x": x[:rows]}).items():
                np.testing.assert_allclose(found, expected[name], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"x": "f32[n]"}, "rank 2"),
        ({"x": "f32[n,2]"}, "3 features"),
        ({"nodes": "i64[8,4,2]"}, "nodes are i64"),
        ({"nodes": "i32[8,3,2]", "values": "f32[8,3]"}, "power of two"),
        ({"nodes": "i32[7,4,2]", "values": "f32[7,4]"}, "multiple of 8"),
        ({"values": "f32[8,4,2]"}, "values are"),
        ({"targets": "i32[7]"}, "targets are"),
    ],
)
def test_trees_that_do_not_fit_are_refused(changes: dict[str, str], text: str) -> None:
    types = {
        "x": "f32[n,5]", "nodes": "i32[8,4,2]", "values": "f32[8,4]", "base": "f32[1]",
        "targets": "i32[8]",
    }  # fmt: skip
    check_refusal(
        "perfect_trees", list({**types, **changes}.values()), {"features": 3}, "E103", text
    )
