"""Measurements of leptonc on real models, and their results."""
