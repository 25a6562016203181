"""Simulated events, in files and in memory."""
