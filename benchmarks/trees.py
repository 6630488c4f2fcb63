"""Measures ensembles of 500 trees beside onnxruntime, for one row and for 1,000, taking turns.

Trees are random: full ones of six levels, as gradient boosting makes, and uneven ones of up to
fourteen levels, as random forests have. Rows that turns take differ, so that no branch is learnt.
"""

from __future__ import annotations

import importlib
import itertools
from collections.abc import Callable, Mapping
from typing import Any

import click
import numpy as np
import onnx
from numpy.typing import NDArray

import leptonc
from leptonc.tools.bench import take_turns
from tests.trees import ml_model, ml_node

Array = NDArray[Any]
Run = Callable[[Mapping[str, Array]], object]

FEATURES = 20
TREES = 500


def tree_nodes(rng: np.random.Generator, depth: int, *, full: bool) -> list[tuple[int, int]]:
    """The true and false children of each node of a random tree; a leaf has none: (-1, -1)."""
    nodes: list[tuple[int, int]] = [(-1, -1)]
    level = [0]
    for _ in range(depth):
        split = [at for at in level if full or at == 0 or rng.random() < 0.7]
        level.clear()
        for at in split:
            nodes[at] = len(nodes), len(nodes) + 1
            level += nodes[at]
            nodes += [(-1, -1), (-1, -1)]
    return nodes


def ensemble(depth: int, *, full: bool) -> onnx.ModelProto:
    """A regressor of random trees."""
    rng = np.random.default_rng(0)
    columns: dict[str, list[Any]] = {
        f"nodes_{key}": [] for key in ("treeids", "nodeids", "truenodeids", "falsenodeids", "modes")
    }
    leaves: dict[str, list[int]] = {"target_treeids": [], "target_nodeids": []}
    for tree in range(TREES):
        for at, (true, false) in enumerate(tree_nodes(rng, depth, full=full)):
            entry = (tree, at, max(true, 0), max(false, 0), "LEAF" if true < 0 else "BRANCH_LEQ")
            for column, item in zip(columns.values(), entry, strict=True):
                column.append(item)
            if true < 0:
                leaves["target_treeids"].append(tree)
                leaves["target_nodeids"].append(at)
    count, weights = len(columns["nodes_treeids"]), len(leaves["target_nodeids"])
    node = ml_node(
        "TreeEnsembleRegressor", ["y"], n_targets=1, **columns, **leaves,
        nodes_featureids=rng.integers(0, FEATURES, count).tolist(),
        nodes_values=rng.standard_normal(count).astype(np.float32).tolist(),
        target_ids=[0] * weights,
        target_weights=rng.standard_normal(weights).astype(np.float32).tolist(),
    )  # fmt: skip
    x = np.zeros((1, FEATURES), np.float32)
    return ml_model([node], x, ["y"], opset=3, types=[onnx.TensorProto.FLOAT])


def onnxruntime_of(model: onnx.ModelProto, threads: int) -> Run:
    """The peer with as many threads."""
    runtime: Any = importlib.import_module("onnxruntime")
    options = runtime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    session = runtime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return lambda feeds: session.run(None, feeds)


def fresh_rows(run: Run, rows: int) -> Run:
    """`run` on other rows each time."""
    rng = np.random.default_rng(1)
    many = [rng.standard_normal((rows, FEATURES)).astype(np.float32) for _ in range(64)]
    turn = itertools.cycle({"x": x} for x in many)
    return lambda _: run(next(turn))


@click.command()
@click.option("--seconds", default=3.0, help="For each line of the table.")
@click.option("--threads", multiple=True, type=int, default=(1, 2), help="Numbers of threads.")
def main(seconds: float, threads: tuple[int, ...]) -> None:
    """Measure 500 trees beside onnxruntime: the fastest calls, and how they compare."""
    click.echo("trees     threads   rows      leptonc  onnxruntime   ratio")
    for name, depth in (("full, 6", 6), ("uneven", 14)):
        model = ensemble(depth, full=depth == 6)
        for count in threads:
            session = leptonc.compile(model, threads=count)
            peer = onnxruntime_of(model, count)
            for rows in (1, 1000):
                runs = {"leptonc": session.run, "onnxruntime": peer}
                turns = {key: fresh_rows(run, rows) for key, run in runs.items()}
                times = take_turns(turns, {}, seconds)
                mine, theirs = (min(taken) * 1e6 for taken in times.values())
                head = f"{name:10}{count:7}{rows:7}"
                click.echo(f"{head}{mine:10.1f} us{theirs:10.1f} us{theirs / mine:8.2f}")


if __name__ == "__main__":
    main()
