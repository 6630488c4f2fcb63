"""leptonc: compiles ONNX models into artefacts that run."""

__version__ = "0.1.0"
