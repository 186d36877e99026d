"""When an augmentation is applied: a fact of it, whatever the order of the flags."""

from enum import IntEnum


class Stage(IntEnum):
    """Pixels are uint8 before NORMALIZE and float after it."""

    GEOMETRY = 1
    COLOR = 2
    NORMALIZE = 3
    ERASE = 4
    MIX = 5
    LABEL = 6
    TEACH = 7
