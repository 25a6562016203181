"""Ingest's side of the distributed engine: dispatcher, worker pool, supervisor, liveness."""
