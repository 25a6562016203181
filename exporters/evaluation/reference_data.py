"""Folders of measured data and of studies' archives."""

from __future__ import annotations

import os
from pathlib import Path

from sluice.pipeline.core.errors import ConfigError
from sluice.pipeline.inference.repository import repositories

_CHECKOUT = Path(__file__).resolve().parents[2]


def folder() -> Path:
    """Return the folder of measured data: ``SLUICE_DATA``, or the one beside the project.

    The folder may be missing.
    """
    return Path(os.environ.get("SLUICE_DATA", _CHECKOUT.parent / "shared" / "data"))


def find_study(family: str) -> Path:
    """Return the folder with a family's study, which `sluice evaluate` reads.

    The search goes through ``SLUICE_STUDIES``, in ``studies`` beside each model repository, and in
    the checkout.

    Raises
    ------
    ConfigError
        If it is in none of them: it is not part of an installation.
    """
    named = os.environ.get("SLUICE_STUDIES")
    beside = [root.parent / "studies" for root in repositories()]
    places = [Path(named)] if named else [*beside, _CHECKOUT / "studies"]
    for place in places:
        if (place / family).is_dir():
            return place / family
    raise ConfigError(
        f"{family}: no study in {', '.join(str(place) for place in places)}",
        hint="set SLUICE_STUDIES to the folder `studies` of a checkout, or make it: "
        f"`sluice train {family}`, then `sluice export {family}`",
    )


def study_beside(models: Path, family: str) -> Path:
    """Return the folder to which an export into a model repository writes the family's study."""
    return Path(os.environ.get("SLUICE_STUDIES", models.parent / "studies")) / family
