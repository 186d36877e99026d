"""Contracts over the registry of augmentations, and each one against its paper."""

import copy
import random
from collections import Counter
from dataclasses import fields
from itertools import permutations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy import stats
from torch import Tensor

import lib.augment.pipeline
from lib.augment.pipeline import Normalize, Step, pipeline
from lib.core.batch import Batch, PixelScale
from lib.core.facts import Stage
from lib.core.registry import Entry, augmentations
from lib.core.rng import Rng
from tests.helpers.references import crops, cutmix_weight, cutouts, random_erasing_box, rectangle


def per_stage(*stages: Stage) -> list[str]:
    return [entry.name for entry in augmentations.entries() if entry.facts.stage in stages]


ALL = augmentations.names()
# Each image has a draw of its own.
PER_SAMPLE = per_stage(Stage.GEOMETRY, Stage.COLOR, Stage.TONE, Stage.ERASE)
MIXES = per_stage(Stage.MIX)
RANDOM = PER_SAMPLE + MIXES
K = 5

every = pytest.mark.parametrize("name", ALL)


def build(name: str, **options):
    return augmentations[name].build(**options)


def images(count: int, channels: int = 3, height: int = 32, width: int = 32, seed: int = 0) -> Tensor:
    """Random uint8 pixels, none of them black."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(1, 256, (count, channels, height, width), generator=generator).to(torch.uint8)


def batch_of(x: Tensor, y: Tensor | None = None, epoch: int = 3) -> Batch:
    index = torch.arange(len(x))
    ends = torch.full((2, x.shape[1], 1, 1), 2.0)
    scale = PixelScale(black=-ends[0], white=ends[1]) if x.is_floating_point() else None
    y = F.one_hot(index % K, K).float() if y is None else y
    return Batch(x, y, index + 10, epoch, scale=scale)


def example(entry: Entry, count: int = 8, channels: int = 3, height: int = 32, width: int = 32) -> Batch:
    """A batch as an augmentation of this stage meets it."""
    x = images(count, channels, height, width)
    return batch_of(x if entry.facts.stage < Stage.NORMALIZE else x.float() / 64 - 2)


def painted(colours: int = 3, count: int = 64, side: int = 32) -> Batch:
    """Images in the colour of their class: the mean colour is the right target, whatever is mixed."""
    y = torch.eye(colours)[torch.arange(count) % colours]
    return batch_of(y[:, :, None, None].expand(count, colours, side, side), y)


def numbered_pixels(count: int, channels: int = 1, height: int = 8, width: int = 8) -> Tensor:
    """Images (count, channels, height, width) in which every pixel is told from the others."""
    return torch.arange(1, height * width + 1).view(1, 1, height, width).repeat(count, channels, 1, 1)


def same(one: Batch, other: Batch) -> bool:
    pairs = [(getattr(one, f.name), getattr(other, f.name)) for f in fields(Batch) if f.name != "scale"]
    return all(torch.equal(a, b) if isinstance(a, Tensor) else a == b for a, b in pairs)


def assert_share(count: int, total: int, share: float) -> None:
    assert stats.binomtest(int(count), total, share).pvalue > 1e-3


# Contracts


@every
@pytest.mark.parametrize("shape", [(1, 3, 32, 32), (7, 1, 24, 40), (8, 3, 40, 24), (2, 1, 16, 16)], ids=str)
def test_a_batch_of_any_shape_keeps_its_form_and_its_targets_stay_probabilities(name, shape):
    batch, stage = example(augmentations[name], *shape), augmentations[name].facts.stage
    for seed in range(5):
        out = build(name)(batch, Rng(seed, name))
        assert out.x.shape == (shape[0] * out.views, *shape[1:]) or stage is Stage.RESIZE
        assert out.x.dtype == batch.x.dtype
        assert out.x.isfinite().all()
        assert out.y.shape == (len(out), K)
        assert (out.y >= 0).all()
        torch.testing.assert_close(out.y.sum(1), torch.ones(len(out)))
        assert torch.equal(out.index, batch.index.repeat_interleave(out.views)) or stage is Stage.REPEAT
        assert out.epoch == batch.epoch
        assert out.teacher is None


@every
def test_nothing_is_written_into_the_batch_that_comes_in(name):
    batch = example(augmentations[name])
    before = copy.deepcopy(batch)
    out = build(name)(batch, Rng(0, name))
    assert same(batch, before)
    # What comes out may share memory with what came in only where it is the very same.
    assert out.x.data_ptr() != batch.x.data_ptr() or torch.equal(out.x, before.x)


@every
def test_equal_keys_do_the_same_whatever_the_global_generators_hold(name):
    batch = example(augmentations[name])
    torch.manual_seed(1)
    out = build(name)(batch, Rng(0, name))
    torch.manual_seed(2)
    assert same(build(name)(batch, Rng(0, name)), out)


@pytest.mark.parametrize("name", RANDOM)
def test_another_key_does_something_else(name):
    batch = example(augmentations[name])
    distinct = {build(name)(batch, Rng(seed, name)).x.numpy().tobytes() for seed in range(20)}
    assert len(distinct) > 15


@pytest.mark.parametrize("name", PER_SAMPLE)
def test_every_image_of_a_batch_has_a_draw_of_its_own(name):
    batch = example(augmentations[name], 1).take(torch.zeros(64, dtype=torch.int64))
    counts = Counter(image.numpy().tobytes() for image in build(name)(batch, Rng(0, name)).x.contiguous())
    assert len(counts) > 1
    assert max(counts.values()) < 56


@pytest.mark.parametrize("name", MIXES)
def test_a_mix_has_one_draw_for_the_whole_batch(name):
    # Every image a class of its own: rows with all their partners distinct hold the same weights.
    batch = batch_of(torch.zeros(64, 3, 32, 32), torch.eye(64))
    for seed in range(10):
        weights = build(name)(batch, Rng(seed, name)).y.sort(descending=True).values
        parts = (weights > 0).sum(1)
        full = weights[parts == parts.max()]
        torch.testing.assert_close(full, full[:1].expand_as(full))


@pytest.mark.parametrize("name", MIXES)
def test_a_mix_per_sample_has_a_draw_for_every_sample(name):
    batch = batch_of(torch.zeros(64, 3, 32, 32), torch.eye(64))
    weights = build(name, per_sample=True)(batch, Rng(0, name)).y.sort(descending=True).values
    assert len({tuple(row) for row in weights.tolist()}) > 12  # of a mix with square boxes, 32 are possible


@pytest.mark.parametrize("per_sample", [False, True])
@pytest.mark.parametrize("name", MIXES)
@pytest.mark.parametrize("seed", range(20))
def test_target_is_the_true_share_of_each_class_in_the_pixels(name, seed, per_sample):
    out = build(name, per_sample=per_sample)(painted(), Rng(seed, name))
    torch.testing.assert_close(out.x.mean((2, 3)), out.y, atol=1e-5, rtol=0)


@pytest.mark.parametrize("per_sample", [False, True])
@pytest.mark.parametrize("seed", range(20))
def test_target_is_the_true_share_of_each_class_with_every_mix_on(seed, per_sample):
    prepare = pipeline([Step(name, Stage.MIX, build(name, per_sample=per_sample)) for name in MIXES])
    out = prepare(painted(), Rng(seed))
    torch.testing.assert_close(out.x.mean((2, 3)), out.y, atol=1e-5, rtol=0)


# The pipeline


class Spy:
    """A map that notes when it is called and what it would make of the same batch every time."""

    def __init__(self, name: str, calls: list[str]):
        self.name, self.calls, self.map, self.made = name, calls, build(name), None
        self.prob, self.applies = getattr(self.map, "prob", None), self.map.applies

    def __call__(self, batch: Batch, rng: Rng) -> Batch:
        assert batch.x.is_floating_point() == (augmentations[self.name].facts.stage > Stage.NORMALIZE)
        self.calls.append(self.name)
        self.made = self.map(example(augmentations[self.name]), Rng(*rng.key))
        return self.map(batch, rng)


STATISTICS = (torch.tensor([0.4, 0.5, 0.6])[:, None, None], torch.tensor([0.1, 0.2, 0.3])[:, None, None])
NORMALIZE = Step("normalize", Stage.NORMALIZE, Normalize(*STATISTICS))


def spied(names: list[str], rng: Rng) -> tuple[Batch, list[str], dict[str, Batch | None]]:
    """The batch that these augmentations make, who was called, and what each makes of its example."""
    calls: list[str] = []
    spies = {name: Spy(name, calls) for name in names}
    steps = [Step(name, augmentations[name].facts.stage, spy) for name, spy in spies.items()]
    out = pipeline([*steps, NORMALIZE])(batch_of(images(8)), rng)
    return out, calls, {name: spy.made for name, spy in spies.items()}


def test_the_stages_follow_the_design():
    order = "REPEAT GEOMETRY COLOR NORMALIZE TONE ERASE MIX RESIZE LABEL SHARE TEACH"
    assert [stage.name for stage in sorted(Stage)] == order.split()


@pytest.mark.parametrize("seed", range(3))
def test_maps_are_applied_in_the_order_of_their_stages_whatever_the_order_of_the_flags(seed):
    out, calls, _ = spied(ALL, Rng(seed))
    assert sum(name in MIXES for name in calls) == 1
    assert set(calls) - set(MIXES) == set(ALL) - set(MIXES)
    stages = [augmentations[name].facts.stage for name in calls]
    assert stages == sorted(stages)
    for names in (ALL[::-1], ALL[3:] + ALL[:3]):
        again, same_calls, _ = spied(names, Rng(seed))
        assert same_calls == calls
        assert same(again, out)


@pytest.mark.parametrize(("name", "other"), [*permutations(ALL, 2)])
def test_switching_one_trick_on_leaves_the_draws_of_another_as_they_were(name, other):
    compared = 0
    for seed in range(5):
        alone, together = (spied(names, Rng(seed))[2][name] for names in ([name], [name, other]))
        if together is not None:  # of two mixes one is drawn
            assert same(alone, together)
            compared += 1
    assert compared or name in MIXES


def test_two_of_the_same_stage_draw_apart():
    step = augmentations["crop"]  # two crops under two names move an image in two ways
    batch = batch_of(images(64))
    one, other = (pipeline([Step(n, Stage.GEOMETRY, step.build())])(batch, Rng(0)).x for n in "ab")
    assert not torch.equal(one, other)


class Marked(lib.augment.pipeline.Mix):
    """A mix that leaves its mark."""

    def __init__(self, mark: int, prob: float):
        super().__init__(prob=prob)
        object.__setattr__(self, "mark", mark)

    def __call__(self, batch: Batch, rng: Rng) -> Batch:
        return batch.replace(x=batch.x + self.mark)


@pytest.mark.parametrize(
    ("probs", "shares"),
    [
        ((0.3, 0.2), (0.5, 0.3, 0.2)),  # the first share is that of the batches left as they are
        ((1.0, 0.5), (0.0, 2 / 3, 1 / 3)),
        ((1.0, 1.0, 1.0), (0.0, 1 / 3, 1 / 3, 1 / 3)),
        ((0.25,), (0.75, 0.25)),
        ((1.0,), (0.0, 1.0)),
    ],
)
def test_mixes_are_drawn_in_their_shares_and_above_one_as_weights(probs, shares):
    steps = [Step(f"m{mark}", Stage.MIX, Marked(mark, prob)) for mark, prob in enumerate(probs, start=1)]
    prepare, batch = pipeline(steps), batch_of(torch.zeros(1, 1, 1, 1))
    drawn = Counter(int(prepare(batch, Rng(seed)).x) for seed in range(3000))
    assert set(drawn) == {mark for mark, share in enumerate(shares) if share}
    expected = [3000 * share for share in shares if share]
    counts = [drawn[mark] for mark, share in enumerate(shares) if share]
    assert len(counts) == 1 or stats.chisquare(counts, expected).pvalue > 1e-3


def test_without_augmentations_a_batch_stays_what_it_is():
    batch = batch_of(images(4))
    assert same(pipeline([])(batch, Rng(0)), batch)


def test_normalised_pixels_have_the_statistics_taken_off():
    batch = batch_of(images(4, height=5, width=6))
    out = NORMALIZE.map(batch, Rng(0)).x
    mean, std = (values.double() for values in STATISTICS)
    torch.testing.assert_close(out.double(), (batch.x.double() / 255 - mean) / std, atol=1e-5, rtol=1e-5)
    assert out.dtype == torch.float32


# Each against its paper


@pytest.mark.parametrize("mode", ["zero", "reflect"])
@pytest.mark.parametrize(("height", "width", "padding"), [(8, 8, 4), (6, 9, 2), (9, 17, 6)])
def test_crops_are_those_of_the_padded_image_and_every_offset_is_equally_likely(mode, height, width, padding):
    offsets = (2 * padding + 1) ** 2
    x = numbered_pixels(60 * offsets, 2, height, width).to(torch.uint8)
    out = build("crop", padding=padding, mode=mode)(batch_of(x), Rng(0)).x
    known = crops(x[0, 0].numpy(), padding, mode)
    assert len(known) == offsets
    assert torch.equal(out[:, 0], out[:, 1])  # channels move together
    counts = Counter(known[image.numpy().tobytes()] for image in out[:, 0].contiguous())
    assert len(counts) == offsets
    assert stats.chisquare(list(counts.values())).pvalue > 1e-3


@pytest.mark.gpu
def test_the_same_crops_are_the_same_pixels_on_a_gpu():
    x, offsets = images(64), torch.randint(0, 9, (2, 64), generator=torch.Generator().manual_seed(0))

    class Fixed(Rng):
        def integers(self, low: int, high: int, *shape: int, like: Tensor) -> Tensor:
            return offsets.to(like.device)

    on_cpu, on_gpu = (build("crop")(batch_of(pixels), Fixed(0)).x for pixels in (x, x.cuda()))
    assert torch.equal(on_gpu.cpu(), on_cpu)


@pytest.mark.parametrize("prob", [0.0, 0.3, 0.5, 1.0])
def test_a_flip_mirrors_the_asked_share_of_the_images_and_leaves_the_rest(prob):
    x = images(4000, 1, 3, 4)
    out = build("flip", prob=prob)(batch_of(x), Rng(0)).x
    kept, mirrored = ((out == form).flatten(1).all(1) for form in (x, torch.flip(x, dims=[3])))
    assert (kept ^ mirrored).all()
    assert_share(mirrored.sum(), 4000, prob)


def test_alternating_flips_mirror_each_image_in_exactly_every_other_epoch():
    count, flip = 2000, build("flip", alternating=True)
    x = images(count, 1, 3, 4)

    def mirrored(epoch: int, *key: int) -> Tensor:
        """Which images are mirrored, drawn as a run does: in two batches, in an order of the epoch's."""
        found = torch.empty(count, dtype=torch.bool)
        for step, index in enumerate(Rng(9, epoch).permutation(count).split(count // 2)):
            batch = Batch(x[index], torch.ones(len(index), 1), index, epoch)
            out = flip(batch, Rng(0, step + 2 * epoch, *key, "flip")).x
            assert ((out == x[index]) | (out == x[index].flip(3))).all(3).all(2).all()
            found[index] = (out != x[index]).flatten(1).any(1)
        return found

    first = mirrored(0)
    assert_share(first.sum(), count, 0.5)
    for epoch in range(1, 5):
        assert torch.equal(mirrored(epoch), first ^ (epoch % 2 == 1))
    assert torch.equal(mirrored(0, 1), first)  # another step or rank of the epoch
    other = flip(Batch(x, torch.ones(count, 1), torch.arange(count), 0), Rng(1, 0, "flip")).x
    assert_share(((other != x).flatten(1).any(1) ^ first).sum(), count, 0.5)  # another seed


@pytest.mark.parametrize(("height", "width", "size"), [(12, 9, 4), (9, 12, 3), (8, 8, 10), (6, 6, 1)])
def test_cutout_hides_a_square_around_any_pixel_clipped_by_the_border(height, width, size):
    out = build("cutout", size=size)(batch_of(torch.ones(60 * height * width, 2, height, width)), Rng(0)).x
    assert torch.equal(out[:, 0], out[:, 1])  # all channels
    known = cutouts(height, width, size)
    counts = Counter(image.numpy().tobytes() for image in out[:, 0].contiguous())
    assert set(counts) == set(known)
    centres = [len(known[image]) for image in counts]  # a large square hides the same from several
    expected = np.array(centres) / (height * width) * len(out)
    assert stats.chisquare(list(counts.values()), expected).pvalue > 1e-3


def test_random_erasing_fills_rectangles_of_the_papers_areas_and_ratios():
    count, side, area, ratio = 1500, 96, (0.02, 0.4), 0.3
    out = build("random_erasing", prob=0.5)(batch_of(torch.full((count, 3, side, side), 9.0)), Rng(0)).x
    masks = (out != 9).any(1)
    assert torch.equal(masks, (out != 9).all(1))  # in every channel
    boxes = [box for mask in masks if (box := rectangle(mask))]
    assert_share(len(boxes), count, 0.5)
    generator = random.Random(0)
    expected = [random_erasing_box(generator, side, area, ratio) for _ in range(3000)]
    areas, ratios = ([f(box[2], box[3]) for box in boxes] for f in (lambda h, w: h * w, lambda h, w: h / w))
    # Heights and widths are rounded to pixels, so a thin box may miss the range by half a pixel's worth.
    assert area[0] * 0.9 < min(areas) / side**2 < max(areas) / side**2 < area[1] * 1.03
    assert ratio * 0.93 < min(ratios) < max(ratios) < 1.07 / ratio
    assert stats.ks_2samp(areas, [h * w for h, w in expected]).pvalue > 1e-3
    assert stats.ks_2samp(np.log(ratios), [np.log(h / w) for h, w in expected]).pvalue > 1e-3
    noise = out[:50][(out[:50] != 9)]
    assert stats.kstest(noise[:20_000], stats.uniform(-2, 4).cdf).pvalue > 1e-3


@pytest.mark.parametrize("prob", [0.0, 1.0])
def test_random_erasing_erases_no_image_or_every_one(prob):
    out = build("random_erasing", prob=prob)(batch_of(torch.full((500, 1, 8, 8), 9.0)), Rng(0)).x
    assert ((out != 9).flatten(1).any(1) == bool(prob)).all()


def kept_weights(name: str, count: int, **options) -> list[float]:
    """The weight of an image's own label in many batches."""
    batch, found = batch_of(torch.zeros(8, 1, 32, 32), torch.eye(8)), []
    for seed in range(count):
        y = build(name, **options)(batch, Rng(seed, name)).y
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
    out = build("mixup")(batch_of(noise, torch.eye(64)), Rng(0))
    expected = torch.einsum("ij,jchw->ichw", out.y, noise)  # the labels tell who was mixed, and how
    torch.testing.assert_close(out.x, expected, atol=1e-5, rtol=1e-5)
    assert (out.y > 0).sum() > 64


@pytest.mark.parametrize("alpha", [0.5, 1.0])
def test_cutmix_pastes_boxes_as_large_as_those_of_its_authors(alpha):
    side, generator = 32, np.random.default_rng(0)
    x = torch.arange(8)[:, None, None, None] * 10_000 + numbered_pixels(8, 1, side, side)
    found = []
    for seed in range(700):
        out = build("cutmix", alpha=alpha)(batch_of(x.double(), torch.eye(8).double()), Rng(seed, "cutmix"))
        assert torch.equal(out.x.long() % 10_000, x % 10_000)  # a pixel is pasted where it came from
        pasted = [box for mask in (out.x != x)[:, 0] if (box := rectangle(mask))]
        found.append(1 - (pasted[0][2] * pasted[0][3] if pasted else 0) / side**2)
        assert len(set(pasted)) <= 1
    expected = [cutmix_weight(generator, side, alpha) for _ in range(3000)]
    assert stats.ks_2samp(found, expected).pvalue > 1e-3


def test_the_label_of_cutmix_is_the_area_of_the_box_that_the_border_left():
    x = torch.arange(8.0)[:, None, None, None].expand(8, 1, 20, 12)
    for seed in range(50):
        out = build("cutmix")(batch_of(x, torch.eye(8)), Rng(seed, "cutmix"))
        shares = torch.stack([(out.x == image).float().mean((1, 2, 3)) for image in range(8)], 1)
        torch.testing.assert_close(out.y, shares)


def test_ricap_patches_four_crops_whose_areas_are_their_weights():
    H, W = 16, 24
    x = torch.arange(8)[:, None, None, None] * 1000 + numbered_pixels(8, 1, H, W) - 1
    rows, columns = [], []
    for seed in range(400):
        out = build("ricap")(batch_of(x.double(), torch.eye(8).double()), Rng(seed, "ricap"))
        source = out.x[:, 0].long() // 1000
        shares = F.one_hot(source, 8).double().mean((1, 2))
        torch.testing.assert_close(out.y, shares)
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
        shares = np.diff(stats.beta(0.3, 0.3).cdf(edges / size))
        counts = np.histogram([seam for seam in found if seam], edges)[0]
        expected = [*shares, 1 - shares.sum()]
        assert stats.chisquare([*counts, found.count(0)], np.array(expected) * len(found)).pvalue > 1e-3


@pytest.mark.parametrize("epsilon", [0.0, 0.1, 1.0])
def test_smoothed_labels_give_torchs_smoothed_loss(epsilon):
    batch = batch_of(torch.zeros(12, 1, 4, 4))
    logits = torch.randn(12, K, generator=torch.Generator().manual_seed(0))
    y = build("label_smoothing", epsilon=epsilon)(batch, Rng(0)).y
    loss = -(y * logits.log_softmax(1)).sum(1).mean()
    hard = batch.y.argmax(1)
    torch.testing.assert_close(loss, F.cross_entropy(logits, hard, label_smoothing=epsilon))
