"""The stand-in under TensorRT's name; it brings a CUDA runtime along, as the real one does."""

import sys

from sluice_standin import cudart
from sluice_standin.trt import *  # noqa: F403
from sluice_standin.trt import __version__ as __version__

# numba has loaded the real bindings by now, where it simulates: they ask for more than we do.
sys.modules["cuda.bindings.runtime"] = cudart
