"""Ingest in the distributed engine: dispatcher, worker pool, supervisor, liveness."""
