"""Tools around runs: tuning, emulation, validation, summaries."""
