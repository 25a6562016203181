"""A graph built, every column joined and checked; segments; shadows."""
