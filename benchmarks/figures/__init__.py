"""Figures of the README and the docs: measured by commands, kept as JSON, written into pages."""
