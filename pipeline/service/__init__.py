"""The daemon around runs, HTTP, Prometheus, the client."""
