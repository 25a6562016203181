"""Checks of a machine: requirements of runs that are met or missing."""
