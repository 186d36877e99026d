"""Augmentations that hide a part of an image, against the formulas of their papers."""

import math
import random
from collections import Counter
from itertools import product

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import torchvision
from scipy import stats
from torch import Tensor

from lib.augment.pipeline import Normalize, Step, pipeline
from lib.config.cli import parse
from lib.core.batch import Batch, PixelScale
from lib.core.facts import Stage
from lib.core.rng import Rng
from tests.helpers.batches import build
from tests.helpers.distributions import has_fraction, is_uniform
from tests.helpers.references import cutouts, random_erasing_box, rectangle

BLACK, WHITE = torch.tensor([-2.0, -1.5, -1.0]), torch.tensor([2.0, 2.5, 3.0])


def batch_of(x: Tensor, epoch: int = 0) -> Batch:
    C = x.shape[1]
    scale = PixelScale(black=BLACK[:C, None, None], white=WHITE[:C, None, None])
    return Batch(x, torch.ones(len(x), 1), torch.arange(len(x)), epoch, scale=scale)


def ones(count: int, channels: int = 1, height: int = 32, width: int = 32) -> Batch:
    return batch_of(torch.ones(count, channels, height, width))


def sevens(count: int) -> Batch:
    """Images of a value that no fill has."""
    return batch_of(torch.full((count, 3, 32, 32), 7.0))


def hidden_in(name: str, batch: Batch, seed: int = 0, **options) -> Tensor:
    """(B, H, W) mask of the hidden pixels of images of ones, the same in all channels."""
    out = build(name, **options).apply(batch, Rng(seed, name)).x
    assert ((out == 0) | (out == 1)).all()
    assert torch.equal(out, out[:, :1].expand_as(out))
    return out[:, 0] == 0


# Cutout


@pytest.mark.parametrize(("height", "width", "size"), [(12, 9, 4), (9, 12, 3), (8, 8, 10), (6, 6, 1)])
def test_cutout_hides_a_square_around_any_pixel_clipped_by_the_border(height, width, size):
    out = build("cutout", size=size).apply(ones(60 * height * width, 2, height, width), Rng(0)).x
    assert torch.equal(out[:, 0], out[:, 1])  # all channels
    known = cutouts(height, width, size)
    counts = Counter(image.numpy().tobytes() for image in out[:, 0].contiguous())
    assert set(counts) == set(known)
    centres = [len(known[image]) for image in counts]  # a large square hides the same from several
    expected = np.array(centres) / (height * width) * len(out)
    assert stats.chisquare(list(counts.values()), expected).pvalue > 1e-3


@pytest.mark.parametrize(("height", "width", "size"), [(12, 9, 4), (9, 12, 3), (8, 8, 8)])
def test_squares_inside_the_image_are_equally_likely_at_every_place(height, width, size):
    places = (height - size + 1) * (width - size + 1)
    hidden = hidden_in("cutout", ones(60 * places, 2, height, width), size=size, inside=True)
    boxes = [rectangle(mask) for mask in hidden]
    assert {box[2:] for box in boxes} == {(size, size)}
    counts = np.unique([box[0] * width + box[1] for box in boxes], return_counts=True)[1]
    assert len(counts) == places
    assert places == 1 or stats.chisquare(counts).pvalue > 1e-3


def test_a_square_larger_than_the_image_cannot_lie_inside():
    with pytest.raises(ValueError, match="size must be at most the image's side 8 to lie inside, got 9"):
        build("cutout", size=9, inside=True).apply(ones(2, 1, 8, 8), Rng(0))


def test_holes_are_independent_squares():
    side, size, count = 10, 3, 6000
    # A pixel survives a hole with the probability of the centres that leave it visible.
    visible = sum(
        np.frombuffer(image, np.float32).reshape(side, side) * len(centres)
        for image, centres in cutouts(side, side, size).items()
    )
    for holes in (1, 2, 5):
        expected = 1 - (visible / side**2) ** holes
        hidden = hidden_in("cutout", ones(count, 1, side, side), seed=holes, size=size, holes=holes)
        for row, column in product((0, 1, 5, 9), repeat=2):
            assert has_fraction(hidden[:, row, column].sum(), count, expected[row, column])


