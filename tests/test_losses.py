"""Losses against closed forms, torch, torchvision, and each other where their formulas meet."""

import json
import math
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.ops import sigmoid_focal_loss

import train
from lib.core.batch import Batch
from lib.core.registry import augmentations, losses
from lib.core.rng import Rng

B, K = 16, 5
HARD = torch.eye(K)[torch.arange(B) % K]
SOFT = Rng(0, "targets").uniform(B, K, like=torch.empty(0)).mul(3).softmax(1)


def logits_of(*shape: int, scale: float = 4.0) -> Tensor:
    return (Rng(1, "logits").uniform(*shape, like=torch.empty(0)) - 0.5) * 2 * scale


def batch_of(y: Tensor) -> Batch:
    return Batch(torch.zeros(len(y), 1, 1, 1), y, torch.arange(len(y)))


def values(name: str, logits: Tensor, y: Tensor, **options) -> Tensor:
    return losses[name].build(**options)(logits, batch_of(y))


def gradient(name: str, logits: Tensor, y: Tensor, **options) -> Tensor:
    logits = logits.clone().requires_grad_()
    values(name, logits, y, **options).sum().backward()
    return logits.grad


@pytest.mark.parametrize("name", losses.names())
@pytest.mark.parametrize("y", [HARD, SOFT], ids=["hard", "soft"])
def test_a_loss_is_finite_and_a_function_of_one_sample_alone(name, y):
    logits = logits_of(B, K)
    found = values(name, logits, y)
    assert found.shape == (B,)
    assert found.isfinite().all() and (found > 0).all()
    alone = torch.cat([values(name, logits[i : i + 1], y[i : i + 1]) for i in range(B)])
    torch.testing.assert_close(found, alone)


@pytest.mark.parametrize("name", losses.names())
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_a_loss_is_computed_in_float32_and_finite_for_logits_of_any_magnitude(name, dtype):
    for scale in (1e-4, 30.0, 3e4):
        logits = torch.eye(K, dtype=dtype)[torch.arange(B) % K] * scale
        for y in (HARD, SOFT, HARD.roll(1, 0)):
            assert values(name, logits, y).dtype == torch.float32
            assert values(name, logits, y).isfinite().all()
            assert gradient(name, logits.float(), y).isfinite().all()


@pytest.mark.parametrize("name", losses.names())
def test_a_loss_of_classes_or_of_probabilities_equals_that_of_the_batch(name):
    logits, loss = logits_of(B, K), losses[name].build()
    expected = loss(logits, batch_of(HARD))
    assert torch.equal(loss(logits, HARD), expected)
    assert torch.equal(loss(logits, HARD.argmax(1)), expected)
    assert torch.equal(loss(logits, SOFT), loss(logits, batch_of(SOFT)))


@pytest.mark.parametrize("name", losses.names())
def test_a_small_gradient_step_lowers_the_loss(name):
    logits = logits_of(B, K)
    step = logits - 0.05 * gradient(name, logits, SOFT)
    assert (values(name, step, SOFT) < values(name, logits, SOFT)).all()


@pytest.mark.parametrize("y", [HARD, SOFT], ids=["hard", "soft"])
@pytest.mark.parametrize(
    ("name", "off"),
    [
        ("focal", {"focusing": 0.0}),
        ("poly1", {"epsilon": 0.0}),
        ("bootstrap_soft", {"trust": 1.0}),
        ("bootstrap_hard", {"trust": 1.0}),
    ],
)
def test_a_variant_at_its_neutral_value_equals_cross_entropy(name, off, y):
    logits = logits_of(B, K)
    torch.testing.assert_close(values(name, logits, y, **off), values("cross_entropy", logits, y))
    torch.testing.assert_close(gradient(name, logits, y, **off), gradient("cross_entropy", logits, y))


@pytest.mark.parametrize("y", [HARD, SOFT], ids=["hard", "soft"])
def test_bce_equals_torchs_summed_or_averaged_over_classes(y):
    logits = logits_of(B, K)
    theirs = torch.nn.BCEWithLogitsLoss(reduction="none")(logits, y)
    torch.testing.assert_close(values("bce", logits, y), theirs.sum(1))
    torch.testing.assert_close(values("bce", logits, y, reduction="mean"), theirs.sum(1) / K)


def test_the_gradient_of_summed_bce_is_the_sigmoid_minus_the_target():
    logits = logits_of(B, K)
    torch.testing.assert_close(gradient("bce", logits, SOFT), torch.sigmoid(logits) - SOFT)


def test_bce_with_a_threshold_counts_both_classes_of_a_mix_as_present():
    y = torch.tensor([[0.3, 0.7, 0.0], [0.1, 0.9, 0.0]])
    logits = logits_of(2, 3)
    present = torch.tensor([[1.0, 1.0, 0.0], [0.0, 1.0, 0.0]])
    torch.testing.assert_close(
        values("bce", logits, y, threshold=0.2), values("bce", logits, present, threshold=None)
    )


