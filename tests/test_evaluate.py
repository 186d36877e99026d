"""Evaluation of a network on a split."""

from typing import get_args

import pytest
import torch
from torch import Tensor, nn

import lib.engine.evaluate
from lib.core.precision import Precision
from lib.data.base import Split
from lib.engine.evaluate import evaluate
from tests.helpers.steps import NORMALIZE, SIDE, equal, state_of


class Reader(nn.Module):
    """Predicts class 1 for bright images and 0 for dark ones, and records its calls."""

    def __init__(self):
        super().__init__()
        self.norm, self.seen = nn.BatchNorm2d(3), []

    def forward(self, x: Tensor) -> Tensor:  # (B, 3, H, W) -> (B, 3)
        self.seen.append((len(x), self.training))
        level = self.norm(x).mean((1, 2, 3))
        return torch.stack([-level, level, torch.full_like(level, -50.0)], 1)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("precision", get_args(Precision))
def test_evaluation_sees_every_image_once_in_order_and_changes_nothing(monkeypatch, training, precision):
    monkeypatch.setattr(lib.engine.evaluate, "BATCH", 3)
    grey = torch.tensor([255, 0, 255, 255, 0, 255, 0, 0, 0, 255]).to(torch.uint8)
    y = torch.tensor([1, 0, 1, 0, 0, 1, 1, 0, 0, 1])  # the fourth and the seventh are wrong
    x = grey[:, None, None, None].expand(10, 3, SIDE, SIDE).contiguous()
    model = Reader().train(training)
    before = state_of(model)
    result = evaluate(model, Split(x, y), NORMALIZE.pixels, precision)
    assert model.seen == [(3, False), (3, False), (3, False), (1, False)]
    assert all(module.training == training for module in model.modules())
    assert equal(state_of(model), before)
    assert result.accuracy == pytest.approx(80)
    assert result.logits.dtype == torch.float32
    assert result.logits.shape == (10, 3)
    level = torch.where(grey > 0, 2.0, -2.0) / (1 + 1e-5) ** 0.5  # normalised, then by BatchNorm's statistics
    torch.testing.assert_close(result.logits[:, 1], level, atol=1e-2, rtol=0)
    losses_by_hand = torch.log1p(torch.exp(torch.where(grey.bool() == y.bool(), -4.0, 4.0)))
    assert result.loss == pytest.approx(losses_by_hand.mean().item(), abs=1e-2)
