"""Processes of the distributed engine other than ingest: workers, remote workers, sink."""
