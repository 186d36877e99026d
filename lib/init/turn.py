"""When an initialisation has its turn: a fact of it, whatever the order of the flags."""

from enum import IntEnum


class Turn(IntEnum):
    """What draws all weights comes first; the others then write over some of them."""

    DRAW = 1
    IDENTITY = 2
    DATA = 3
    ZERO = 4
