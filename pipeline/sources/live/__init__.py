"""Events that front ends send over ZeroMQ."""
