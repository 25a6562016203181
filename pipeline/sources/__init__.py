"""Sources of events. Entry-point group ``sluice.sources``."""
