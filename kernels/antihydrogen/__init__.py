"""Kernels of the antihydrogen trackers: strips, vertices, hodoscope bars."""
