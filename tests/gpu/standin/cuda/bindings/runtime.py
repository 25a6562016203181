"""The stand-in under the name of the CUDA runtime."""

from sluice_standin.cudart import *  # noqa: F403
