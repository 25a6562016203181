"""A live run under faults injected at random from a seed: ``python -m tests.soak --help``."""