@pytest.mark.parametrize("focusing", [0.5, 1.0, 2.0, 5.0])
def test_focal_loss_of_two_classes_equals_torchvisions_sigmoid_focal_loss(focusing):
    z = logits_of(B)
    logits, y = torch.stack([torch.zeros(B), z], 1), torch.eye(2)[torch.arange(B) % 2]
    theirs = sigmoid_focal_loss(z, y[:, 1], alpha=-1, gamma=focusing, reduction="none")
    torch.testing.assert_close(values("focal", logits, y, focusing=focusing), theirs)


def test_focal_loss_weights_each_class_of_a_soft_target_by_its_own_probability():
    logits = torch.log(torch.tensor([[0.2, 0.3, 0.5]]))
    y = torch.tensor([[0.6, 0.4, 0.0]])
    expected = -(0.6 * 0.8**3 * math.log(0.2) + 0.4 * 0.7**3 * math.log(0.3))
    assert values("focal", logits, y, focusing=3.0).item() == pytest.approx(expected)


@pytest.mark.parametrize("focusing", [0.3, 1.0, 2.0])
def test_focal_loss_of_a_certain_prediction_has_zero_value_and_zero_gradient(focusing):
    logits = torch.tensor([[200.0, 0.0, 0.0]])
    y = torch.tensor([[1.0, 0.0, 0.0]])
    assert values("focal", logits, y, focusing=focusing).item() == 0
    assert torch.equal(gradient("focal", logits, y, focusing=focusing), torch.zeros(1, 3))


@pytest.mark.parametrize("epsilon", [-1.0, -0.5, 1.0, 3.0])
def test_poly1_is_the_series_of_cross_entropy_with_its_first_coefficient_changed(epsilon):
    logits = logits_of(B, K, scale=1.0)
    p = (logits.double().softmax(1) * HARD).sum(1)
    series = sum((1 - p) ** j / j for j in range(2, 4000)) + (1 + epsilon) * (1 - p)
    torch.testing.assert_close(values("poly1", logits, HARD, epsilon=epsilon), series.float())


@pytest.mark.parametrize("trust", [0.0, 0.6, 0.95])
def test_soft_bootstrapping_is_cross_entropy_plus_the_entropy_of_the_prediction(trust):
    logits = logits_of(B, K)
    entropy = torch.distributions.Categorical(logits=logits).entropy()
    expected = trust * F.cross_entropy(logits, SOFT, reduction="none") + (1 - trust) * entropy
    torch.testing.assert_close(values("bootstrap_soft", logits, SOFT, trust=trust), expected)


@pytest.mark.parametrize("trust", [0.0, 0.6, 0.8])
def test_hard_bootstrapping_is_cross_entropy_with_the_target_moved_towards_the_prediction(trust):
    logits = logits_of(B, K)
    predicted = torch.zeros(B, K)
    for i, row in enumerate(logits.tolist()):
        predicted[i, row.index(max(row))] = 1
    target = trust * HARD + (1 - trust) * predicted
    torch.testing.assert_close(
        values("bootstrap_hard", logits, HARD, trust=trust), values("cross_entropy", logits, target)
    )
    expected = logits.softmax(1) - target  # the prediction is a constant
    torch.testing.assert_close(gradient("bootstrap_hard", logits, HARD, trust=trust), expected)


@pytest.mark.parametrize("seed", range(3))
def test_the_loss_of_a_mixed_image_is_the_weighted_mean_over_both_labels(seed):
    # Image i is the unit vector i, so a mixed image shows which images it mixes, and with which weights.
    batch = Batch(torch.eye(B)[:, :, None, None], HARD, torch.arange(B))
    mixed = augmentations["mixup"].build().apply(batch, Rng(seed, "mixup"))
    logits = logits_of(B, K)
    of_label = torch.stack(
        [F.cross_entropy(logits, y.expand(B), reduction="none") for y in HARD.argmax(1)], 1
    )
    expected = (mixed.x.flatten(1) * of_label).sum(1)
    torch.testing.assert_close(losses["cross_entropy"].build()(logits, mixed), expected)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("bce", {"threshold": 1.0}),
        ("focal", {"focusing": -1.0}),
        ("poly1", {"epsilon": -1.5}),
        ("bootstrap_soft", {"trust": 1.5}),
        ("bootstrap_hard", {"trust": -0.1}),
    ],
)
def test_an_option_out_of_bounds_is_refused(name, options):
    ((argument, value),) = options.items()
    with pytest.raises(ValueError, match=f"{argument} must be .*, got {value}"):
        losses[name].build(**options)


@pytest.mark.parametrize("name", [*losses.names(), "ce", "lsr"])
def test_every_loss_trains_from_the_command_line_also_by_the_older_flag(name, tiny):
    line = f"--config {tiny} --epochs 0.5 --milestones 0.5 --mixup --output-dir run --crit {name}"
    assert train.main(line.split()) == 0
    assert json.loads(Path("run/result.json").read_text())["status"] == "ok"
