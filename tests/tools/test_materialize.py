"""Models stored without weights get the same weights for the same seed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper

from leptonc.tools.materialize import STATISTICS, materialize, write_materialized

TOPOLOGY = Path(__file__).parents[1] / "data" / "topologies" / "llama_tiny.onnx"


def arrays(model: onnx.ModelProto) -> dict[str, np.ndarray]:
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}


def test_weights_have_the_stated_statistics_and_depend_on_the_seed_alone() -> None:
    first, again, other = arrays(materialize(TOPOLOGY)), arrays(materialize(TOPOLOGY)), None
    stripped = onnx.ModelProto.FromString(TOPOLOGY.read_bytes())
    stated = {
        tensor.name: tuple(map(float, found.groups()))
        for tensor in stripped.graph.initializer
        if (found := STATISTICS.fullmatch(tensor.doc_string))
    }
    assert stated
    for name, (mean, deviation) in stated.items():
        assert abs(first[name].mean() - mean) < 5 * deviation / first[name].size ** 0.5 + 1e-9
        assert abs(first[name].std() - deviation) < 0.1 * deviation + 1e-9
        np.testing.assert_array_equal(first[name], again[name])
    other = arrays(materialize(TOPOLOGY, seed=1))
    assert any((other[name] != first[name]).any() for name in stated)


def test_what_was_stored_stays_as_it_was() -> None:
    filled = materialize(TOPOLOGY)
    stripped = onnx.ModelProto.FromString(TOPOLOGY.read_bytes())
    kept = [t.name for t in stripped.graph.initializer if not STATISTICS.fullmatch(t.doc_string)]
    before = {t.name: t for t in stripped.graph.initializer}
    after = {t.name: t for t in filled.graph.initializer}
    assert kept
    assert all(before[name] == after[name] for name in kept)
    assert filled.graph.node == stripped.graph.node


def test_the_written_model_is_valid(tmp_path: Path) -> None:
    target = tmp_path / "folder" / "filled.onnx"
    write_materialized(TOPOLOGY, target)
    onnx.checker.check_model(  # pyright: ignore[reportUnknownMemberType]
        target, full_check=True
    )
    assert [path.name for path in target.parent.iterdir()] == ["filled.onnx"]
