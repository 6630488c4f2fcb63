"""`leptonc optimize` beside the other tools that rewrite ONNX models."""
