"""How kernels are compiled: options, caches, building blocks for SIMD."""
