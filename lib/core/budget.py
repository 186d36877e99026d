"""The budget of a run in epochs and in steps, and points in time within it."""

from dataclasses import dataclass


def in_epochs(point: float, epochs: float) -> float:
    """A point in time in epochs: `point` itself, or that fraction of the budget where it is below 1."""
    return point * epochs if point < 1 else point


def in_steps(epochs: float, steps_per_epoch: int) -> int:
    """The number of steps in a budget of epochs, at least 1."""
    return max(1, round(epochs * steps_per_epoch))


@dataclass(frozen=True)
class Progress:
    """The place of one step in the budget of a run."""

    step: int  # from 0
    total: int  # steps in the whole budget
    epoch: float  # at the start of the step
    epochs: float  # in the whole budget

    @property
    def spent(self) -> float:
        """The fraction of the budget that is spent after this step."""
        return (self.step + 1) / self.total
