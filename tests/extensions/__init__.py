"""Operators from outside of leptonc."""
