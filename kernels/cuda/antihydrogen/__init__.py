"""GPU kernels of the antihydrogen trackers."""
