"""Randomness by counters: a seed for every (run, epoch, sample) that no saved generator state is needed to repeat."""

_MASK = (1 << 64) - 1


def mix(*counters: int) -> int:
    """A seed of 63 bits from whole numbers; one changed counter gives an unrelated seed.

    Steele, Lea and Flood 2014, "Fast splittable pseudorandom number generators": the SplitMix64 finaliser, chained.

    >>> mix(7, 0, 1) == mix(7, 0, 1), mix(7, 0, 1) == mix(7, 1, 0)
    (True, False)
    """
    state = 0
    for counter in counters:
        state = (state + (counter & _MASK) + 0x9E3779B97F4A7C15) & _MASK
        state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
        state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & _MASK
        state ^= state >> 31
    return state >> 1
