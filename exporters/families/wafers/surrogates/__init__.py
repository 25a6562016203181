"""Surrogates of the Earth mover's distance."""
