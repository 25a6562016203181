"""Models: manifest, repository, sessions of each runtime, TensorRT plans."""
