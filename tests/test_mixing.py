"""Mixes and label smoothing against their papers, with one draw per batch and per sample."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from scipy import stats
from torch import Tensor

from lib.augment.fmix import _low_frequency
from lib.augment.mixing import below
from lib.core.batch import Batch
from lib.core.rng import Rng
from tests.helpers.batches import K, batch_of, build, numbered_pixels
from tests.helpers.references import (
    crop_paste_weight,
    cutmix_weight,
    low_frequency_map,
    rectangle,
    resizemix_weight,
    ricap_weights,
)

SIDE = 32
either = pytest.mark.parametrize("per_sample", [False, True])


def mixed_weights(name: str, per_sample: bool, **options) -> list[Tensor]:
    """The weights of the labels in many mixed images, with one class per image."""
    count, seeds = (64, 20) if per_sample else (24, 500)
    batch = batch_of(torch.zeros(count, 1, SIDE, SIDE), torch.eye(count))
    mix = build(name, per_sample=per_sample, **options)
    out = [mix.apply(batch, Rng(seed, name)).y for seed in range(seeds)]
    return [row for y in out for row in y] if per_sample else [y[0] for y in out]


def own_weights(name: str, per_sample: bool, **options) -> list[float]:
    """The weight of an image's own label in many images that another one was mixed into."""
    count = 64 if per_sample else 24
    rows = mixed_weights(name, per_sample, **options)
    own = [(row, i % count if per_sample else 0) for i, row in enumerate(rows)]
    return [row[i].item() for row, i in own if (row > 0).sum() == 2 and row[i] > 0]


@either
@pytest.mark.parametrize(("name", "alpha"), [("mixup", 1.0), ("mixup", 3.0), ("fmix", 1.0), ("fmix", 2.0)])
def test_the_weight_of_an_image_is_beta_distributed(name, alpha, per_sample):
    found = own_weights(name, per_sample, alpha=alpha)
    assert len(found) > 400
    assert stats.kstest(found, stats.beta(alpha, alpha).cdf).pvalue > 1e-3


@either
@pytest.mark.parametrize(
    ("name", "options", "reference"),
    [
        ("cutmix", {"alpha": 1.0}, cutmix_weight),
        ("cutmix", {"alpha": 0.5}, cutmix_weight),
        ("resizemix", {"low": 0.1, "high": 0.8}, resizemix_weight),
        ("resizemix", {"low": 0.3, "high": 1.0}, resizemix_weight),
        ("random_crop_paste", {"alpha": 1.0}, crop_paste_weight),
    ],
)
def test_the_weight_of_an_image_is_the_area_that_the_papers_box_leaves(name, options, reference, per_sample):
    generator = np.random.default_rng(0)
    expected = [reference(generator, SIDE, **options) for _ in range(4000)]
    expected = [weight for weight in expected if 0 < weight < 1]
    fields = {"low": "scale_min", "high": "scale_max", "alpha": "alpha"}
    found = own_weights(name, per_sample, **{fields[key]: value for key, value in options.items()})
    assert len(found) > 350
    assert stats.ks_2samp(found, expected).pvalue > 1e-3


@either
def test_the_weights_of_ricap_are_the_papers_areas(per_sample):
    generator = np.random.default_rng(0)
    expected = np.array([ricap_weights(generator, SIDE, 0.5) for _ in range(4000)])
    # An image may be its own partner, so that two patches share a label: such images are left out.
    rows = [row.sort().values[-4:] for row in mixed_weights("ricap", per_sample, beta=0.5)]
    found = np.array([row.tolist() for row in rows if row[0] > 0])
    expected = expected[expected[:, 0] > 0]
    assert len(found) > 120
    for patch in range(4):
        assert stats.ks_2samp(found[:, patch], expected[:, patch]).pvalue > 1e-3


