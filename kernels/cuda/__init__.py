"""The CPU's kernels once more for NVIDIA GPUs: same names, same arguments, plus a stream.

Arrays are device arrays: anything with `__cuda_array_interface__`, C-contiguous, at an address that
is a multiple of 16. Under `NUMBA_ENABLE_CUDASIM=1` numba's simulator runs the kernels on the CPU,
and NumPy arrays are device arrays. A call puts a kernel into a stream and returns: it neither
waits nor returns a value of the data. Errors of shape and dtype are raised as by the CPU's kernels;
errors and counts of the data are in an output that the docstring names.

A kernel is compiled at its first call, for the GPU at hand. Importing a module of this package
imports `numba.cuda`; importing this package does not.
"""
