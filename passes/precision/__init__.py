"""Passes that choose the element type that something is computed in."""
