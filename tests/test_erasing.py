"""The maps that hide a part of an image, against the formulas of their papers."""

import math
from itertools import product

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy import stats
from torch import Tensor

from lib.augment.pipeline import Normalize, Step, pipeline
from lib.config.cli import parse
from lib.core.batch import Batch, PixelScale
from lib.core.facts import Stage
from lib.core.registry import augmentations
from lib.core.rng import Rng
from lib.engine.step import Run, train_step
from lib.factory import build as build_run
from lib.losses.cross_entropy import CrossEntropy
from tests.helpers.references import cutouts, rectangle

BLACK, WHITE = torch.tensor([-2.0, -1.5, -1.0]), torch.tensor([2.0, 2.5, 3.0])


def build(name: str, **options):
    return augmentations[name].build(**options)


def batch_of(x: Tensor, epoch: int = 0) -> Batch:
    C = x.shape[1]
    scale = PixelScale(black=BLACK[:C, None, None], white=WHITE[:C, None, None])
    return Batch(x, torch.ones(len(x), 1), torch.arange(len(x)), epoch, scale=scale)


def ones(count: int, channels: int = 1, height: int = 32, width: int = 32) -> Batch:
    return batch_of(torch.ones(count, channels, height, width))


def sevens(count: int) -> Batch:
    """Images of a value that no filling has."""
    return batch_of(torch.full((count, 3, 32, 32), 7.0))


def hidden_in(name: str, batch: Batch, seed: int = 0, **options) -> Tensor:
    """(B, H, W) which pixels of images of ones are hidden, in all channels alike."""
    out = build(name, **options)(batch, Rng(seed, name)).x
    assert ((out == 0) | (out == 1)).all()
    assert torch.equal(out, out[:, :1].expand_as(out))
    return out[:, 0] == 0


def assert_share(count: int, total: int, share: float) -> None:
    assert stats.binomtest(int(count), total, share).pvalue > 1e-3


# Cutout


@pytest.mark.parametrize(("height", "width", "size"), [(12, 9, 4), (9, 12, 3), (8, 8, 8)])
def test_a_square_inside_lies_whole_in_the_image_at_any_place_equally_often(height, width, size):
    places = (height - size + 1) * (width - size + 1)
    hidden = hidden_in("cutout", ones(60 * places, 2, height, width), size=size, inside=True)
    boxes = [rectangle(mask) for mask in hidden]
    assert {box[2:] for box in boxes} == {(size, size)}
    counts = np.unique([box[0] * width + box[1] for box in boxes], return_counts=True)[1]
    assert len(counts) == places
    assert places == 1 or stats.chisquare(counts).pvalue > 1e-3


def test_a_square_that_does_not_fit_inside_is_refused():
    with pytest.raises(ValueError, match="size must be at most the image's side 8 to lie inside, got 9"):
        build("cutout", size=9, inside=True)(ones(2, 1, 8, 8), Rng(0))


def test_holes_are_as_many_squares_drawn_apart():
    side, size, count = 10, 3, 6000
    # The chance that a pixel survives is that of the centres that leave it, once for each hole.
    visible = sum(
        np.frombuffer(image, np.float32).reshape(side, side) * len(centres)
        for image, centres in cutouts(side, side, size).items()
    )
    for holes in (1, 2, 5):
        expected = 1 - (visible / side**2) ** holes
        hidden = hidden_in("cutout", ones(count, 1, side, side), seed=holes, size=size, holes=holes)
        for row, column in product((0, 1, 5, 9), repeat=2):
            assert_share(hidden[:, row, column].sum(), count, expected[row, column])


@pytest.mark.parametrize("name", ["cutout", "gridmask", "random_erasing", "dual_cutout"])
@pytest.mark.parametrize("prob", [0.0, 0.3, 1.0])
def test_the_asked_share_of_the_images_is_touched(name, prob):
    batch = sevens(3000)
    out = build(name, prob=prob)(batch, Rng(0, name)).x
    touched = (out != 7).flatten(1).any(1)
    assert_share(touched.sum(), len(out), prob)


@pytest.mark.parametrize("line", ["--cutout 8", "--cutout-length 8", "augment.cutout.length=8"])
def test_the_length_of_cutout_is_its_size(line):
    choice = parse(["--dataset", "synthetic", *line.split()]).config().tricks["augment"]["cutout"]
    assert choice.options["size"] == 8


def test_the_probability_of_cutout_leaves_its_places_as_they_were():
    always, seldom = (hidden_in("cutout", ones(200), prob=prob) for prob in (1.0, 0.4))
    cut = seldom.flatten(1).any(1)
    assert torch.equal(seldom[cut], always[cut])


