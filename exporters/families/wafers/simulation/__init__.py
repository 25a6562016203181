"""Simulated wafers and the showers in them."""
