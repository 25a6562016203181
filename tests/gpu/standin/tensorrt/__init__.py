"""The stand-in under TensorRT's name."""

from sluice_standin.trt import *  # noqa: F403
from sluice_standin.trt import __version__ as __version__
