"""Command-line tools for developing leptonc."""
