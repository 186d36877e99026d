"""AugMix against the authors' algorithm: pixels by Pillow, draws by a transcription, the loss by hand."""

import math
import random
from collections import Counter
from functools import partial

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps
from scipy import stats
from torch import Tensor, nn

from lib.augment import augmix
from lib.augment.policy import NUMBER, OPERATIONS
from lib.core.batch import Batch
from lib.core.registry import losses
from lib.core.rng import Rng
from tests.helpers.batches import build as build_augmentation
from tests.helpers.distributions import fits
from tests.helpers.pictures import from_pil, pictures, to_pil

NAMES = list(OPERATIONS)
K = 5


build = partial(build_augmentation, "augmix")


def batch_of(x: Tensor, epoch: int = 3) -> Batch:
    y = torch.rand(len(x), K, generator=torch.Generator().manual_seed(5)).softmax(1)
    return Batch(x, y, torch.arange(len(x)), epoch)


# The pixels


def moved(*matrix: float, resample=Image.Resampling.BILINEAR):
    return lambda image: image.transform(image.size, Image.Transform.AFFINE, matrix, resample)


def by_hand(image: Image.Image, name: str, m: float) -> Image.Image:
    """One operation of the authors' code, in Pillow alone."""
    return {
        "identity": lambda image: image,
        "autocontrast": ImageOps.autocontrast,
        "equalize": ImageOps.equalize,
        "posterize": lambda image: ImageOps.posterize(image, int(m)),
        "bilinear_rotate": lambda image: image.rotate(m, Image.Resampling.BILINEAR),
        "solarize": lambda image: ImageOps.solarize(image, m),
        "bilinear_shear_x": moved(1, m, 0, 0, 1, 0),
        "bilinear_shear_y": moved(1, 0, 0, m, 1, 0),
        "translate_x_pixels": moved(1, 0, -m, 0, 1, 0),
        "translate_y_pixels": moved(1, 0, 0, 0, 1, -m),
    }[name](image)


@pytest.mark.parametrize("shape", [(3, 32, 32), (1, 20, 33), (3, 41, 24)], ids=str)
@pytest.mark.parametrize("options", [{}, {"width": 2, "depth": 1, "severity": 10.0, "alpha": 0.5}], ids=str)
def test_an_image_is_the_weighted_mean_of_itself_and_pillows_chains(shape, options):
    x = pictures(*shape).repeat(8, 1, 1, 1)[:51]
    augment = build(**options)
    out = augment.apply(batch_of(x), Rng(1)).x
    drawn, weights = augment.drawn(len(x), shape[1:], Rng(1))
    operations = drawn.operation.view(len(x), augment.width, -1).tolist()
    magnitudes = drawn.magnitude.view(len(x), augment.width, -1).tolist()
    differing, pixels = 0, 0
    for i, image in enumerate(x):
        mixed = weights[i, 0] * image.double()
        for weight, chain, strengths in zip(weights[i, 1:], operations[i], magnitudes[i], strict=True):
            augmented = to_pil(image)
            for number, m in zip(chain, strengths, strict=True):
                augmented = by_hand(augmented, NAMES[number], m)
            mixed += weight * from_pil(augmented).double()
        off = (out[i].double() - mixed).abs().amax(0)
        differing += int((off > 1.5).sum())  # 0.5 for rounding, 1 for interpolation in a chain
        pixels += off.numel()
    assert differing / pixels < 5e-3  # a look-up after a shear may widen a difference of one


def test_black_stays_black():
    # No operation at these severities changes it: only solarizing from 0 would.
    x = torch.zeros(200, 3, 8, 8, dtype=torch.uint8)
    assert torch.equal(build().apply(batch_of(x), Rng(0)).x, x)


# The draws


def authors_magnitude(draw: random.Random, name: str, severity: float, side: int) -> float:
    """A transcription of the authors' operations: the argument that each hands to Pillow."""
    level = draw.uniform(0.1, severity)
    magnitude = {
        "autocontrast": lambda: 0,
        "equalize": lambda: 0,
        "posterize": lambda: 4 - int(level * 4 / 10),
        "bilinear_rotate": lambda: int(level * 30 / 10),
        "solarize": lambda: 256 - int(level * 256 / 10),
        "bilinear_shear_x": lambda: level * 0.3 / 10,
        "bilinear_shear_y": lambda: level * 0.3 / 10,
        "translate_x_pixels": lambda: int(level * (side / 3) / 10),
        "translate_y_pixels": lambda: int(level * (side / 3) / 10),
    }[name]()
    signed = name.startswith(("bilinear", "translate"))
    return -magnitude if signed and draw.random() < 0.5 else magnitude