@pytest.mark.parametrize("name", ["cutout", "gridmask", "random_erasing", "dual_cutout"])
@pytest.mark.parametrize("prob", [0.01, 0.3, 1.0])
def test_an_image_is_erased_with_the_given_probability(name, prob):
    batch = sevens(3000)
    out = build(name, prob=prob).apply(batch, Rng(0, name)).x
    touched = (out != 7).flatten(1).any(1)
    assert has_fraction(touched.sum(), len(out), prob)


@pytest.mark.parametrize("line", ["--cutout 8", "--cutout-length 8", "augment.cutout.length=8"])
def test_length_is_another_name_of_cutouts_size(line):
    choice = parse(["--dataset", "synthetic", *line.split()]).config().tricks["augment"]["cutout"]
    assert choice.options["size"] == 8


def test_the_probability_of_cutout_does_not_change_its_places():
    always, seldom = (hidden_in("cutout", ones(200), prob=prob) for prob in (1.0, 0.4))
    cut = seldom.flatten(1).any(1)
    assert torch.equal(seldom[cut], always[cut])


# Random erasing


def erased_boxes(count: int, height: int = 32, width: int = 32, **options) -> np.ndarray:
    """(count, 4) top, left, height and width of the rectangles of random erasing in images of H x W."""
    batch = batch_of(torch.full((count, 1, height, width), 9.0))
    out = build("random_erasing", prob=1.0, **options).apply(batch, Rng(0)).x
    return np.array([rectangle(mask) for mask in (out != 9)[:, 0]])


@pytest.mark.parametrize(("height", "width"), [(32, 32), (96, 96), (20, 44)])
@pytest.mark.parametrize(("area", "ratio"), [((0.02, 0.4), 0.3), ((0.1, 0.9), 0.5)])
def test_random_erasing_draws_the_rectangles_of_the_authors_code(height, width, area, ratio):
    generator = random.Random(0)
    known = [random_erasing_box(generator, (height, width), area, ratio) for _ in range(3000)]
    drawn = erased_boxes(1500, height, width, area_min=area[0], area_max=area[1], ratio_min=ratio)
    assert (drawn[:, 2:] < [height, width]).all()
    for measure in (
        lambda top, left, h, w: h * w,
        lambda top, left, h, w: np.log(h / w),
        lambda top, left, h, w: top / (height - h),  # any place where it fits is equally likely
        lambda top, left, h, w: left / (width - w),
    ):
        assert stats.ks_2samp(measure(*drawn.T), measure(*np.array(known).T)).pvalue > 1e-3


def test_random_erasing_hides_a_fifth_of_an_image_as_torchvision_does():
    """The place is drawn among those that fit: drawn with the size, it would hide 0.142 of the image."""
    areas = erased_boxes(4000)[:, 2:].prod(1) / 32**2
    error = areas.std() / math.sqrt(len(areas))
    assert abs(areas.mean() - 0.2015) < 4 * error  # of the authors' code, by integration
    # torchvision draws the logarithm of the ratio, which rejects fewer rectangles: 0.2036.
    torch.manual_seed(0)
    image, draw = torch.zeros(1, 32, 32), torchvision.transforms.RandomErasing.get_params
    theirs = [draw(image, (0.02, 0.4), (0.3, 1 / 0.3), [0]) for _ in range(4000)]
    assert abs(areas.mean() - np.mean([h * w / 32**2 for _, _, h, w, _ in theirs])) < 0.002 + 5 * error


def test_random_erasing_fills_every_channel_with_values_from_black_to_white():
    out = build("random_erasing", prob=0.5).apply(batch_of(torch.full((1500, 3, 32, 32), 9.0)), Rng(0)).x
    masks = (out != 9).any(1)
    assert torch.equal(masks, (out != 9).all(1))
    assert has_fraction(masks.flatten(1).any(1).sum(), 1500, 0.5)
    noise = out.movedim(1, -1)[masks]  # (n, C)
    for channel in range(3):
        assert is_uniform(noise[:20_000, channel], BLACK[channel].item(), WHITE[channel].item())


