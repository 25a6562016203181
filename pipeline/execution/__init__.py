"""A chain of stages in one process."""
