"""Numerics shared by the online and the offline half: pure functions, arrays in, arrays out."""