@pytest.mark.parametrize("prob", [1e-9, 1.0])
def test_random_erasing_erases_no_image_or_every_one(prob):
    out = build("random_erasing", prob=prob).apply(batch_of(torch.full((500, 1, 8, 8), 9.0)), Rng(0)).x
    assert ((out != 9).flatten(1).any(1) == (prob == 1)).all()


# Fills


def filled(name: str, **options) -> Tensor:
    """(images, C, n) values of some pixels that are hidden in each image."""
    out = build(name, **options).apply(sevens(150), Rng(1, name)).x
    hidden = (out != 7).all(1)
    assert torch.equal(hidden, (out != 7).any(1))
    return torch.stack([x[:, mask][:, :4] for x, mask in zip(out, hidden, strict=True) if mask.sum() >= 4])


@pytest.mark.parametrize(
    ("name", "fill", "value"),
    [("cutout", "mean", torch.zeros(3)), ("cutout", "black", BLACK), ("random_erasing", "black", BLACK)],
)
def test_erased_parts_are_filled_with_the_mean_colour_or_black(name, fill, value):
    values = filled(name, fill=fill)
    assert torch.equal(values, value[None, :, None].expand_as(values))


@pytest.mark.parametrize(
    ("name", "fill", "distinct"),
    [
        ("cutout", "noise", (3, 4)),
        ("random_erasing", "pixel", (3, 4)),
        ("random_erasing", "channel", (3, 1)),
        ("random_erasing", "constant", (1, 1)),
    ],
)
def test_noise_is_uniform_from_black_to_white_for_each_pixel_channel_or_rectangle(name, fill, distinct):
    values = filled(name, fill=fill)
    level = (values - BLACK[:, None]) / (WHITE - BLACK)[:, None]
    drawn = level[:, : distinct[0], : distinct[1]]
    torch.testing.assert_close(level, drawn.expand_as(level))
    assert is_uniform(drawn.flatten())
    assert len(drawn.unique()) > 0.99 * drawn.numel()


def test_fills_keep_the_type_of_the_pixels():
    batch = sevens(8)
    batch = batch.replace(x=batch.x.bfloat16())
    for name, fill in (("cutout", "black"), ("cutout", "noise"), ("random_erasing", "channel")):
        assert build(name, fill=fill).apply(batch, Rng(0)).x.dtype == torch.bfloat16