# Fillings


def filled(name: str, **options) -> Tensor:
    """(images, C, n) values of some pixels that are hidden in each image."""
    out = build(name, **options)(sevens(150), Rng(1, name)).x
    hidden = (out != 7).all(1)
    assert torch.equal(hidden, (out != 7).any(1))
    return torch.stack([x[:, mask][:, :4] for x, mask in zip(out, hidden, strict=True) if mask.sum() >= 4])


@pytest.mark.parametrize(
    ("name", "fill", "value"),
    [("cutout", "mean", torch.zeros(3)), ("cutout", "black", BLACK), ("random_erasing", "black", BLACK)],
)
def test_a_part_is_filled_with_the_mean_colour_or_black(name, fill, value):
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
    share = (values - BLACK[:, None]) / (WHITE - BLACK)[:, None]
    drawn = share[:, : distinct[0], : distinct[1]]
    torch.testing.assert_close(share, drawn.expand_as(share))
    assert stats.kstest(drawn.flatten().numpy(), "uniform").pvalue > 1e-3
    assert len(drawn.unique()) > 0.99 * drawn.numel()


def test_fillings_keep_the_type_of_the_pixels():
    batch = sevens(8)
    batch = batch.replace(x=batch.x.bfloat16())
    for name, fill in (("cutout", "black"), ("cutout", "noise"), ("random_erasing", "channel")):
        assert build(name, fill=fill)(batch, Rng(0)).x.dtype == torch.bfloat16


