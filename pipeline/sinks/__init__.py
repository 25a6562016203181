"""Where kept events go. Entry-point group ``sluice.sinks``."""
