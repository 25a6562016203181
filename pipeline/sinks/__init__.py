"""Sinks: destinations of kept events. Entry-point group ``sluice.sinks``."""
