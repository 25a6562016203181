"""What the operating system gives: forked processes, scheduling policy, run folders, ``/proc``."""
