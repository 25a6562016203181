"""A process that has imported what a run needs and forks workers from itself."""
