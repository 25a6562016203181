"""The online half of Sluice: sources, stages, backends, engines, ledger and metrics."""
