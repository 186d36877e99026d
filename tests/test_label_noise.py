"""Label noise and long tails: their counts, their classes, and that evaluation never sees them."""

from itertools import pairwise

import pytest
import torch
from scipy.stats import chisquare

import train
from lib.config.cli import parse
from lib.config.schema import Config
from lib.core.errors import BadInput
from lib.core.registry import datasets
from lib.data.base import Split
from lib.data.label_noise import mislabelled
from lib.data.long_tail import long_tailed
from lib.factory import build, training_part

SYNTHETIC = "--model resnet20 --dataset synthetic --data.size 400 --data.classes 4 --image-size 8 --bs 4"


def split_of(sizes: list[int]) -> Split:
    """A split with these numbers of images per class, shuffled; the pixels of an image are its number."""
    y = torch.cat([torch.full((size,), k) for k, size in enumerate(sizes)])
    y = y[torch.randperm(len(y), generator=torch.Generator().manual_seed(0))]
    return Split(torch.arange(len(y))[:, None], y)


def config(line: str) -> Config:
    return parse(line.split()).config()


def confusion(clean: Split, noisy: Split, K: int) -> torch.Tensor:
    assert torch.equal(clean.x, noisy.x)
    return torch.bincount(clean.y * K + noisy.y, minlength=K * K).view(K, K)


@pytest.mark.parametrize("noise", [0.1, 0.4, 0.8])
@pytest.mark.parametrize("K", [2, 10])
def test_symmetric_noise_gives_a_fraction_of_the_labels_another_class_uniformly(noise, K):
    clean = split_of([2_000] * K)
    table = confusion(clean, mislabelled(clean, noise, "symmetric", K), K)
    for k, row in enumerate(table.tolist()):
        expected = [2_000 * (1 - noise if j == k else noise / (K - 1)) for j in range(K)]
        assert chisquare(row, expected).pvalue > 1e-3


@pytest.mark.parametrize("noise", [0.2, 0.4, 1.0])
def test_asymmetric_noise_of_cifar10_has_the_pairs_of_the_paper(noise):
    names = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
    pairs = {"truck": "automobile", "bird": "airplane", "deer": "horse", "cat": "dog", "dog": "cat"}
    clean = split_of([1_000] * 10)
    table = confusion(
        clean, mislabelled(clean, noise, "asymmetric", 10, datasets["cifar10"].facts.mistaken), 10
    ).tolist()
    for k, row in enumerate(table):
        wrong = names.index(pairs[names[k]]) if names[k] in pairs else k
        assert row[k] + (row[wrong] if wrong != k else 0) == 1_000
        if wrong != k and noise < 1:
            expected = [1_000 * (1 - noise), 1_000 * noise]
            assert chisquare([row[k], row[wrong]], expected).pvalue > 1e-3
        else:
            assert row[wrong] == 1_000


def test_asymmetric_noise_of_other_sets_gives_the_next_class():
    clean = split_of([500] * 4)
    noisy = mislabelled(clean, 1.0, "asymmetric", 4)
    assert torch.equal(noisy.y, (clean.y + 1) % 4)


@pytest.mark.parametrize("kind", ["symmetric", "asymmetric"])
def test_noise_is_the_same_every_time_and_larger_noise_contains_the_smaller(kind):
    clean = split_of([100] * 5)
    one, again, more = (mislabelled(clean, noise, kind, 5).y for noise in (0.2, 0.2, 0.6))
    assert torch.equal(one, again)
    changed = one != clean.y
    assert 0.1 < changed.float().mean() < 0.3
    assert torch.equal(more[changed], one[changed])
    assert torch.equal(mislabelled(clean, 0.0, kind, 5).y, clean.y)


# The counts of Cui et al. 2019's exponential profile, as every later paper on these sets has them.
LONG_TAILED = {
    10: [5000, 3871, 2997, 2320, 1796, 1391, 1077, 834, 645, 500],
    50: [5000, 3237, 2096, 1357, 878, 568, 368, 238, 154, 100],
    100: [5000, 2997, 1796, 1077, 645, 387, 232, 139, 83, 50],
}


@pytest.mark.parametrize("imbalance", LONG_TAILED)
def test_long_tailed_cifar10_has_the_published_counts(imbalance):
    part = long_tailed(split_of([5_000] * 10), imbalance, 10)
    assert part.y.bincount().tolist() == LONG_TAILED[imbalance]


def test_long_tailed_cifar100_has_the_published_number_of_images():
    assert len(long_tailed(split_of([500] * 100), 100, 100)) == 10_847


def test_classes_of_different_sizes_keep_the_fractions_of_the_profile():
    part = long_tailed(split_of([100, 400, 90]), 9, 3)
    assert part.y.bincount().tolist() == [100, 133, 10]


