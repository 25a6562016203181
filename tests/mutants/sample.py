"""Which faults are planted: drawn with a seed, spread over the lines of an area."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from .edit import Edit, Source
from .operators import edits


@dataclass(frozen=True)
class Mutant:
    """One fault in one file.

    Parameters
    ----------
    file
        Path below the root.
    edit
        The fault.
    """

    file: str
    edit: Edit

    def key(self, source: Source) -> str:
        """Return what names this fault as long as the file is the same."""
        digest = sha256(source.text.encode()).hexdigest()[:16]
        return f"{digest}:{self.edit.start}-{self.edit.end}:{self.edit.operator}:{self.edit.new}"


def draw(root: Path, files: list[str], count: int, seed: int) -> list[Mutant]:
    """Return `count` faults on as many different lines, or fewer if there are not so many lines.

    A line is drawn first and one of its faults then, so that no kind of fault that fits often, and
    no long line, is drawn more than others. More of the same seed begins with the same faults.
    """
    generator = random.Random(f"{seed}")
    sources = {file: Source((root / file).read_text()) for file in files}
    lines: dict[tuple[str, int], list[Edit]] = {}
    for file, source in sources.items():
        for edit in edits(source):
            lines.setdefault((file, edit.line), []).append(edit)
    order = sorted(lines)
    generator.shuffle(order)
    drawn: list[Mutant] = []
    for file, line in order:
        if len(drawn) == count:
            break
        drawn += (Mutant(file, edit) for edit in _one(generator, sources[file], lines[file, line]))
    return drawn


def _one(generator: random.Random, source: Source, here: list[Edit]) -> Iterator[Edit]:
    """Yield the first fault in an order by chance that is Python; none if none is."""
    for edit in generator.sample(here, len(here)):
        try:
            compile(source.apply(edit), "mutated", "exec", dont_inherit=True)
        except SyntaxError:
            continue
        yield edit
        return
