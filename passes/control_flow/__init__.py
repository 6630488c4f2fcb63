"""Choices and loops in the forms that targets run."""
