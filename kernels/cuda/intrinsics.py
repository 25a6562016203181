"""GPU instructions that Python lacks, as functions: for a GPU and for the simulator.

The two differ in nothing but these functions.
"""

from .launch import SIMULATED

if SIMULATED:
    from .intrinsics_simulated import (
        any_of_16,
        ballot,
        bits_of,
        bits_of_double,
        double_of,
        float_of,
        load4,
        lowest_bit,
        min_of_warp,
        nth_of_48,
        product,
        store4,
        sum_of_16,
        sum_of_warp,
        sync_warp,
    )
else:
    from .intrinsics_device import (
        any_of_16,
        ballot,
        bits_of,
        bits_of_double,
        double_of,
        float_of,
        load4,
        lowest_bit,
        min_of_warp,
        nth_of_48,
        product,
        store4,
        sum_of_16,
        sum_of_warp,
        sync_warp,
    )

__all__ = [
    "any_of_16",
    "ballot",
    "bits_of",
    "bits_of_double",
    "double_of",
    "float_of",
    "load4",
    "lowest_bit",
    "min_of_warp",
    "nth_of_48",
    "product",
    "store4",
    "sum_of_16",
    "sum_of_warp",
    "sync_warp",
]