@pytest.mark.parametrize("severity", [3.0, 10.0])
def test_operations_are_equally_likely_and_have_the_authors_magnitudes(severity):
    generator, side = random.Random(0), 32
    drawn, _ = build(severity=severity).drawn(4000, (side, side), Rng(0))
    used = drawn.operation != NUMBER["identity"]
    counts = Counter(NAMES[number] for number in drawn.operation[used].tolist())
    assert set(counts) == set(augmix.OPERATIONS)
    assert len(counts) == 9
    assert fits(list(counts.values()), [1 / 9] * 9)
    for name in augmix.OPERATIONS:
        ours = drawn.magnitude[drawn.operation == NUMBER[name]].numpy()
        expected = [authors_magnitude(generator, name, severity, side) for _ in range(3000)]
        if name.startswith("bilinear_shear"):
            assert stats.ks_2samp(ours, expected).pvalue > 1e-3
            continue
        values = sorted({*ours, *expected})
        table = [[int((np.asarray(sample) == v).sum()) for v in values] for sample in (ours, expected)]
        rare = np.sum(table, 0) < 10
        assert rare.sum() < 5
        table = np.array(table)[:, ~rare]
        assert table.shape[1] == 1 or stats.chi2_contingency(table).pvalue > 1e-3


def test_shifts_are_fractions_of_each_side():
    drawn, _ = build(severity=10.0).drawn(2000, (60, 15), Rng(0))
    for name, farthest in (("translate_x_pixels", 5), ("translate_y_pixels", 20)):
        found = drawn.magnitude[drawn.operation == NUMBER[name]]
        assert set(found.tolist()) >= {*range(1 - farthest, farthest)}
        assert found.abs().max() <= farthest


def test_a_chain_has_one_to_three_operations_or_the_given_depth():
    drawn, _ = build().drawn(3000, (8, 8), Rng(0))
    used = (drawn.operation != NUMBER["identity"]).int()
    assert used.shape == (9000, 3)
    assert (used.diff(dim=1) <= 0).all()  # the first ones
    assert fits(torch.bincount(used.sum(1))[1:].tolist(), [1 / 3] * 3)
    drawn, _ = build(depth=5, width=2).drawn(50, (8, 8), Rng(0))
    assert drawn.operation.shape == (100, 5)
    assert (drawn.operation != NUMBER["identity"]).all()


@pytest.mark.parametrize(("alpha", "width"), [(1.0, 3), (0.3, 3), (4.0, 2)])
def test_weights_are_dirichlet_of_the_chains_and_beta_of_the_image(alpha, width):
    _, weights = build(alpha=alpha, width=width).drawn(5000, (8, 8), Rng(0))
    assert weights.shape == (5000, 1 + width)
    torch.testing.assert_close(weights.sum(1), torch.ones(5000).double())
    own = weights[:, 0].numpy()
    assert stats.kstest(own, stats.beta(alpha, alpha).cdf).pvalue > 1e-3
    mixed = own < 0.999
    chains = weights[:, 1:].numpy()[mixed] / (1 - own[mixed, None])
    for chain in chains.T:
        assert stats.kstest(chain, stats.beta(alpha, alpha * (width - 1)).cdf).pvalue > 1e-3
    covariance = -1 / width**2 / (alpha * width + 1)  # of two parts of a Dirichlet
    assert np.cov(chains.T)[0, 1] == pytest.approx(covariance, rel=0.1)
    assert abs(np.corrcoef(own[mixed], chains[:, 0])[0, 1]) < 4 / math.sqrt(5000)


@pytest.mark.parametrize("alpha", [1e-3, 1e3])
def test_weights_sum_to_one_for_extreme_alphas(alpha):
    _, weights = build(alpha=alpha).drawn(2000, (8, 8), Rng(0))
    assert (weights >= 0).all()
    torch.testing.assert_close(weights.sum(1), torch.ones(2000).double())


def test_images_and_views_of_an_image_are_augmented_independently():
    x = pictures(3, 32, 32)[4:5].repeat(32, 1, 1, 1)
    assert len({image.numpy().tobytes() for image in build().apply(batch_of(x), Rng(0)).x}) == 32
    assert (
        len({image.numpy().tobytes() for image in build(jsd=True).apply(batch_of(x), Rng(0)).x}) == 1 + 2 * 32
    )


# The consistency loss


@pytest.mark.parametrize("shape", [(3, 32, 32), (1, 5, 9)], ids=str)
@pytest.mark.parametrize("count", [1, 7])
def test_the_first_view_of_an_image_is_the_unchanged_image(shape, count):
    batch = batch_of(pictures(*shape)[:count])
    out = build(jsd=True).apply(batch, Rng(0))
    assert out.views == 3 and out.x.shape == (3 * count, *shape) and out.x.dtype == torch.uint8
    assert torch.equal(out.x[::3], batch.x)
    for view in range(3):
        assert torch.equal(out.y[view::3], batch.y)
        assert torch.equal(out.index[view::3], batch.index)
    assert (out.x[1::3] != batch.x).any() and (out.x[2::3] != out.x[1::3]).any()


def jsd_loss(**options):
    return build(jsd=True, **options).loss(losses["cross_entropy"].build())


def divergence_by_hand(rows: list[list[float]]) -> float:
    """The Jensen-Shannon divergence of predictions given as logits."""
    predictions = []
    for row in rows:
        total = sum(math.exp(z) for z in row)
        predictions.append([math.exp(z) / total for z in row])
    mean = [sum(p[k] for p in predictions) / len(predictions) for k in range(len(rows[0]))]
    kl = [sum(q * math.log(q / m) for q, m in zip(p, mean, strict=True)) for p in predictions]
    return sum(kl) / len(kl)


