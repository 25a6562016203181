"""Everything a wafer needs on a GPU: the twin of `sluice.kernels.wafer`."""

from sluice.kernels.cuda.wafer_image import normalise
from sluice.kernels.cuda.wafer_latent import quantise_pack
from sluice.kernels.cuda.wafer_receive import unpack_latents
from sluice.kernels.cuda.wafer_words import unpack

__all__ = ["normalise", "quantise_pack", "unpack", "unpack_latents"]
