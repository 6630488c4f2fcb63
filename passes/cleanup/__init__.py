"""Passes that make a graph smaller without changing a bit of its results."""
