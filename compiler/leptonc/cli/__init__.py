"""The command line: ``leptonc compile run check bench inspect optimize passes``."""

from leptonc.cli.main import main

__all__ = ["main"]
