"""GPU kernels of wafers, with the names and arguments of `sluice.kernels.wafer`."""

from .image import normalise
from .input_link import unpack
from .output_link import quantise_pack
from .output_link_decode import unpack_latents

__all__ = ["normalise", "quantise_pack", "unpack", "unpack_latents"]
