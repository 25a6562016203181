"""CUDA runtime, NVML, shared libraries, copies that overlap with compute."""
