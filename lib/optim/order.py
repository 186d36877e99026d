"""Where a wrapper stands among others: a fact of the wrapper, not of the order of the flags."""

from enum import IntEnum


class Order(IntEnum):
    """From the optimizer outwards: an outer wrapper decides how often the inner ones step, and with what."""

    CLIP = 0  # bounds the gradient that the optimizer gets, hence after all that changes it
    CENTRE = 1  # changes the gradient, once a step
    CLIMB = 2  # calls the closure, and decides at which weights the gradient is taken
    SLOW = 3  # moves the weights after the step
