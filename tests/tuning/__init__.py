"""Tuning: what is measured, kept and taken."""
