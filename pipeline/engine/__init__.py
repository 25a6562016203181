"""Engines: run a graph in one process or in several, with the same decisions."""
