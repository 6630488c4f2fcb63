# pyright: standard
"""Reductions tiled for registers: which ones are, and what comes out."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import tvm
from tvm import s_tir, te

from leptonc.backends.cpu.target import detect, tvm_target
from leptonc.backends.tvm.schedule import schedule


def product(rows: int, depth: int, columns: int, dtype: str = "float32") -> tvm.tirx.PrimFunc:
    """A matrix product as tensor expressions."""
    a, b = te.placeholder((rows, depth), dtype), te.placeholder((depth, columns), dtype)
    k = te.reduce_axis((0, depth))
    c: Any = te.compute((rows, columns), lambda i, j: te.sum(a[i, k] * b[k, j], axis=k))
    return te.create_prim_func([a, b, c])


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("dtype", ["float32", "float64", "int32"])
@pytest.mark.parametrize(
    "shape", [(24, 33, 64), (1, 5, 16), (7, 65, 48), (64, 64, 33), (130, 70, 96)]
)
def test_products(shape: tuple[int, int, int], dtype: str, threads: int) -> None:
    cpu = dataclasses.replace(detect(), threads=threads)
    function = schedule(product(*shape, dtype), cpu)
    library = tvm.compile(tvm.IRModule({"main": function}), target=tvm_target(cpu))
    rng = np.random.default_rng(0)
    a = rng.integers(-9, 9, shape[:2]).astype(dtype)
    b = rng.integers(-9, 9, shape[1:]).astype(dtype)
    tensors = [tvm.runtime.tensor(x) for x in (a, b, np.full((shape[0], shape[2]), 77, dtype))]
    library["main"](*tensors)
    np.testing.assert_array_equal(tensors[2].numpy(), a @ b)


def test_only_whole_vectors_are_tiled() -> None:
    def copies(columns: int) -> bool:
        function = schedule(product(24, 33, columns), detect())
        sch = s_tir.Schedule(tvm.IRModule({"main": function}))
        return len(sch.get_child_blocks(sch.get_sblock("root"))) > 2

    assert copies(64)
    assert not copies(63)
