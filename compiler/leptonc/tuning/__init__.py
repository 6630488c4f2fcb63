"""Measuring a few decisions for each kernel inside its network, and keeping what was learned."""
