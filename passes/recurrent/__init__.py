"""Recurrent layers in what exporters take them apart into."""
