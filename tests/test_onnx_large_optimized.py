"""Models over 2 GB are optimised in memory that their largest weights bound, not their sum."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto, helper

WIDE, NARROW, LAYERS = 8192, 4096, 17
"""Each weight is 128 MiB, all of them 2.1 GiB: more than one file of ONNX's holds."""
LIMIT = 1_300_000_000
"""Bytes that the process may allocate; what it maps of files does not count."""

PROGRAM = """
import resource, sys
resource.setrlimit(resource.RLIMIT_DATA, (int(sys.argv[3]), int(sys.argv[3])))
from leptonc.cli.main import main
main(["optimize", sys.argv[1], "-o", sys.argv[2], "--json"])
"""


def _model(folder: Path) -> Path:
    """Layers whose scale can be folded into their weights; those are a file that is a hole."""
    size = 4 * WIDE * NARROW
    weights: list[TensorProto] = []
    nodes: list[NodeProto] = []
    value = "x"
    with (folder / "weights.bin").open("wb") as file:
        file.truncate(LAYERS * size)
        for layer in range(LAYERS):
            file.seek(layer * size)
            file.write(np.arange(layer, layer + 8, dtype=np.float32).tobytes())
            rows, columns = (WIDE, NARROW) if layer % 2 == 0 else (NARROW, WIDE)
            weight = TensorProto(name=f"w{layer}", data_type=TensorProto.FLOAT)
            weight.dims.extend([rows, columns])
            weight.data_location = TensorProto.EXTERNAL
            entries = {"location": "weights.bin", "offset": layer * size, "length": size}
            for key, entry in entries.items():
                weight.external_data.add(key=key, value=str(entry))
            weights.append(weight)
            nodes += [
                helper.make_node("MatMul", [value, f"w{layer}"], [f"p{layer}"]),
                helper.make_node("Mul", [f"p{layer}", "two"], [f"s{layer}"]),
                helper.make_node("Relu", [f"s{layer}"], [f"y{layer}"]),
            ]
            value = f"y{layer}"
    weights.append(helper.make_tensor("two", TensorProto.FLOAT, [], [2.0]))
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", WIDE])
    y = helper.make_tensor_value_info(value, TensorProto.FLOAT, ["n", None])
    graph = helper.make_graph(nodes, "large", [x], [y], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    path = folder / "large.onnx"
    path.write_bytes(model.SerializeToString())
    return path


def test_a_model_over_two_gigabytes_is_rewritten_in_bounded_memory(tmp_path: Path) -> None:
    """Every weight is another one afterwards, so all of them are computed and written."""
    source, output = _model(tmp_path), tmp_path / "better.onnx"
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(source), str(output), str(LIMIT)],
        capture_output=True, text=True, check=False, timeout=600,
        env={"PYTHONPATH": ":".join(filter(None, sys.path)), "OPENBLAS_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    assert json.loads(done.stdout)["nodes"] == {"before": 3 * LAYERS, "after": 2 * LAYERS}
    model = ModelProto.FromString(output.read_bytes())
    assert output.stat().st_size < 100_000
    large = [item for item in model.graph.initializer if item.external_data]
    assert len(large) == LAYERS
    data = {
        entry.value for item in large for entry in item.external_data if entry.key == "location"
    }
    (name,) = data
    assert (tmp_path / name).stat().st_size > 2**31
    weights = np.memmap(tmp_path / name, np.uint8, "r")
    for item in large:
        places = {entry.key: entry.value for entry in item.external_data}
        start = int(places["offset"])
        layer = int(item.name.removeprefix("w").partition("_")[0])
        first = weights[start : start + 32].view(np.float32)
        assert first.tolist() == [2.0 * number for number in range(layer, layer + 8)]
    (tmp_path / name).unlink()
