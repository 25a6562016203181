"""Which folders are packages: every one with an `__init__.py`, so that a new one needs no entry."""

from pathlib import Path

from setuptools import setup

ROOMS = ("benchmarks", "exporters", "kernels", "models", "pipeline")

folders = sorted(file.parent for room in ROOMS for file in Path(room).rglob("__init__.py"))
setup(packages=[".".join(("sluice", *folder.parts)) for folder in folders])
