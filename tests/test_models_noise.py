"""The laws of Shake-Shake, ShakeDrop and stochastic depth."""

from functools import partial

import pytest
import torch
from torch import Tensor, nn

from lib.models.layers import DropPath
from lib.models.pyramidnet import ShakeDrop
from lib.models.shake_shake import ShakeShake

WEIGHED = 20_000  # images: the mean of so many draws is within 4 / sqrt(20000) = 0.03 of the expectation


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
def test_the_mean_of_training_draws_is_the_evaluation(noise):
    torch.manual_seed(0)
    x = torch.ones(WEIGHED, 1, 1, 1)
    set_training(noise, True)
    draws = noise(x)
    set_training(noise, False)
    torch.testing.assert_close(draws.mean(), noise(x).mean(), rtol=0, atol=0.03)
    assert draws.std() > 0.1


@pytest.mark.parametrize("noise", NOISE.values(), ids=NOISE)
def test_an_image_has_one_draw_and_another_image_another(noise):
    torch.manual_seed(0)
    set_training(noise, True)
    draws = noise(torch.ones(16, 3, 4, 4))
    assert torch.equal(draws, draws[:, :1, :1, :1].expand_as(draws))
    assert len(draws[:, 0, 0, 0].unique()) > 1


@pytest.mark.parametrize("noise", NOISE.values(), ids=NOISE)
def test_noise_keeps_the_low_precision_and_saves_no_activation(noise):
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


def test_shake_shake_mixes_the_gradient_by_a_fresh_coefficient():
    alpha, beta, rest = shaken("shake", "shake", "image")
    torch.testing.assert_close(beta + rest, torch.ones(64))
    for coefficient in (alpha, beta):
        assert len(coefficient.unique()) > 60
        assert coefficient.min() >= 0 and coefficient.max() <= 1
    assert torch.corrcoef(torch.stack([alpha, beta]))[0, 1].abs() < 0.5


def test_shake_shake_keeps_or_evens_the_coefficient_where_asked():
    alpha, beta, _ = shaken("shake", "keep", "image")
    assert torch.equal(alpha, beta)
    alpha, beta, _ = shaken("even", "shake", "image")
    assert set(alpha.tolist()) == {0.5} and len(beta.unique()) > 60
    alpha, beta, _ = shaken("shake", "even", "image")
    assert set(beta.tolist()) == {0.5} and len(alpha.unique()) > 60
    alpha, beta, _ = shaken("shake", "shake", "batch")
    assert len(alpha.unique()) == len(beta.unique()) == 1 and alpha[0] != beta[0]


def test_shakedrop_passes_by_its_gate_and_otherwise_scales_each_way_by_its_own_draw():
    torch.manual_seed(0)
    x = torch.ones(WEIGHED, 1, 1, 1, requires_grad=True)
    out = ShakeDrop(0.7, "image")(x)
    out.sum().backward()
    forward, backward = out.detach().flatten(), x.grad.flatten()
    passed = forward == 1
    assert torch.equal(passed, backward == 1)
    assert abs(passed.float().mean() - 0.7) < 0.03
    alpha, beta = forward[~passed], backward[~passed]
    assert -1 <= alpha.min() < -0.95 and 0.95 < alpha.max() <= 1 and abs(alpha.mean()) < 0.03
    assert 0 <= beta.min() < 0.05 and 0.95 < beta.max() <= 1 and abs(beta.mean() - 0.5) < 0.03


def test_shakedrop_with_one_gate_a_batch_passes_all_images_or_none():
    torch.manual_seed(0)
    drop = ShakeDrop(0.5, "batch")
    shares = {(drop(torch.ones(32, 1, 1, 1)) == 1).float().mean().item() for _ in range(20)}
    assert shares == {0.0, 1.0}


def test_drop_path_drops_at_its_rate_and_scales_what_it_keeps():
    torch.manual_seed(0)
    out = DropPath(0.2)(torch.ones(WEIGHED, 1))
    assert set(out.unique().tolist()) == {0.0, 1.25}
    assert abs((out == 0).float().mean() - 0.2) < 0.03
