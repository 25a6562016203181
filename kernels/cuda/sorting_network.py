"""Sorting network: comparisons that do not depend on the data, so that no threads diverge.

References
----------
K. E. Batcher, Sorting networks and their applications, AFIPS Spring Joint Comput. Conf. 32 (1968)
307; merge exchange is algorithm M of D. E. Knuth, The Art of Computer Programming 3, 5.2.2.
"""


def comparators(size: int) -> list[tuple[int, int]]:
    """Return pairs of positions, in order: exchange the two values where the first is the larger.

    Examples
    --------
    >>> comparators(3)
    [(0, 2), (0, 1), (1, 2)]
    >>> len(comparators(48))
    367
    """
    found = []
    widest = 1 << max((size - 1).bit_length() - 1, 0)
    step = widest
    while step > 0:
        reach, rest, apart = widest, 0, step
        while True:
            found += [(i, i + apart) for i in range(size - apart) if i & step == rest]
            if reach == step:
                break
            apart, reach, rest = reach - step, reach // 2, step
        step //= 2
    return found
