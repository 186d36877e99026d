"""The budget of a run in epochs, and points in time within it."""


def in_epochs(point: float, epochs: float) -> float:
    """A point in time in epochs: `point` itself, or that fraction of the budget where it is below 1."""
    return point * epochs if point < 1 else point