def test_random_erasing_with_compat_blackens_an_image_with_probability_1_minus_prob():
    line = "--dataset synthetic --random-erase --random-erase-prob 0.2 --compat pprp-2021"
    choice = parse(line.split()).config().tricks["augment"]["random_erasing"]
    assert (choice.options["fill"], choice.options["inverted"]) == ("black", True)

    x = torch.randint(1, 256, (2000, 3, 32, 32), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    mean, std = torch.tensor([0.4, 0.5, 0.6])[:, None, None], torch.tensor([0.2, 0.3, 0.25])[:, None, None]
    normalize = Normalize(mean, std)
    steps = [Step("normalize", Stage.NORMALIZE, normalize), Step("erase", Stage.ERASE, choice.build())]
    out = pipeline(steps)(Batch(x, torch.ones(2000, 1), torch.arange(2000)), Rng(0)).x
    hidden = (out != normalize.pixels(x)).any(1, keepdim=True)
    assert has_fraction(hidden.flatten(1).any(1).sum(), 2000, 0.8)
    # That project set pixels to 0 and normalised afterwards.
    torch.testing.assert_close(out, normalize.pixels(x.masked_fill(hidden, 0)))


# Hide-and-Seek


@pytest.mark.parametrize("prob", [0.01, 0.25, 0.5, 0.99])
def test_hide_and_seek_hides_each_patch_of_the_grid_with_its_probability(prob):
    hidden = hidden_in("hide_and_seek", ones(500, 3), prob=prob, patch=8)
    patches = F.avg_pool2d(hidden.float()[:, None], 8)[:, 0]  # (B, 4, 4): each hidden as a whole, or not
    assert ((patches == 0) | (patches == 1)).all()
    assert has_fraction(patches.sum(), patches.numel(), prob)
    for row, column in product(range(4), repeat=2):
        assert has_fraction(patches[:, row, column].sum(), 500, prob)


def test_hide_and_seek_draws_patches_independently():
    hidden = hidden_in("hide_and_seek", ones(4000, 1, 16, 16), patch=8)[:, ::8, ::8].flatten(1)
    codes = (hidden * torch.tensor([1, 2, 4, 8])).sum(1)
    assert stats.chisquare(np.bincount(codes, minlength=16)).pvalue > 1e-3


def test_hide_and_seek_clips_patches_at_the_border():
    hidden = hidden_in("hide_and_seek", ones(300, 1, 7, 10), patch=4)
    for rows, columns in product((slice(0, 4), slice(4, 7)), (slice(0, 4), slice(4, 8), slice(8, 10))):
        patch = hidden[:, rows, columns].flatten(1)
        assert torch.equal(patch.all(1), patch.any(1))
        assert has_fraction(patch.all(1).sum(), 300, 0.5)


# GridMask


@pytest.mark.parametrize(("ratio", "unit_min", "unit_max"), [(0.4, 24, 32), (0.6, 6, 9), (0.5, 8, 8)])
def test_gridmask_keeps_the_fraction_of_pixels_stated_in_the_paper(ratio, unit_min, unit_max):
    batch = ones(3000)
    hidden = hidden_in("gridmask", batch, ratio=ratio, unit_min=unit_min, unit_max=unit_max).float()
    units = range(unit_min, unit_max + 1)
    # A side is a whole number of pixels, so the kept ratio is 2r - r^2 up to its rounding.
    expected = np.mean([1 - (round((1 - ratio) * d) / d) ** 2 for d in units])
    assert abs(expected - (2 * ratio - ratio**2)) < 0.03
    kept = 1 - hidden.mean((1, 2))
    assert abs(kept.mean() - expected) <= 4 * kept.std() / math.sqrt(len(kept)) + 1e-6
    assert has_fraction((1 - hidden[:, 3, 29]).sum(), len(hidden), expected)  # the same for every pixel


def test_gridmask_hides_squares_at_the_corners_of_a_lattice_with_any_offset():
    d, side, size = 6, 4, 18
    hidden = hidden_in("gridmask", ones(2000, 2, size, size), ratio=1 / 3, unit_min=d, unit_max=d)
    known = {}
    for down, across in product(range(d), repeat=2):
        image = np.zeros((size, size), bool)
        for i, j in product(range(size), repeat=2):
            image[i, j] = (i + down) % d < side and (j + across) % d < side
        known[image.tobytes()] = 0
    for image in hidden:
        known[image.numpy().tobytes()] += 1
    assert len(known) == d * d
    assert stats.chisquare(list(known.values())).pvalue > 1e-3


def test_gridmask_draws_units_of_all_sizes():
    hidden = hidden_in("gridmask", ones(2000, 1, 80, 80), ratio=0.5, unit_min=20, unit_max=24)
    starts = hidden.any(2).float().diff(dim=1) == 1
    units = [int(rows.nonzero()[:2].diff(dim=0)) for rows in starts if rows.sum() >= 2]
    counts = np.bincount(units, minlength=25)[20:]
    assert counts.sum() == 2000 and stats.chisquare(counts).pvalue > 1e-3


def test_the_probability_of_gridmask_rises_over_its_ramp():
    for epoch, fraction in ((0, 0.0), (5, 0.4), (10, 0.8), (30, 0.8)):
        batch = ones(2000).replace(epoch=epoch)
        hidden = hidden_in("gridmask", batch, prob=0.8, ramp=10)
        assert has_fraction(hidden.flatten(1).any(1).sum(), 2000, fraction)