def views(images: int, later: int = 1, epoch: int = 3) -> tuple[Tensor, Batch]:
    """Logits and their batch, with `later` views of each view."""
    count = images * 3 * later
    logits = 3 * torch.randn(count, K, generator=torch.Generator().manual_seed(1))
    y = torch.rand(images, K, generator=torch.Generator().manual_seed(2)).softmax(1)
    each = 3 * later
    batch = Batch(torch.zeros(count, 1, 2, 2), y.repeat_interleave(each, 0), torch.arange(count), epoch)
    return logits, batch.replace(views=each)


@pytest.mark.parametrize("later", [1, 2])
@pytest.mark.parametrize("weight", [12.0, 0.0, 1.5])
def test_the_loss_is_the_clean_views_cross_entropy_and_the_weighted_divergence(later, weight):
    logits, batch = views(4, later)
    found = jsd_loss(consistency=weight)(logits, batch)
    assert found.shape == (len(batch),)
    for image in range(4):
        for place in range(later):
            at = [(image * 3 + view) * later + place for view in range(3)]
            rows = logits.double()[at].tolist()
            y = batch.y.double()[at[0]].tolist()
            total = math.log(sum(math.exp(z) for z in rows[0]))
            entropy = sum(-q * (z - total) for q, z in zip(y, rows[0], strict=True))
            expected = entropy + weight * divergence_by_hand(rows)
            assert found[at].tolist() == pytest.approx([expected] * 3, rel=1e-5)


def test_the_divergence_is_0_for_equal_predictions_and_log_3_for_disjoint_ones():
    same = torch.randn(1, 1, K, generator=torch.Generator().manual_seed(0)).expand(1, 3, K)
    assert augmix.jensen_shannon(same).abs().max() < 1e-6
    certain = 1000 * torch.eye(3)[None]
    assert augmix.jensen_shannon(certain).tolist() == pytest.approx([math.log(3)])
    certain.requires_grad_()
    augmix.jensen_shannon(certain).sum().backward()
    assert certain.grad.isfinite().all()


def test_the_loss_is_the_base_loss_without_views_or_outside_the_epochs():
    base = losses["cross_entropy"].build()
    logits, batch = views(4)
    single = batch.replace(views=1)
    assert torch.equal(jsd_loss()(logits, single), base(logits, single))
    assert torch.equal(build().loss(base)(logits, batch), base(logits, batch))
    assert torch.equal(jsd_loss(stop=3)(logits, batch), base(logits, batch))
    assert not torch.equal(jsd_loss(stop=4)(logits, batch), base(logits, batch))


@pytest.mark.parametrize("parts", [1, 2, 3, 7])
def test_accumulation_keeps_views_together_and_does_not_change_the_gradient(parts):
    batch = build(jsd=True).apply(batch_of(pictures(3, 8, 8)), Rng(0))
    batch = batch.replace(x=batch.x.float() / 255)
    loss, gradients = jsd_loss(), []
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(3 * 8 * 8, K)).double()
    for pieces in ([batch], [*batch.split(parts)]):
        model.zero_grad()
        assert all(len(piece) % 3 == 0 for piece in pieces)
        for piece in pieces:
            (loss(model(piece.x.double()), piece).sum() / len(batch)).backward()
        gradients.append(model[1].weight.grad.clone())
    assert gradients[0].abs().max() > 1e-3
    torch.testing.assert_close(gradients[0], gradients[1], atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize(
    ("options", "fault"),
    [
        ({"width": 0}, "width"),
        ({"depth": 0}, "depth"),
        ({"alpha": 0.0}, "alpha"),
        ({"severity": 0.0}, "severity"),
        ({"severity": 11.0}, "severity"),
        ({"consistency": -1.0}, "consistency"),
    ],
)
def test_values_out_of_bounds_are_rejected(options, fault):
    with pytest.raises(ValueError, match=f"^{fault} must be"):
        build(**options)


@pytest.mark.gpu
@pytest.mark.parametrize("jsd", [False, True])
def test_the_gpu_agrees_with_the_cpu_without_synchronising(jsd):
    x = pictures(3, 32, 32).repeat(20, 1, 1, 1)
    augment, on_device = build(jsd=jsd), batch_of(x)
    on_device = on_device.replace(x=x.cuda(), y=on_device.y.cuda(), index=on_device.index.cuda())
    loss, logits = augment.loss(losses["cross_entropy"].build()), torch.randn(len(x) * 3, K, device="cuda")
    torch.cuda.set_sync_debug_mode("error")
    try:
        out = augment.apply(on_device, Rng(0))
        loss(logits[: len(out)], out)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    off = (out.x.cpu().int() - augment.apply(batch_of(x), Rng(0)).x.int()).abs()
    assert (off > 0).float().mean() < 1e-3


def test_a_consistency_weight_without_jsd_is_rejected():
    with pytest.raises(ValueError, match="consistency must be left at 12 without jsd, got 5"):
        augmix.AugMix(consistency=5.0)
