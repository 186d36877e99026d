"""When an augmentation is applied: a fact of it, whatever the order of the flags."""

from enum import IntEnum


class Stage(IntEnum):
    """Pixels are uint8 before NORMALIZE and float after it."""

    REPEAT = 1  # more views of an image
    GEOMETRY = 2
    COLOR = 3
    NORMALIZE = 4
    TONE = 5  # brightness and contrast of float pixels, before anything is erased to a fixed grey
    ERASE = 6
    MIX = 7
    RESIZE = 8
    LABEL = 9
    # Here selections pick images of the batch, which is whole until then.
    SHARE = 10  # of several processes each goes on with its own part of the batch
    TEACH = 11
