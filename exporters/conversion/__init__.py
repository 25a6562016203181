"""Trained nets as ONNX, layers files and TensorRT plans, with their variants."""
