"""When an augmentation is applied: a fact of it, whatever the order of the flags."""

from enum import IntEnum


class Stage(IntEnum):
    """Pixels are uint8 before NORMALIZE and float after it."""

    REPEAT = 1  # more views of an image
    GEOMETRY = 2
    COLOR = 3
    NORMALIZE = 4
    ERASE = 5
    MIX = 6
    RESIZE = 7
    LABEL = 8
    # Here selections pick images of the batch, which is whole until then.
    SHARE = 9  # of several processes each goes on with its own part of the batch
    TEACH = 10
