"""Where all randomness of the data comes from: numbers that say what is being drawn.

Nothing here or above draws from a global generator, so any picture of any epoch can be made again, in any process
and in any order.
"""

from enum import IntEnum

import numpy as np


class Draw(IntEnum):
    """What is drawn. The purpose is part of the key, so that an order and a crop never share their numbers."""

    ORDER = 1
    AUGMENT = 2
    MIX = 3
    SCENE = 4
    MASK = 5
    SHIFT = 6
    CASE = 7
    CROWD = 8


def chance(purpose: Draw, *key: int) -> np.random.Generator:
    """A generator that depends on nothing but its purpose and its key (seed, epoch, index ...)."""
    return np.random.default_rng([int(purpose), *(number % 2**64 for number in key)])
