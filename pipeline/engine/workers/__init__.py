"""The children's side of the distributed engine: compute, sink, remote workers, shared memory."""
