"""The command ``sluice``."""

from .main import main

__all__ = ["main"]
