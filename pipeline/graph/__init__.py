"""Graphs: stages and monitors joined by their columns; segments; shadow models."""
