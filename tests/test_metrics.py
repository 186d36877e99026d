"""Metrics other than accuracy: top-5, calibration error, temperature scaling, confusion matrix."""

import math

import pytest
import torch
from torch import Tensor

from lib.engine.metrics import (
    TrainAccuracy,
    best_temperature,
    beyond_accuracy,
    calibration_error,
    class_accuracy,
    confusion,
    nll,
    top_k,
)
from lib.report.plots.confusion import confusion_text


def sure(*confidences: float, K: int = 2) -> Tensor:
    """Logits of class 0 with these probabilities; the other classes have equal probabilities."""
    p = torch.tensor(confidences, dtype=torch.float64)[:, None]
    return torch.cat((p, ((1 - p) / (K - 1)).expand(-1, K - 1)), 1).log()


def test_a_prediction_in_training_is_right_if_no_class_of_its_target_is_likelier():
    accuracy, logits = TrainAccuracy(), torch.tensor([[2.0, 1, 0]] * 5)  # class 0
    targets = [[1.0, 0, 0], [0.0, 1, 0], [0.6, 0.4, 0], [0.4, 0.6, 0], [0.5, 0.5, 0]]  # the last is a tie
    accuracy.add(logits, torch.tensor(targets))
    assert accuracy.read() == (3, 5)


def noise(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def test_top_k_is_the_percentage_of_images_with_their_class_among_the_k_highest_logits():
    logits = torch.arange(10.0).expand(4, 10)  # class 9 first, class 0 last
    assert top_k(logits, torch.tensor([9, 5, 4, 0]), 5) == 50
    assert top_k(logits, torch.tensor([9, 5, 4, 0]), 1) == 25
    assert top_k(logits, torch.tensor([9, 5, 4, 0]), 10) == 100


def test_the_calibration_error_of_two_bins_by_hand():
    # Half of the four with confidence 0.7 are right, a gap of 20 points; for the one with 0.95 it is 5.
    logits, y = sure(0.7, 0.7, 0.7, 0.7, 0.95), torch.tensor([0, 0, 1, 1, 0])
    assert calibration_error(logits, y) == pytest.approx(0.8 * 20 + 0.2 * 5)
    # In a single bin 60 % are right and the mean confidence is 75 %.
    assert calibration_error(logits, y, bins=1) == pytest.approx(15)


def test_overconfidence_and_underconfidence_cancel_within_a_bin_only():
    logits, y = sure(0.62, 0.64), torch.tensor([0, 1])  # both in the tenth bin of 15, (0.6, 0.667]
    assert calibration_error(logits, y) == pytest.approx(abs(1 - 1.26) / 2 * 100)
    logits = sure(0.62, 0.68)
    assert calibration_error(logits, y) == pytest.approx((0.38 + 0.68) / 2 * 100)


def test_a_calibrated_network_has_no_calibration_error():
    assert calibration_error(sure(*[0.75] * 4, K=10), torch.tensor([0, 0, 0, 3])) == pytest.approx(
        0, abs=1e-9
    )


def test_the_calibration_error_of_many_images_is_that_of_a_loop_over_bins():
    logits, y = 3 * noise(500, 7), torch.arange(500) % 7
    p = torch.softmax(logits.double(), 1).numpy()
    confidence, right = p.max(1), p.argmax(1) == y.numpy()
    expected = 0.0
    for b in range(15):
        inside = (confidence > b / 15) & (confidence <= (b + 1) / 15)
        if inside.any():
            expected += inside.mean() * abs(right[inside].mean() - confidence[inside].mean())
    assert calibration_error(logits, y) == pytest.approx(100 * expected)


def test_the_best_temperature_of_equal_logits_has_a_closed_form():
    # Three of four are right, so the best confidence is 3/4: 4 / T = log 3.
    logits, y = torch.tensor([[4.0, 0.0]]).expand(4, 2), torch.tensor([0, 0, 0, 1])
    temperature = best_temperature(logits, y)
    assert temperature == pytest.approx(4 / math.log(3), rel=1e-6)
    assert nll(logits, y, temperature) == pytest.approx(-0.75 * math.log(0.75) - 0.25 * math.log(0.25))
    assert calibration_error(logits, y, temperature) == pytest.approx(0, abs=1e-4)


@pytest.mark.parametrize("temperature", [0.4, 1.0, 2.5])
def test_a_known_temperature_is_recovered(temperature):
    logits = 2 * noise(40_000, 5)
    y = torch.multinomial(logits.softmax(1), 1, generator=torch.Generator().manual_seed(1))[:, 0]
    found = best_temperature(logits * temperature, y)
    assert found == pytest.approx(temperature, rel=0.02)
    for other in (0.97 * found, 1.03 * found):
        assert nll(logits * temperature, y, found) < nll(logits * temperature, y, other)


def test_the_temperature_of_a_network_that_is_always_right_is_the_lower_bound():
    assert best_temperature(torch.eye(3), torch.arange(3), low=0.01) == pytest.approx(0.01)


def test_confusion_has_a_row_per_true_class_and_a_column_per_predicted_class():
    guesses, y = torch.tensor([0, 0, 1, 2, 2, 2]), torch.tensor([0, 1, 1, 2, 2, 0])
    counts = confusion(torch.eye(4)[guesses], y)
    assert counts.tolist() == [[1, 0, 1, 0], [1, 1, 0, 0], [0, 0, 2, 0], [0, 0, 0, 0]]
    accuracies = class_accuracy(counts).tolist()
    assert accuracies[:3] == [50, 50, 100] and math.isnan(accuracies[3])


def test_top_five_of_fewer_than_ten_classes_is_left_out():
    assert beyond_accuracy(noise(20, 9), torch.arange(20) % 9).keys() == {"ece"}
    assert beyond_accuracy(noise(20, 10), torch.arange(20) % 10).keys() == {"top5", "ece"}


def test_the_most_frequent_confusions_of_many_classes_are_listed_in_order():
    counts = torch.diag(torch.full((30,), 90))
    counts[4, 7], counts[2, 1] = 10, 30
    lines = confusion_text(counts, tuple(f"c{k}" for k in range(30))).splitlines()
    assert [line.split() for line in lines[1:]] == [
        ["c2,", "c1", "30", "25.00"],
        ["c4,", "c7", "10", "10.00"],
    ]
