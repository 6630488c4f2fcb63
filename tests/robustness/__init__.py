"""Hostile input: nothing crashes, hangs or leaves its folder."""
