"""Kernels of wafers: input link, image for the encoder, output link, classical codecs, geometry."""

from .geometry import (
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
from .image import NEGATIVE, NOT_FINITE, OK, normalise
from .input_link import encode_charge, pack_words, unpack
from .output_link import SUM_BITS, packed_bits, packed_bytes, quantise_pack
from .output_link_decode import unpack_latents

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
