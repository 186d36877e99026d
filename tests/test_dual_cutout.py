"""Dual cutout: two views of each image, and a loss that compares their logits."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from lib.config.cli import parse
from lib.core.batch import Batch
from lib.core.rng import Rng
from lib.engine.step import Run, train_step
from lib.factory import build as build_run
from lib.losses.cross_entropy import CrossEntropy
from tests.helpers.batches import batch_of, build


def test_dual_cutout_makes_two_views_of_each_image_cut_in_different_places():
    x = torch.arange(1.0, 201)[:, None, None, None].expand(200, 3, 32, 32)
    out = build("dual_cutout").apply(batch_of(x), Rng(0))
    assert out.views == 2 and len(out) == 400
    assert torch.equal(out.index, batch_of(x).index.repeat_interleave(2))
    pairs = out.x.unflatten(0, (200, 2))
    assert ((pairs == 0) | (pairs == x[:, None])).all()
    differ = (pairs[:, 0] != pairs[:, 1]).flatten(1).any(1)
    assert differ.sum() > 190


def dual_loss(alpha: float = 0.1, **options):
    return build("dual_cutout", alpha=alpha, **options).loss(CrossEntropy())


@pytest.mark.parametrize("alpha", [0.0, 0.1, 2.0])
def test_the_loss_is_the_mean_cross_entropy_plus_the_weighted_squared_difference(alpha):
    generator = torch.Generator().manual_seed(0)
    logits, labels = torch.randn(12, 5, generator=generator), [4, 0, 1, 1, 3, 2]
    y = F.one_hot(torch.tensor(labels), 5).float().repeat_interleave(2, 0)
    batch = Batch(torch.zeros(12, 1, 2, 2), y, torch.arange(12), views=2)
    total, rows = 0.0, logits.tolist()
    for image, label in enumerate(labels):
        one, other = rows[2 * image], rows[2 * image + 1]
        for z in (one, other):
            total += (math.log(sum(map(math.exp, z))) - z[label]) / 2
        total += alpha * sum((a - b) ** 2 for a, b in zip(one, other, strict=True)) / 5
    losses = dual_loss(alpha)(logits, batch)
    assert losses.shape == (12,)
    assert losses.mean().item() == pytest.approx(total / 6, rel=1e-5)
    parts = [dual_loss(alpha)(logits[part], batch.take(part)) for part in (slice(0, 4), slice(4, 12))]
    torch.testing.assert_close(torch.cat(parts), losses)  # micro-batches add up to the whole


def test_the_loss_is_the_base_loss_without_views_or_outside_the_epochs():
    logits = torch.randn(6, 1, generator=torch.Generator().manual_seed(0)).expand(6, 5)
    base = CrossEntropy()
    batch = Batch(torch.zeros(6, 1, 2, 2), torch.ones(6, 5) / 5, torch.arange(6), epoch=3)
    assert torch.equal(dual_loss()(logits, batch), base(logits, batch))
    # Outside its epochs, views come from another augmentation and are not compared.
    views = batch.replace(views=2)
    assert torch.equal(dual_loss(stop=3)(logits, views), base(logits, views))
    assert (dual_loss(stop=4)(logits, views) > base(logits, views)).all()


def test_among_more_views_the_loss_compares_the_two_cut_from_one():
    logits = torch.tensor([0.0, 0.0, 1.0, 1.0, 2.0, 5.0, 3.0, 3.0])[:, None].expand(8, 4)
    batch = Batch(torch.zeros(8, 1, 2, 2), torch.ones(8, 4) / 4, torch.arange(8), views=4)
    term = dual_loss(1.0)(logits, batch) - CrossEntropy()(logits, batch)
    torch.testing.assert_close(term, torch.tensor([0.0, 0, 0, 0, 9, 9, 0, 0]))


def tiny_run(line: str) -> Run:
    """A run with dual cutout. BatchNorm is in eval mode, so that accumulation changes nothing."""
    small = (
        "--model wrn_10_1 --dataset synthetic --data.size 24 --data.classes 3 --data.image_size 16 --bs 6"
        " --epochs 2 --scheduler constant --dual-cutout 6"
    )
    run = build_run(parse(f"{small} {line}".split()).config(), torch.device("cpu"), note=pytest.fail)
    run.model.eval()
    return run


def weights_after(run: Run, *steps: int) -> Tensor:
    for step in steps:
        assert train_step(run, step).isfinite()
    return torch.cat([p.detach().flatten() for p in run.params])


@pytest.mark.parametrize("wrapper", ["", "--sam"])
def test_accumulation_keeps_the_pairs_of_views_together(wrapper):
    whole, parts = (weights_after(tiny_run(f"{wrapper} --accumulate {n}"), 0, 1) for n in (1, 4))
    torch.testing.assert_close(parts, whole, atol=1e-5, rtol=1e-4)
    assert not torch.equal(weights_after(tiny_run(f"{wrapper} --dual-cutout-alpha 1"), 0, 1), whole)


def test_a_run_with_dual_cutout_resumes_exactly():
    line = "--sam --mixup --accumulate 2 --dual-cutout-start 1"
    undisturbed = weights_after(tiny_run(line), *range(2, 7))  # views start at step 4
    first, second = tiny_run(line), tiny_run(line)
    weights_after(first, 2, 3, 4)
    second.model.load_state_dict(first.model.state_dict())
    second.optimizer.load_state_dict(first.optimizer.state_dict())
    assert torch.equal(weights_after(second, 5, 6), undisturbed)
