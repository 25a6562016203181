"""Engines run a graph: inline in one process, or distributed over processes. Same decisions."""
