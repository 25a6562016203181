"""Meters in shared memory, their totals over the workers, and reference bands."""
