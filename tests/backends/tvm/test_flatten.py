# pyright: standard
"""Kernels read and write flat buffers, at the same places as before."""

from __future__ import annotations

import numpy as np
import tvm
import tvm_ffi
from tvm import tirx
from tvm.ir import TensorLoad
from tvm.tirx.script import builder as T  # noqa: N812

from leptonc.backends.cpu import emit
from leptonc.backends.tvm.flatten import Flatten
from tests.backends.cpu.kernels import Kernel

ROWS, COLUMNS, LANES = 3, 5, 4


def turned():
    """Copies columns x rows x lanes into rows x columns x lanes, through memory of both shapes."""
    n = tirx.Var("n", "int64")

    def body(x, out):
        half = emit.workspace((COLUMNS, 2, LANES))
        seen = emit.view(half, (COLUMNS, 2 * LANES))
        with emit.serial(n) as row, emit.serial(COLUMNS) as column:
            at = emit.let(column)
            emit.prefetch(x, [at, row, 0])
            emit.store(half, emit.load(x, [at, row, 0], LANES), [at, 1, 0], LANES)
            with emit.vectorized(LANES) as lane:
                T.buffer_store(out, emit.load(seen, [at, LANES + lane]), [row, at, lane])

    return emit.function(
        "main",
        [("x", (COLUMNS, n, LANES), "float32"), ("out", (n, COLUMNS, LANES), "float32")],
        body,
    )


def buffers(function):
    """All buffers that are read, written or made."""
    found = []
    for kind, of in (
        (TensorLoad, lambda node: node.source),
        (tirx.BufferStore, lambda node: node.buffer),
        (tirx.AllocBuffer, lambda node: node.buffer),
        (tirx.DeclBuffer, lambda node: node.buffer),
    ):
        tvm_ffi.structural_walk(function.body, (kind, lambda node, of=of: found.append(of(node))))
    return found


def test_all_buffers_are_flat():
    """Parameters keep their shapes, which the callers of kernels are held to."""
    flat = Flatten()(tvm.IRModule({"main": turned()}))["main"]
    assert {len(buffer.shape) for buffer in buffers(flat)} == {1}
    assert [len(parameter.shape) for parameter in flat.params] == [3, 3]


def test_values_are_where_they_were():
    x = np.arange(COLUMNS * ROWS * LANES, dtype=np.float32).reshape(COLUMNS, ROWS, LANES)
    got = Kernel(turned())([x], (ROWS, COLUMNS, LANES))
    np.testing.assert_array_equal(got, x.transpose(1, 0, 2))