def test_random_erasing_in_the_older_projects_way_blackens_all_but_prob_of_the_images():
    line = "--dataset synthetic --random-erase --random-erase-prob 0.2 --compat pprp-2021"
    choice = parse(line.split()).config().tricks["augment"]["random_erasing"]
    assert (choice.options["fill"], choice.options["inverted"]) == ("black", True)

    x = torch.randint(1, 256, (2000, 3, 32, 32), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    mean, std = torch.tensor([0.4, 0.5, 0.6])[:, None, None], torch.tensor([0.2, 0.3, 0.25])[:, None, None]
    normalize = Normalize(mean, std)
    steps = [Step("normalize", Stage.NORMALIZE, normalize), Step("erase", Stage.ERASE, choice.build())]
    out = pipeline(steps)(Batch(x, torch.ones(2000, 1), torch.arange(2000)), Rng(0)).x
    hidden = (out != normalize.pixels(x)).any(1, keepdim=True)
    assert_share(hidden.flatten(1).any(1).sum(), 2000, 0.8)
    # What that project did: pixels set to 0 first, the statistics taken off afterwards.
    torch.testing.assert_close(out, normalize.pixels(x.masked_fill(hidden, 0)))


# Hide-and-Seek


@pytest.mark.parametrize("prob", [0.0, 0.25, 0.5, 1.0])
def test_hide_and_seek_hides_each_patch_of_the_grid_with_its_probability(prob):
    hidden = hidden_in("hide_and_seek", ones(500, 3), prob=prob, patch=8)
    patches = F.avg_pool2d(hidden.float()[:, None], 8)[:, 0]  # (B, 4, 4): each hidden as a whole, or not
    assert ((patches == 0) | (patches == 1)).all()
    assert_share(patches.sum(), patches.numel(), prob)
    for row, column in product(range(4), repeat=2):
        assert_share(patches[:, row, column].sum(), 500, prob)


def test_hide_and_seek_draws_the_patches_apart():
    hidden = hidden_in("hide_and_seek", ones(4000, 1, 16, 16), patch=8)[:, ::8, ::8].flatten(1)
    codes = (hidden * torch.tensor([1, 2, 4, 8])).sum(1)
    assert stats.chisquare(np.bincount(codes, minlength=16)).pvalue > 1e-3


def test_hide_and_seek_cuts_off_the_patches_at_the_border():
    hidden = hidden_in("hide_and_seek", ones(300, 1, 7, 10), patch=4)
    for rows, columns in product((slice(0, 4), slice(4, 7)), (slice(0, 4), slice(4, 8), slice(8, 10))):
        patch = hidden[:, rows, columns].flatten(1)
        assert torch.equal(patch.all(1), patch.any(1))
        assert_share(patch.all(1).sum(), 300, 0.5)


# GridMask


@pytest.mark.parametrize(("ratio", "unit_min", "unit_max"), [(0.4, 24, 32), (0.6, 6, 9), (0.5, 8, 8)])
def test_gridmask_keeps_the_papers_share_of_the_pixels(ratio, unit_min, unit_max):
    batch = ones(3000)
    shares = hidden_in("gridmask", batch, ratio=ratio, unit_min=unit_min, unit_max=unit_max).float()
    units = range(unit_min, unit_max + 1)
    # A side is a whole number of pixels, so the kept ratio is 2r - r^2 up to its rounding.
    expected = np.mean([1 - (round((1 - ratio) * d) / d) ** 2 for d in units])
    assert abs(expected - (2 * ratio - ratio**2)) < 0.03
    kept = 1 - shares.mean((1, 2))
    assert abs(kept.mean() - expected) <= 4 * kept.std() / math.sqrt(len(kept)) + 1e-6
    assert_share((1 - shares[:, 3, 29]).sum(), len(shares), expected)  # wherever the pixel lies


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
    for epoch, share in ((0, 0.0), (5, 0.4), (10, 0.8), (30, 0.8)):
        batch = ones(2000).replace(epoch=epoch)
        hidden = hidden_in("gridmask", batch, prob=0.8, ramp=10)
        assert_share(hidden.flatten(1).any(1).sum(), 2000, share)


# Dual cutout


def test_dual_cutout_makes_two_views_of_each_image_that_are_cut_apart():
    x = torch.arange(1.0, 201)[:, None, None, None].expand(200, 3, 32, 32)
    out = build("dual_cutout")(batch_of(x), Rng(0))
    assert out.views == 2 and len(out) == 400
    assert torch.equal(out.index, torch.arange(200).repeat_interleave(2))
    pairs = out.x.unflatten(0, (200, 2))
    assert ((pairs == 0) | (pairs == x[:, None])).all()
    differ = (pairs[:, 0] != pairs[:, 1]).flatten(1).any(1)
    assert differ.sum() > 190


def dual_loss(alpha: float = 0.1, **options):
    return build("dual_cutout", alpha=alpha, **options).loss(CrossEntropy())


@pytest.mark.parametrize("alpha", [0.0, 0.1, 2.0])
def test_the_loss_of_dual_cutout_is_both_cross_entropies_and_the_squared_difference(alpha):
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


def test_the_term_of_dual_cutout_is_absent_where_no_views_are_made():
    logits = torch.randn(6, 1, generator=torch.Generator().manual_seed(0)).expand(6, 5)
    base = CrossEntropy()
    batch = Batch(torch.zeros(6, 1, 2, 2), torch.ones(6, 5) / 5, torch.arange(6), epoch=3)
    assert torch.equal(dual_loss()(logits, batch), base(logits, batch))
    # Views that another map has made are no cut views outside its epochs.
    views = batch.replace(views=2)
    assert torch.equal(dual_loss(stop=3)(logits, views), base(logits, views))
    assert (dual_loss(stop=4)(logits, views) > base(logits, views)).all()


def test_of_more_views_dual_cutout_compares_the_two_that_it_cut_from_one():
    logits = torch.tensor([0.0, 0.0, 1.0, 1.0, 2.0, 5.0, 3.0, 3.0])[:, None].expand(8, 4)
    batch = Batch(torch.zeros(8, 1, 2, 2), torch.ones(8, 4) / 4, torch.arange(8), views=4)
    term = dual_loss(1.0)(logits, batch) - CrossEntropy()(logits, batch)
    torch.testing.assert_close(term, torch.tensor([0.0, 0, 0, 0, 9, 9, 0, 0]))


def tiny_run(line: str) -> Run:
    """A run with dual cutout; its BatchNorm does not mix the images, so that micro-batches change nothing."""
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
def test_micro_batches_keep_the_pairs_of_views_together(wrapper):
    whole, parts = (weights_after(tiny_run(f"{wrapper} --accumulate {n}"), 0, 1) for n in (1, 4))
    torch.testing.assert_close(parts, whole, atol=1e-5, rtol=1e-4)
    assert not torch.equal(weights_after(tiny_run(f"{wrapper} --dual-cutout-alpha 1"), 0, 1), whole)


def test_a_run_with_dual_cutout_that_is_moved_on_goes_the_same_way():
    line = "--sam --mixup --accumulate 2 --dual-cutout-start 1"
    undisturbed = weights_after(tiny_run(line), *range(2, 7))  # the views begin at step 4
    first, second = tiny_run(line), tiny_run(line)
    weights_after(first, 2, 3, 4)
    second.model.load_state_dict(first.model.state_dict())
    second.optimizer.load_state_dict(first.optimizer.state_dict())
    assert torch.equal(weights_after(second, 5, 6), undisturbed)
