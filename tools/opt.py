"""leptonc-opt: runs passes on textual IR, for tests and for looking."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TextIO

from leptonc.extensions import known_operators
from leptonc.ir.diagnostics import LeptonError
from leptonc.ir.text import parse_graph, print_graph
from leptonc.ir.verify import verify
from leptonc.passes.base import parse_pipeline
from leptonc.passes.manager import PassManager
from leptonc.passes.registry import Registry


def main(argv: list[str] | None = None, out: TextIO = sys.stdout) -> int:
    """Run the tool; the exit status is 1 for an error in the input."""
    parser = argparse.ArgumentParser("leptonc-opt", description=__doc__)
    parser.add_argument("file", type=Path)
    parser.add_argument(
        "-p", "--passes", default="", help="pipeline text, such as simplify,fold-constants"
    )
    parser.add_argument(
        "--locations", action="store_true", help="print where each operation came from"
    )
    parser.add_argument("--explain", action="store_true", help="say which rules nearly applied")
    parser.add_argument("--expect-errors", action="store_true", help="print errors and succeed")
    args = parser.parse_args(argv)
    rows = known_operators().by_name
    for part in args.file.read_text().split("// -----\n"):
        try:
            graph = parse_graph(part, str(args.file), rows=rows)
            verify(graph)
            context = PassManager(parse_pipeline(args.passes, Registry())).run(graph)
            out.write(print_graph(graph, locations=args.locations))
            if args.explain:
                for miss in context.misses:
                    out.write(f"// {miss.rule} at {miss.location}: {miss.reason}\n")
        except LeptonError as error:
            out.write(f"{error}\n")
            if not args.expect_errors:
                return 1
    return 0
