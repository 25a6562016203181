"""The fork server: a process that has imported what a run needs and forks its workers."""
