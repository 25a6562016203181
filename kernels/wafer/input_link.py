"""The wafer's input link: twelve 32-bit words to 48 charges and back."""

import numpy as np
from numpy.typing import NDArray

from sluice.kernels.compiler.jit import device_function, input_array, kernel, output_array

_SATURATED = 127
_CEILING = np.float32(1 << 21)
_EXPONENT_BIAS = np.uint32((132 << 23) | (1 << 19))
_CODE_BIAS = 129 << 3


@device_function
def _decode_cell(code: np.uint32) -> np.float32:
    # A code (e, m) is already the top of a float32 pattern; e = 0 has no leading one, so it borrows
    # the pattern of e = 1 and gives the 64 back. No table, no branch: this vectorises.
    small = code < np.uint32(8)
    shifted = code + np.uint32(8) if small else code
    pattern = np.uint32((shifted << np.uint32(20)) + _EXPONENT_BIAS)
    charge: np.float32 = pattern.view(np.float32) - (np.float32(64) if small else np.float32(0))
    return charge


@device_function
def _encode_cell(charge: np.float32 | np.uint32) -> int:
    if charge >= _CEILING:
        return _SATURATED
    if not charge >= np.float32(8):
        return 0
    kept = int(np.int64(charge)) >> 3
    if kept < 8:
        return kept
    pattern = np.float32(kept).view(np.uint32)
    return int(np.int64(pattern >> np.uint32(20)) - _CODE_BIAS)


@kernel((input_array("u4", 2), output_array("f4", 2)))
def unpack(words: NDArray[np.uint32], charge: NDArray[np.float32]) -> None:
    """Decode the input words of N wafers into cell charges.

    The header nibble (bits 31..28) is ignored; cell 4r + j is bits 27-7j..21-7j of word r. A 7-bit
    code (exponent e, mantissa m) is 8m + 4 for e = 0, else ((16 + 2m + 1) << (e - 1)) << 2: the
    centre of its bin.

    Parameters
    ----------
    words : uint32 array, shape (N, 12)
    charge : float32 array, shape (N, 48)
        Output, transverse ADC counts.

    Raises
    ------
    ValueError
        If the shapes do not fit.

    References
    ----------
    ECON-T input format, high-density module, calibration 1.0 ("4E3M", float to fixed).
    """
    if words.shape[1] != 12 or charge.shape[1] != 48 or charge.shape[0] != words.shape[0]:
        raise ValueError("unpack: expected words (N, 12) and charge (N, 48)")
    # One flat loop over words is what the compiler turns into vectors; a loop over rows it unrolls.
    flat_words = words.reshape(words.size)
    flat_charge = charge.reshape(charge.size)
    for i in range(flat_words.size):
        word = flat_words[i]
        for j in range(4):
            code = (word >> np.uint32(21 - 7 * j)) & np.uint32(127)
            flat_charge[4 * i + j] = _decode_cell(code)


@kernel(
    (input_array("f4", 2), output_array("u1", 2)), (input_array("u4", 2), output_array("u1", 2))
)
def encode_charge(
    charge: NDArray[np.float32] | NDArray[np.uint32], code: NDArray[np.uint8]
) -> None:
    """Encode charges into 7-bit floating codes (4-bit exponent, 3-bit mantissa) by truncation.

    The three lowest bits are dropped, as the front end does. Negative numbers and NaN become 0;
    charges of 2**21 and more saturate at code 127.

    Parameters
    ----------
    charge : float32 or uint32 array, shape (N, 48)
        Transverse ADC counts.
    code : uint8 array, shape (N, 48)
        Output, 0 to 127.

    Raises
    ------
    ValueError
        If the shapes do not fit.
    """
    if charge.shape[1] != 48 or code.shape != charge.shape:
        raise ValueError("encode_charge: expected charge (N, 48) and code (N, 48)")
    for n in range(charge.shape[0]):
        for k in range(48):
            code[n, k] = _encode_cell(charge[n, k])


@kernel(
    (input_array("f4", 2), input_array("u1", 1), output_array("u4", 2)),
    (input_array("u4", 2), input_array("u1", 1), output_array("u4", 2)),
)
def pack_words(
    charge: NDArray[np.float32] | NDArray[np.uint32],
    header: NDArray[np.uint8],
    words: NDArray[np.uint32],
) -> None:
    """Encode charges and pack them into input words, as a detector front end does.

    Parameters
    ----------
    charge : float32 or uint32 array, shape (N, 48)
        Transverse ADC counts, encoded as by `encode_charge`.
    header : uint8 array, shape (N,)
        Header nibble: 0x9 for the orbit-synchronisation crossing, else 0xA. The upper four bits are
        ignored.
    words : uint32 array, shape (N, 12)
        Output.

    Raises
    ------
    ValueError
        If the shapes do not fit.
    """
    rows = charge.shape[0]
    if charge.shape[1] != 48 or header.shape[0] != rows or words.shape != (rows, 12):
        raise ValueError("pack_words: expected charge (N, 48), header (N,) and words (N, 12)")
    flat_charge, flat_words = charge.reshape(charge.size), words.reshape(words.size)
    for i in range(flat_words.size):
        cells = 0
        for j in range(4):
            cells = (cells << 7) | _encode_cell(flat_charge[4 * i + j])
        flat_words[i] = np.uint32(cells)
    for n in range(rows):
        for r in range(12):
            words[n, r] |= np.uint32(header[n]) << np.uint32(28)
