"""Programs beside a run."""
