"""Passes about extents and about the integers that are computed from them."""