def test_ricap_per_sample_patches_four_crops_whose_areas_are_their_weights():
    H, W = 12, 20
    x = torch.arange(64)[:, None, None, None] * 1000 + numbered_pixels(64, 1, H, W) - 1
    out = build("ricap", per_sample=True).apply(batch_of(x.double(), torch.eye(64).double()), Rng(0))
    found = out.x[:, 0].long()
    torch.testing.assert_close(F.one_hot(found // 1000, 64).double().mean((1, 2)), out.y)
    moved_down = found % 1000 // W - torch.arange(H)[:, None]
    moved_across = found % 1000 % W - torch.arange(W)
    seams = set()
    for patch in torch.stack([found // 1000, moved_down, moved_across], 1):  # constant over each patch
        down = (patch.diff(dim=1) != 0).any(0).any(1).nonzero().flatten().tolist()
        across = (patch.diff(dim=2) != 0).any(0).any(0).nonzero().flatten().tolist()
        assert len(down) <= 1 and len(across) <= 1
        seams.add((*down, -1, *across))
    assert len(seams) > 20


def mixed_noise(name: str, per_sample: bool, seed: int, **options) -> tuple[Tensor, Batch, list[int]]:
    """Images of noise, the mixed batch of them, and the partner of each."""
    x = torch.randn(6, 2, 16, 24, generator=torch.Generator().manual_seed(seed))
    out = build(name, per_sample=per_sample, **options).apply(batch_of(x, torch.eye(6)), Rng(seed, name))
    partners = [int((row - torch.eye(6)[i] * 2).argmax()) for i, row in enumerate(out.y)]
    return x, out, partners


@either
def test_resizemix_pastes_the_image_that_torch_and_pillow_shrink(per_sample):
    sizes = set()
    for seed in range(12):
        x, out, partners = mixed_noise("resizemix", per_sample, seed)
        for i, partner in enumerate(partners):
            box = rectangle((out.x[i] != x[i]).any(0))
            if out.y[i, partner] == 0:  # its own partner
                continue
            top, left, height, width = box
            pasted = out.x[i, :, top : top + height, left : left + width]
            shrunk = F.interpolate(x[partner, None], (height, width), mode="bilinear", antialias=True)[0]
            torch.testing.assert_close(pasted, shrunk, atol=1e-5, rtol=1e-5)
            pillow = Image.fromarray(x[partner, 0].numpy()).resize((width, height), Image.BILINEAR)
            np.testing.assert_allclose(pasted[0].numpy(), np.asarray(pillow), atol=1e-5, rtol=1e-5)
            torch.testing.assert_close(out.y[i, partner], torch.tensor(height * width / (16 * 24)))
            sizes.add((height, width))
    assert len(sizes) > 6
    assert all(abs(width - 1.5 * height) <= 1.25 for height, width in sizes)  # its shape is kept


@either
def test_random_crop_paste_draws_both_places_uniformly_and_independently(per_sample):
    H, W, count = 10, 14, 16
    x = torch.arange(count)[:, None, None, None] * 1000 + numbered_pixels(count, 1, H, W) - 1
    uniform, places = np.random.default_rng(0), []
    for seed in range(40 if per_sample else 300):
        mix = build("random_crop_paste", per_sample=per_sample)
        out = mix.apply(batch_of(x.double(), torch.eye(count).double()), Rng(seed))
        found = out.x[:, 0].long()
        torch.testing.assert_close(F.one_hot(found // 1000, count).double().mean((1, 2)), out.y)
        for i in range(count if per_sample else 1):
            box = rectangle(found[i] // 1000 != i)
            if box is None:
                continue
            top, left, height, width = box
            source = found[i, top : top + height, left : left + width] % 1000
            first = (source[0, 0] // W).item(), (source[0, 0] % W).item()
            expected = numbered_pixels(1, 1, H, W)[0, 0] - 1
            window = expected[first[0] : first[0] + height, first[1] : first[1] + width]
            assert torch.equal(source, window)
            # Integers made uniform: place p of n becomes a number from p / n to (p + 1) / n.
            rooms = (H - height + 1, W - width + 1) * 2
            starts = (top, left, *first)
            places.append([(p + uniform.random()) / n for p, n in zip(starts, rooms, strict=True)])
    places = np.array(places)
    assert len(places) > 200
    for place in places.T:
        assert stats.kstest(place, "uniform").pvalue > 1e-3
    for one, other in ((0, 2), (1, 3)):
        assert abs(stats.spearmanr(places[:, one], places[:, other]).statistic) < 0.2


@pytest.mark.parametrize(("height", "width", "decay"), [(6, 8, 3.0), (5, 6, 1.5), (8, 7, 0.0)])
def test_the_grey_map_of_fmix_is_a_sum_of_waves_that_fall_with_frequency(height, width, decay):
    noise = np.random.default_rng(0).normal(size=(2, height, width // 2 + 1))
    # Waves along one side alone are their own mirror images, so of these only the constant one is compared.
    noise[:, 1:, 0] = noise[1, 0, 0] = 0
    if width % 2 == 0:
        noise[:, :, -1] = 0
    found = _low_frequency(torch.tensor(noise)[None], width, decay)[0]
    expected = low_frequency_map(*noise, width, decay)
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-5)


def neighbours_that_agree(decay: float) -> float:
    """The fraction of neighbouring pixels that come from the same image."""
    x = torch.arange(64.0)[:, None, None, None].expand(64, 1, SIDE, SIDE)
    out = (
        build("fmix", alpha=1000.0, decay=decay, per_sample=True).apply(batch_of(x, torch.eye(64)), Rng(0)).x
    )
    return (out.diff(dim=3) == 0).float().mean().item()


def test_the_masks_of_fmix_are_blobs_or_noise_without_decay():
    assert neighbours_that_agree(0.0) == pytest.approx(0.5, abs=0.03)
    assert neighbours_that_agree(3.0) > 0.9


def test_integers_below_n_are_uniform_and_never_n():
    uniform = torch.rand(20_000, generator=torch.Generator().manual_seed(0))
    assert stats.chisquare(below(33, uniform).long().bincount(minlength=33)).pvalue > 1e-3
    assert below(33, torch.tensor(1 - 2**-24)) == 32
    assert torch.equal(below(torch.tensor([1, 2]), torch.tensor([0.99, 0.99])), torch.tensor([0.0, 1.0]))


def kept_weights(name: str, count: int, **options) -> list[float]:
    """The weight of an image's own label in many batches."""
    batch, found = batch_of(torch.zeros(8, 1, 32, 32), torch.eye(8)), []
    for seed in range(count):
        y = build(name, **options).apply(batch, Rng(seed, name)).y
        weights = [y[i, i].item() for i in range(8) if (y[i] > 0).sum() == 2 and y[i, i] > 0]
        found += weights[:1]
    return found


@pytest.mark.parametrize("alpha", [0.2, 1.0, 3.0])
def test_the_weight_of_mixup_is_beta_distributed(alpha):
    found = kept_weights("mixup", 600, alpha=alpha)
    # At 0.2 a weight may round to 0 or 1, and then there is no second label to see.
    low, high = min(found), max(found)
    cdf = stats.beta(alpha, alpha).cdf
    assert len(found) > 450
    assert stats.kstest(found, lambda w: (cdf(w) - cdf(low)) / (cdf(high) - cdf(low))).pvalue > 1e-3


def test_mixup_mixes_images_and_labels_with_the_same_partners_and_weight():
    noise = torch.randn(64, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    out = build("mixup").apply(batch_of(noise, torch.eye(64)), Rng(0))
    expected = torch.einsum("ij,jchw->ichw", out.y, noise)  # labels show the partners and the weight
    torch.testing.assert_close(out.x, expected, atol=1e-5, rtol=1e-5)
    assert (out.y > 0).sum() > 64


@pytest.mark.parametrize("alpha", [0.5, 1.0])
def test_cutmix_pastes_boxes_as_large_as_those_of_its_authors(alpha):
    side, generator = 32, np.random.default_rng(0)
    x = torch.arange(8)[:, None, None, None] * 10_000 + numbered_pixels(8, 1, side, side)
    found = []
    for seed in range(700):
        out = build("cutmix", alpha=alpha).apply(
            batch_of(x.double(), torch.eye(8).double()), Rng(seed, "cutmix")
        )
        assert torch.equal(out.x.long() % 10_000, x % 10_000)  # a pixel is pasted where it came from
        pasted = [box for mask in (out.x != x)[:, 0] if (box := rectangle(mask))]
        found.append(1 - (pasted[0][2] * pasted[0][3] if pasted else 0) / side**2)
        assert len(set(pasted)) <= 1
    expected = [cutmix_weight(generator, side, alpha) for _ in range(3000)]
    assert stats.ks_2samp(found, expected).pvalue > 1e-3


def test_the_label_of_cutmix_is_the_clipped_area_of_the_box():
    x = torch.arange(8.0)[:, None, None, None].expand(8, 1, 20, 12)
    for seed in range(50):
        out = build("cutmix").apply(batch_of(x, torch.eye(8)), Rng(seed, "cutmix"))
        fractions = torch.stack([(out.x == image).float().mean((1, 2, 3)) for image in range(8)], 1)
        torch.testing.assert_close(out.y, fractions)


def test_ricap_patches_four_crops_whose_areas_are_their_weights():
    H, W = 16, 24
    x = torch.arange(8)[:, None, None, None] * 1000 + numbered_pixels(8, 1, H, W) - 1
    rows, columns = [], []
    for seed in range(400):
        out = build("ricap").apply(batch_of(x.double(), torch.eye(8).double()), Rng(seed, "ricap"))
        source = out.x[:, 0].long() // 1000
        fractions = F.one_hot(source, 8).double().mean((1, 2))
        torch.testing.assert_close(out.y, fractions)
        # Within a patch the place in the source moves with the place in the image.
        place = out.x[:, 0].long() % 1000
        moved = torch.stack([place // W - torch.arange(H)[:, None], place % W - torch.arange(W)])
        patch = torch.cat([source[None], moved])  # (3, B, H, W): constant over each of the four patches
        down = (patch.diff(dim=2) != 0).any(0).any(2).any(0).nonzero().flatten().tolist()
        across = (patch.diff(dim=3) != 0).any(0).any(1).any(0).nonzero().flatten().tolist()
        assert len(down) <= 1 and len(across) <= 1
        rows.append(down[0] + 1 if down else 0)
        columns.append(across[0] + 1 if across else 0)
    for found, size in ((rows, H), (columns, W)):
        # Rounding puts a seam at pixel n for n - 0.5 to n + 0.5; one at either side of the image is not seen.
        edges = np.array([0.5, *np.arange(size / 4, size, size / 4) + 0.5, size - 0.5])
        probs = np.diff(stats.beta(0.3, 0.3).cdf(edges / size))
        counts = np.histogram([seam for seam in found if seam], edges)[0]
        expected = [*probs, 1 - probs.sum()]
        assert stats.chisquare([*counts, found.count(0)], np.array(expected) * len(found)).pvalue > 1e-3


@pytest.mark.parametrize("epsilon", [1e-6, 0.1, 0.9])
def test_smoothed_labels_give_the_smoothed_loss_of_torch(epsilon):
    batch = batch_of(torch.zeros(12, 1, 4, 4))
    logits = torch.randn(12, K, generator=torch.Generator().manual_seed(0))
    y = build("label_smoothing", epsilon=epsilon).apply(batch, Rng(0)).y
    loss = -(y * logits.log_softmax(1)).sum(1).mean()
    hard = batch.y.argmax(1)
    torch.testing.assert_close(loss, F.cross_entropy(logits, hard, label_smoothing=epsilon))
