"""A model over 2 GB, whose weights lie in a file of their own, is imported without reading them."""

from __future__ import annotations

import resource
from pathlib import Path

import numpy as np
from onnx import TensorProto, helper

from leptonc.onnx_import import import_model

ROWS, COLUMNS = 30_000, 25_000
"""3 GB of float32; the file has a hole where nothing was written and takes no space."""


def test_weights_over_two_gigabytes_are_mapped_not_read(tmp_path: Path) -> None:
    """The constant is a view of the file: memory does not grow, and its elements are the file's."""
    with (tmp_path / "weights.bin").open("wb") as file:
        file.truncate(4 * ROWS * COLUMNS)
        file.seek(4 * (ROWS * COLUMNS - 1))
        file.write(np.float32(7).tobytes())
    weight = TensorProto(
        name="w",
        data_type=TensorProto.FLOAT,
        dims=[ROWS, COLUMNS],
        data_location=TensorProto.EXTERNAL,
    )
    entry = weight.external_data.add()
    entry.key, entry.value = "location", "weights.bin"
    x, y = (
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", size])
        for name, size in (("x", ROWS), ("y", COLUMNS))
    )
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])], "big", [x], [y], [weight]
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    (tmp_path / "big.onnx").write_bytes(model.SerializeToString())
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    imported = import_model(tmp_path / "big.onnx")
    (blob,) = (op.result.blob for op in imported if op.name == "const")
    assert blob is not None
    assert blob.array.shape == (ROWS, COLUMNS)
    assert blob.array[-1, -1] == 7
    assert blob.array[0, 0] == 0
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000  # in KB
