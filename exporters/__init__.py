"""The offline half of Sluice: simulate, train, quantise, export, evaluate."""
