"""Simulated jets: generator, detector, and files of them."""
