"""Measures of models that several families share."""
