"""The books of one run: state, ledger, accounting, quarantine, number, begin-of-run, resume."""
