"""Exact Earth mover's distance."""

from .exact import MOST_CELLS, emd, emd_dual, emd_pairs, is_metric

__all__ = ["MOST_CELLS", "emd", "emd_dual", "emd_pairs", "is_metric"]
