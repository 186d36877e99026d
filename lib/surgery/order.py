"""When a surgery is done: a fact of it, whatever the order of the flags."""

from enum import IntEnum


class Order(IntEnum):
    """Modules are replaced first, because what is grafted onto a module would be lost with it."""

    WEIGHTS = 1
    NORMS = 2
    SCALES = 3
    STRIDES = 4
    BRANCHES = 5
    DROPS = 6  # behind all else that stands at the end of a branch
    HEAD = 7
