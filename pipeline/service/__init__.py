"""The daemon that executes runs, HTTP control, Prometheus metrics, and the client."""
