"""Holds the optimizer to its word on real models; `python -m tests.models.proof WHAT` for all.

`numbers` checks each pass against its contract, and roundings against float64; `orders` runs the
passes of -O1 in random orders; `settled` runs the pipeline twice; `digests` prints fingerprints of
what is made, to compare with another process.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
from collections.abc import Callable, Sequence
from functools import lru_cache
from random import Random

from leptonc.ir.diagnostics import DiagnosticError
from leptonc.ir.graph import Graph
from leptonc.ir.interpret import interpret
from leptonc.ir.text import print_graph
from leptonc.onnx_export import export_model
from leptonc.onnx_import import import_model
from leptonc.passes.base import parse_pipeline
from leptonc.passes.check_numbers import CheckNumbers
from leptonc.passes.clone import clone_graph
from leptonc.passes.contract import REASSOCIATES, lossy
from leptonc.passes.manager import PassManager
from leptonc.passes.observers import VerifyEach
from leptonc.passes.registry import Registry
from leptonc.pipelines import OPTIMIZE
from tests.models.zoo import MODELS

ALLOWED = lossy(rtol=1e-2, atol=2e-3)
"""How far the outputs of all passes together may be off."""


@lru_cache(maxsize=1)
def _imported(name: str) -> Graph:
    return import_model(MODELS[name].path())


def optimized(name: str, pipeline: str = OPTIMIZE[2]) -> Graph:
    """A model after a pipeline."""
    graph = clone_graph(_imported(name))
    PassManager(parse_pipeline(pipeline, Registry([])), [VerifyEach()]).run(graph)
    return graph


def numbers(name: str) -> str:
    """What a pass of the pipeline does to a model that its contract forbids; empty for nothing."""
    graph = clone_graph(_imported(name))
    observers = [VerifyEach(), CheckNumbers([MODELS[name].feeds()])]
    try:
        PassManager(parse_pipeline(OPTIMIZE[2], Registry([])), observers).run(graph)
    except DiagnosticError as error:
        return str(error)
    return ""


def orders(name: str, count: int = 20) -> str:
    """The first of `count` random orders of the passes of -O1 that changes a model's numbers."""
    feeds, random = MODELS[name].feeds(), Random(name)
    want = interpret(_imported(name), feeds)
    seen: set[bytes] = set()
    for _ in range(count):
        passes = OPTIMIZE[1].split(",")
        random.shuffle(passes)
        try:
            graph = optimized(name, ",".join(passes))
            digest = hashlib.sha256(print_graph(graph).encode()).digest()
            if digest in seen:
                continue
            seen.add(digest)
            got = interpret(graph, feeds)
        except DiagnosticError as error:
            return f"{','.join(passes)}: {error}"
        for output, expected in want.items():
            worst = ALLOWED.worst(got[output], expected)
            exact = expected.dtype.kind in "iub"
            worst = worst if exact else min(worst, REASSOCIATES.worst(got[output], expected))
            if not worst <= 1:
                return f"{','.join(passes)}: {output} is off by {worst:.3g} times what is allowed"
    return ""


def settled(name: str) -> str:
    """The rules that a second run of the pipeline applies; empty for none."""
    graph = optimized(name)
    version = graph.version
    context = PassManager(parse_pipeline(OPTIMIZE[2], Registry([]))).run(graph)
    if graph.version == version:
        return ""
    return ", ".join(sorted({f"{each.step}: {each.rule}" for each in context.applied}))


def digests(name: str) -> str:
    """Fingerprints of the optimised graph and of its ONNX file."""
    graph = optimized(name)
    text = print_graph(graph, locations=True)
    data = export_model(graph).SerializeToString()
    return " ".join(hashlib.sha256(part).hexdigest()[:16] for part in (text.encode(), data))


PROOFS: dict[str, Callable[[str], str]] = {
    "numbers": numbers, "orders": orders, "settled": settled, "digests": digests,
}  # fmt: skip


def main(argv: Sequence[str] | None = None) -> int:
    """Print what is found for each model; the exit status is 1 where something is wrong."""
    parser = argparse.ArgumentParser("proof", description=__doc__)
    parser.add_argument("what", choices=sorted(PROOFS))
    parser.add_argument("models", nargs="*", default=list(MODELS))
    arguments = parser.parse_args(argv)
    wrong = 0
    for name in arguments.models:
        found = PROOFS[arguments.what](name)
        wrong += bool(found)
        sys.stdout.write(f"{name}: {found or 'fine'}\n")
        sys.stdout.flush()
    if arguments.what != "digests":
        count = len(arguments.models)
        sys.stdout.write(f"{arguments.what}: {count - wrong} of {count} models are fine\n")
    return 1 if wrong and arguments.what != "digests" else 0


if __name__ == "__main__":
    sys.exit(main())
