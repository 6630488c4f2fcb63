"""The textual form: what `print_graph` writes, `parse_graph` reads back to an equal graph."""

from __future__ import annotations

from leptonc.ir.text_parse import ParseError, parse_graph
from leptonc.ir.text_print import print_graph, print_op, value_names

__all__ = ["ParseError", "parse_graph", "print_graph", "print_op", "value_names"]
