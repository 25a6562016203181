"""Graph files as typed tables, durations, and the registry that finds components by name."""
