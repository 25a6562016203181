"""A front end that sends simulated events."""