def test_smaller_long_tailed_sets_lie_within_larger_ones_in_the_same_order():
    whole = split_of([300] * 4)
    parts = [set(long_tailed(whole, factor, 4).x[:, 0].tolist()) for factor in (1, 2, 10, 50)]
    assert all(small < large for large, small in pairwise(parts))
    numbers = long_tailed(whole, 10, 4).x[:, 0]
    assert torch.equal(numbers, numbers.sort().values)
    assert torch.equal(long_tailed(whole, 10, 4).y, whole.y[numbers])


@pytest.mark.parametrize(
    "options", ["--label-noise 0.5", "--imbalance 20", "--imbalance 20 --label-noise 0.5"]
)
def test_test_and_held_out_images_are_unchanged(options):
    plain, changed = (
        build(config(f"{SYNTHETIC} --val 0.2 --device cpu {extra}"), torch.device("cpu"), print)
        for extra in ("", options)
    )
    for name in ("val", "test"):
        assert torch.equal(plain.splits[name].x, changed.splits[name].x)
        assert torch.equal(plain.splits[name].y, changed.splits[name].y)
    assert not torch.equal(plain.data.split.y, changed.data.split.y)


def test_the_noise_does_not_depend_on_the_seed_of_the_run():
    one, other = (
        build(config(f"{SYNTHETIC} --label-noise 0.5 --device cpu --seed {seed}"), torch.device("cpu"), print)
        for seed in (0, 1)
    )
    assert torch.equal(one.data.split.y, other.data.split.y)
    assert not torch.equal(one.data.at(0).index, other.data.at(0).index)


def test_a_long_tail_shortens_the_epoch_and_batches_have_noisy_labels():
    run = build(
        config(f"{SYNTHETIC} --imbalance 8 --label-noise 0.5 --noise-type asymmetric --device cpu"),
        torch.device("cpu"),
        print,
    )
    # 100, 50, 25 and 12 images: no class is empty, and 4 make a batch.
    assert len(run.data.split) == 187
    assert run.data.steps_per_epoch == 46
    assert run.total == 46 * 200
    batch = run.data.at(3)
    assert torch.equal(batch.y.argmax(1), run.data.split.y[batch.index])
    counts = run.data.split.y.bincount(minlength=4).tolist()
    assert counts != [100, 50, 25, 12]


@pytest.mark.parametrize(
    ("line", "images", "steps"),
    [
        ("--dataset cifar10 --imbalance 100", 12_406, 96),
        ("--dataset cifar100 --imbalance 100 --label-noise 0.4", 10_847, 84),
        ("--dataset cifar10 --imbalance 10 --val 5000 --fraction 0.5", None, None),
        ("--dataset cifar10 --fraction 0.3 --val 0.1", 13_500, 105),
        (f"{SYNTHETIC} --imbalance 8", 187, 46),
    ],
)
def test_the_dry_run_counts_the_images_that_are_left(line, images, steps, capsys):
    assert train.main(f"--dry-run --model resnet20 {line}".split()) == 0
    text = capsys.readouterr().out
    if images is None:  # from 2,250 images in each class
        images = sum(int(2_250 * 0.1 ** (k / 9) + 1e-9) for k in range(10))
        steps = images // 128
    assert f"epochs of {steps:,} batches" in text
    assert f"{images:,} training" in text


def test_the_dry_run_and_the_run_have_the_same_part():
    chosen = config(f"{SYNTHETIC} --imbalance 8 --val 0.1 --fraction 0.7")
    run = build(
        config(f"{SYNTHETIC} --imbalance 8 --val 0.1 --fraction 0.7 --device cpu"), torch.device("cpu"), print
    )
    stand_in = Split(torch.empty(400, 0), torch.arange(400) % 4)
    part, held_out = training_part(chosen, stand_in, 4)
    assert len(part) == len(run.data.split)
    assert len(held_out) == len(run.splits["val"])


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("--label-noise 1.2", "label_noise must be from 0 to 1, got 1.2"),
        ("--imbalance 0.5", "imbalance must be at least 1, got 0.5"),
        ("--noise-type symetric", "did you mean symmetric"),
    ],
)
def test_a_wrong_value_is_refused(line, message):
    with pytest.raises(BadInput, match=message):
        config(line)


def test_a_single_class_has_neither_noise_nor_a_long_tail():
    alone = split_of([10])
    with pytest.raises(ValueError, match="label_noise must be 0"):
        mislabelled(alone, 0.1, "symmetric", 1)
    with pytest.raises(ValueError, match="imbalance must be 1"):
        long_tailed(alone, 2, 1)


def test_a_tail_without_images_is_refused():
    with pytest.raises(BadInput, match="data: imbalance must leave an image of every class, got 500"):
        build(config(f"{SYNTHETIC} --imbalance 500 --device cpu"), torch.device("cpu"), print)
