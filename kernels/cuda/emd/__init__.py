"""GPU kernels of the exact Earth mover's distance."""
