"""Distributions and gradients of Shake-Shake, ShakeDrop and stochastic depth."""

from functools import partial

import pytest
import torch
from torch import Tensor, nn

from lib.models.layers import DropPath
from lib.models.pyramidnet import ShakeDrop
from lib.models.shake_shake import ShakeShake

DRAWS = 20_000  # images: their mean is within 4 / sqrt(20000) = 0.03 of the expectation


def shake(x: Tensor, mix: ShakeShake) -> Tensor:
    return mix(x, -2 * x)


NOISE = {
    "shake-shake": partial(shake, mix=ShakeShake("shake", "shake", "image")),
    "shakedrop": ShakeDrop(0.7, "image"),
    "drop path": DropPath(0.3),
}


def set_training(noise, training: bool) -> None:
    (noise if isinstance(noise, nn.Module) else noise.keywords["mix"]).train(training)


@pytest.mark.parametrize("noise", NOISE.values(), ids=NOISE)
def test_the_mean_over_training_draws_equals_evaluation(noise):
    torch.manual_seed(0)
    x = torch.ones(DRAWS, 1, 1, 1)
    set_training(noise, True)
    draws = noise(x)
    set_training(noise, False)
    torch.testing.assert_close(draws.mean(), noise(x).mean(), rtol=0, atol=0.03)
    assert draws.std() > 0.1


@pytest.mark.parametrize("noise", NOISE.values(), ids=NOISE)
def test_each_image_has_one_draw_of_its_own(noise):
    torch.manual_seed(0)
    set_training(noise, True)
    draws = noise(torch.ones(16, 3, 4, 4))
    assert torch.equal(draws, draws[:, :1, :1, :1].expand_as(draws))
    assert len(draws[:, 0, 0, 0].unique()) > 1


@pytest.mark.parametrize("noise", NOISE.values(), ids=NOISE)
def test_noise_keeps_low_precision_and_stores_no_activation(noise):
    saved = []
    set_training(noise, True)
    x = torch.ones(4, 8, 8, 8, dtype=torch.bfloat16, requires_grad=True)
    with torch.autograd.graph.saved_tensors_hooks(lambda t: saved.append(t.numel()) or t, lambda t: t):
        out = noise(x)
    out.sum().backward()
    assert out.dtype == x.grad.dtype == torch.bfloat16
    assert max(saved) <= 4


def shaken(forward: str, backward: str, level: str) -> tuple[Tensor, Tensor, Tensor]:
    """alpha, from the mix of 1 and 0; beta, from the gradient of the first; and that of the second."""
    torch.manual_seed(0)
    a, b = torch.ones(64, 2, 2, 2, requires_grad=True), torch.zeros(64, 2, 2, 2, requires_grad=True)
    out = ShakeShake(forward, backward, level)(a, b)
    out.sum().backward()
    return out.detach()[:, 0, 0, 0], a.grad[:, 0, 0, 0], b.grad[:, 0, 0, 0]


def test_shake_shake_mixes_the_gradient_with_an_independent_coefficient():
    alpha, beta, rest = shaken("shake", "shake", "image")
    torch.testing.assert_close(beta + rest, torch.ones(64))
    for coefficient in (alpha, beta):
        assert len(coefficient.unique()) > 60
        assert coefficient.min() >= 0 and coefficient.max() <= 1
    assert torch.corrcoef(torch.stack([alpha, beta]))[0, 1].abs() < 0.5


def test_the_keep_and_even_modes_of_shake_shake_fix_the_coefficient():
    alpha, beta, _ = shaken("shake", "keep", "image")
    assert torch.equal(alpha, beta)
    alpha, beta, _ = shaken("even", "shake", "image")
    assert set(alpha.tolist()) == {0.5} and len(beta.unique()) > 60
    alpha, beta, _ = shaken("shake", "even", "image")
    assert set(beta.tolist()) == {0.5} and len(alpha.unique()) > 60
    alpha, beta, _ = shaken("shake", "shake", "batch")
    assert len(alpha.unique()) == len(beta.unique()) == 1 and alpha[0] != beta[0]


def test_shakedrop_is_the_identity_or_scales_forward_and_backward_by_separate_draws():
    torch.manual_seed(0)
    x = torch.ones(DRAWS, 1, 1, 1, requires_grad=True)
    out = ShakeDrop(0.7, "image")(x)
    out.sum().backward()
    forward, backward = out.detach().flatten(), x.grad.flatten()
    passed = forward == 1
    assert torch.equal(passed, backward == 1)
    assert abs(passed.float().mean() - 0.7) < 0.03
    alpha, beta = forward[~passed], backward[~passed]
    assert -1 <= alpha.min() < -0.95 and 0.95 < alpha.max() <= 1 and abs(alpha.mean()) < 0.03
    assert 0 <= beta.min() < 0.05 and 0.95 < beta.max() <= 1 and abs(beta.mean() - 0.5) < 0.03


def test_shakedrop_with_one_gate_per_batch_keeps_all_images_or_none():
    torch.manual_seed(0)
    drop = ShakeDrop(0.5, "batch")
    fractions = {(drop(torch.ones(32, 1, 1, 1)) == 1).float().mean().item() for _ in range(20)}
    assert fractions == {0.0, 1.0}


def test_drop_path_drops_at_its_rate_and_scales_what_it_keeps():
    torch.manual_seed(0)
    out = DropPath(0.2)(torch.ones(DRAWS, 1))
    assert set(out.unique().tolist()) == {0.0, 1.25}
    assert abs((out == 0).float().mean() - 0.2) < 0.03
