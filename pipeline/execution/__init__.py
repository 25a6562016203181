"""Execution of a chain of stages in one process."""
