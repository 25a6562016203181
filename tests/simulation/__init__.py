"""Simulation of a run in virtual time: the real engine, sink and workers over a model network."""
