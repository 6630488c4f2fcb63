"""Sizes that data decides: computed beside the graph and bound by `extents`."""
