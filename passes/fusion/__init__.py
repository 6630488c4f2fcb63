"""Passes that recognise larger operations and gather operations into kernels."""
