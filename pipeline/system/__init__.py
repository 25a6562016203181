"""Services of the operating system: forked processes, scheduling, run directories, ``/proc``."""
