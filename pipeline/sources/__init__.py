"""Where events come from. Entry-point group ``sluice.sources``."""
