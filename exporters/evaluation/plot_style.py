"""Figures in the style of the field."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import matplotlib.pyplot as plt
import mplhep
from matplotlib.axes import Axes


@contextmanager
def figure(
    path: Path, rows: int, columns: int, size: tuple[float, float], colours: Sequence[str] = ()
) -> Iterator[list[Axes]]:
    """Yield the axes of a figure, row by row, which is then written to `path`.

    Parameters
    ----------
    path
        A PNG file.
    rows, columns
        Grid of axes.
    size
        Width and height, inches.
    colours
        Colours of the lines, in turn; the style's by default.
    """
    with plt.style.context(mplhep.style.CMS), plt.rc_context({"font.size": 13, "figure.dpi": 60}):
        drawn, axes = plt.subplots(rows, columns, figsize=size, layout="constrained", squeeze=False)
        for axis in axes.flat if colours else ():
            axis.set_prop_cycle(color=colours)
        yield list(axes.flat)
        drawn.savefig(path)
        plt.close(drawn)
