"""Everything a wafer needs between the front end's link and the encoder, and behind it."""

from sluice.kernels.wafer_geometry import (
    ADC_PER_MIPT,
    ARRANGE_8X8,
    CELL_X,
    CELL_Y,
    CELLS,
    DISTANCE,
    GRID,
    LATENTS,
    MASK_8X8,
    REMAP_8X8,
    WORDS,
)
from sluice.kernels.wafer_image import NEGATIVE, NOT_FINITE, OK, normalise
from sluice.kernels.wafer_latent import SUM_BITS, packed_bits, packed_bytes, quantise_pack
from sluice.kernels.wafer_receive import unpack_latents
from sluice.kernels.wafer_words import encode_charge, pack_words, unpack

__all__ = [
    "ADC_PER_MIPT",
    "ARRANGE_8X8",
    "CELLS",
    "CELL_X",
    "CELL_Y",
    "DISTANCE",
    "GRID",
    "LATENTS",
    "MASK_8X8",
    "NEGATIVE",
    "NOT_FINITE",
    "OK",
    "REMAP_8X8",
    "SUM_BITS",
    "WORDS",
    "encode_charge",
    "normalise",
    "pack_words",
    "packed_bits",
    "packed_bytes",
    "quantise_pack",
    "unpack",
    "unpack_latents",
]
