"""Exact Earth mover's distance."""

from .exact import MAX_CELLS, emd, emd_dual, emd_pairs, is_metric

__all__ = ["MAX_CELLS", "emd", "emd_dual", "emd_pairs", "is_metric"]
