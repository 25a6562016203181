"""Meters in shared memory, their totals, the reference band."""
