"""Numbers that look random and are the same for the same number: splitmix64."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Words = NDArray[np.uint64]

#: what splitmix64 adds from one number to the next
GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def mix(x: Words) -> Words:
    """Scramble 64 bits, one to one (numpy warns where scalars overflow: give arrays)."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))
