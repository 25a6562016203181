"""Which folders are packages: every one with an `__init__.py`, so that a new one needs no entry."""

from pathlib import Path

from setuptools import setup

#: Top-level folders that hold the subpackages of ``sluice``.
SUBPACKAGES = ("benchmarks", "exporters", "kernels", "models", "pipeline")

folders = sorted(file.parent for top in SUBPACKAGES for file in Path(top).rglob("__init__.py"))
setup(packages=["sluice", *(".".join(("sluice", *folder.parts)) for folder in folders)])
