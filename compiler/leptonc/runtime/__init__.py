"""Runs compiled artefacts; knows neither the compiler, nor ONNX, nor passes."""

from leptonc.runtime.session import Report, Session, Signature, load

__all__ = ["Report", "Session", "Signature", "load"]
