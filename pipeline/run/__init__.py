"""One run: its state, ledger, accounting, quarantine, number, begin-of-run record, resume."""
