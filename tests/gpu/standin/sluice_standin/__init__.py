"""A stand-in for TensorRT and the CUDA runtime, for machines without a GPU."""
