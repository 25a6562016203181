"""Which faults are planted: drawn with a seed, spread over the lines of an area."""

from __future__ import annotations

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
    no long line, is drawn more often than others. More of the same seed begins with the same
    faults, and a changed line changes the order of no other.
    """
    lines: dict[tuple[str, int], list[Edit]] = {}
    sources = {file: Source((root / file).read_text()) for file in files}
    for file, source in sources.items():
        for edit in edits(source):
            lines.setdefault((file, edit.line), []).append(edit)
    order = sorted(lines, key=lambda at: _number(seed, at[0], *sources[at[0]].place(at[1])))
    drawn: list[Mutant] = []
    for file, line in order:
        if len(drawn) == count:
            break
        here = sorted(lines[file, line], key=lambda edit: _number(seed, edit.operator, edit.new))
        drawn += (Mutant(file, edit) for edit in _first_python(sources[file], here))
    return drawn


def _number(seed: int, *parts: object) -> str:
    """Return a number by chance, always the same for the same seed and parts."""
    return sha256(repr((seed, *parts)).encode()).hexdigest()


def _first_python(source: Source, here: list[Edit]) -> list[Edit]:
    """Return the first fault that is Python; none if none is."""
    for edit in here:
        try:
            compile(source.apply(edit), "mutated", "exec", dont_inherit=True)
        except SyntaxError:
            continue
        return [edit]
    return []
