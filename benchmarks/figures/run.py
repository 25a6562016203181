"""Write the figures of the README and the docs: ``run.py [--measure [NAME ...]]``.

Each page has blocks between ``<!-- figures: NAME -->`` and ``<!-- end -->``, made of the results in
`docs/figures`; ``--measure`` makes these anew first, all or some.
"""

from __future__ import annotations

import argparse
import re
import sys
from functools import partial
from pathlib import Path

from sluice.benchmarks.figures.blocks import BLOCKS, Read
from sluice.benchmarks.figures.results import COMMANDS, measure, read

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "docs" / "figures"
_BLOCK = re.compile(r"<!-- figures: (\S+) -->\n.*?<!-- end -->", re.DOTALL)


def pages() -> list[Path]:
    """Return the README and all pages of the docs."""
    return [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def render(text: str, stored: Read) -> str:
    """Return a page with its blocks made of the stored results."""

    def block(found: re.Match[str]) -> str:
        name = found[1]
        return f"<!-- figures: {name} -->\n{BLOCKS[name](stored)}\n<!-- end -->"

    return _BLOCK.sub(block, text)


def main() -> None:
    """Measure what is asked for, then write all pages."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--measure", nargs="*", choices=list(COMMANDS), metavar="NAME")
    asked = parser.parse_args().measure
    for name in () if asked is None else asked or COMMANDS:
        measure(name, Path(sys.executable).with_name("sluice"), RESULTS)
    for page in pages():
        text = page.read_text(encoding="utf-8")
        page.write_text(render(text, partial(read, folder=RESULTS)), encoding="utf-8")


if __name__ == "__main__":
    main()
