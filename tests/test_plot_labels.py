"""Labels of plots: where they are placed, and how long names are wrapped."""

from itertools import pairwise

import numpy as np
import pytest
from scipy.optimize import minimize

from lib.report.plots.labels import spread
from lib.report.style import folded, wrapped

NAME = "knowledge_distillation_of_a_wide_teacher+label_smoothing+exponential_moving_average"


def test_labels_are_moved_as_little_as_possible():
    # Labels that do not overlap stay; two in one place move by the same amount; at an edge they move inside.
    assert spread([0.2, 0.8], [0.1, 0.1]) == pytest.approx([0.2, 0.8])
    assert spread([0.5, 0.5, 0.9], [0.1, 0.1, 0.1]) == pytest.approx([0.45, 0.55, 0.9])
    assert spread([1.0, 0.99], [0.2, 0.2]) == pytest.approx([0.9, 0.7])
    assert spread([], []) == []


def test_label_places_are_the_least_squares_solution_without_overlap():
    wanted, heights = [0.3, 0.32, 0.35, 0.7, 0.71], [0.1, 0.2, 0.05, 0.1, 0.1]
    gaps = [(a + b) / 2 for a, b in pairwise(heights)]
    apart = {"type": "ineq", "fun": lambda y: np.diff(y) - gaps}
    best = minimize(lambda y: ((y - wanted) ** 2).sum(), np.arange(5.0), constraints=apart, tol=1e-12)
    assert spread(wanted, heights) == pytest.approx(best.x, abs=1e-4)


def test_names_are_wrapped_after_joining_characters_without_losing_text():
    assert wrapped("label_smoothing", 20) == "label_smoothing"
    for width in range(1, 90):
        assert wrapped(NAME, width).replace("\n", "") == NAME
    assert max(map(len, wrapped(NAME, 30).split("\n"))) <= 30
    assert wrapped("lr=0.05", 4) == "lr=\n0.05"
    assert folded("none, random-erasing", 8) == "none,\nrandom-erasing"
