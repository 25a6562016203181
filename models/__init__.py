"""The model repository that ships: one folder a model, one folder a version."""
