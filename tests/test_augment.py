"""Contracts of all registered augmentations, in the pipeline and called on tensors."""

import copy
from collections import Counter

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from lib.augment.cutmix import CutMix
from lib.augment.cutout import Cutout
from lib.augment.flip import Flip
from lib.augment.pipeline import Normalize, Step, pipeline
from lib.core.batch import Batch
from lib.core.facts import Stage
from lib.core.registry import augmentations
from lib.core.rng import Rng
from tests.helpers.batches import K, batch_of, build, example, images, names_of, painted, same
from tests.helpers.distributions import has_fraction

ALL = augmentations.names()
PER_SAMPLE = names_of(Stage.GEOMETRY, Stage.COLOR, Stage.TONE, Stage.ERASE)  # one draw for each image
MIXES = names_of(Stage.MIX)
RANDOM = PER_SAMPLE + MIXES

every = pytest.mark.parametrize("name", ALL)


# In the pipeline


@every
@pytest.mark.parametrize("shape", [(1, 3, 32, 32), (7, 1, 24, 40), (8, 3, 40, 24), (2, 1, 16, 16)], ids=str)
def test_shapes_and_types_are_kept_and_targets_stay_probabilities(name, shape):
    batch, stage = example(augmentations[name], *shape), augmentations[name].facts.stage
    for seed in range(5):
        out = build(name).apply(batch, Rng(seed, name))
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
def test_the_input_batch_is_not_modified(name):
    batch = example(augmentations[name])
    before = copy.deepcopy(batch)
    out = build(name).apply(batch, Rng(0, name))
    assert same(batch, before)
    # The output may use the memory of the input only where it equals it.
    assert out.x.data_ptr() != batch.x.data_ptr() or torch.equal(out.x, before.x)


@every
def test_draws_depend_on_the_key_and_not_on_global_generators(name):
    batch = example(augmentations[name])
    torch.manual_seed(1)
    out = build(name).apply(batch, Rng(0, name))
    torch.manual_seed(2)
    assert same(build(name).apply(batch, Rng(0, name)), out)


@pytest.mark.parametrize("name", RANDOM)
def test_different_keys_make_different_draws(name):
    batch = example(augmentations[name])
    distinct = {build(name).apply(batch, Rng(seed, name)).x.numpy().tobytes() for seed in range(20)}
    assert len(distinct) > 15


@pytest.mark.parametrize("name", PER_SAMPLE)
def test_equal_images_of_a_batch_are_augmented_differently(name):
    batch = example(augmentations[name], 1).take(torch.zeros(64, dtype=torch.int64))
    counts = Counter(
        image.numpy().tobytes() for image in build(name).apply(batch, Rng(0, name)).x.contiguous()
    )
    assert len(counts) > 1
    assert max(counts.values()) < 56


@pytest.mark.parametrize("name", MIXES)
def test_a_mix_draws_its_weights_once_per_batch(name):
    # One class per image: rows whose partners are all distinct hold the same weights.
    batch = batch_of(torch.zeros(64, 3, 32, 32), torch.eye(64))
    for seed in range(10):
        weights = build(name).apply(batch, Rng(seed, name)).y.sort(descending=True).values
        parts = (weights > 0).sum(1)
        full = weights[parts == parts.max()]
        torch.testing.assert_close(full, full[:1].expand_as(full))


@pytest.mark.parametrize("name", MIXES)
def test_a_mix_per_sample_draws_weights_for_every_sample(name):
    batch = batch_of(torch.zeros(64, 3, 32, 32), torch.eye(64))
    weights = build(name, per_sample=True).apply(batch, Rng(0, name)).y.sort(descending=True).values
    assert len({tuple(row) for row in weights.tolist()}) > 12  # of a mix with square boxes, 32 are possible


@pytest.mark.parametrize("per_sample", [False, True])
@pytest.mark.parametrize("name", MIXES)
@pytest.mark.parametrize("seed", range(20))
def test_mixed_targets_are_the_fraction_of_each_class_in_the_pixels(name, seed, per_sample):
    out = build(name, per_sample=per_sample).apply(painted(), Rng(seed, name))
    torch.testing.assert_close(out.x.mean((2, 3)), out.y, atol=1e-5, rtol=0)


@pytest.mark.parametrize("per_sample", [False, True])
@pytest.mark.parametrize("seed", range(20))
def test_mixed_targets_are_right_with_every_mix_on(seed, per_sample):
    prepare = pipeline([Step(name, Stage.MIX, build(name, per_sample=per_sample)) for name in MIXES])
    out = prepare(painted(), Rng(seed))
    torch.testing.assert_close(out.x.mean((2, 3)), out.y, atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", MIXES)
def test_a_mix_treats_all_views_of_an_image_alike(name):
    y = torch.eye(8)
    batch = batch_of(y[:, :, None, None].expand(8, 8, 16, 16), y).repeated(2)
    for seed in range(5):
        out = build(name, per_sample=True).apply(batch, Rng(seed))
        assert torch.equal(out.y[0::2], out.y[1::2])
        assert torch.equal(out.x[0::2], out.x[1::2])


# In a training loop of your own


def on_tensors(name: str, batch: Batch, **options) -> tuple[Tensor, Tensor]:
    return build(name)(batch.x, batch.y, index=batch.index, epoch=batch.epoch, scale=batch.scale, **options)


def in_pipeline(name: str, batch: Batch, seed: int) -> Batch:
    return pipeline([Step(name, augmentations[name].facts.stage, build(name))])(batch, Rng(seed))


@every
def test_a_call_on_tensors_with_a_seed_does_what_the_pipeline_does(name):
    batch = example(augmentations[name])
    for seed in range(3):
        out = in_pipeline(name, batch, seed)
        x, y = on_tensors(name, batch, seed=seed)
        assert torch.equal(x, out.x)
        assert torch.equal(y, out.y)


@every
def test_equal_generators_make_equal_draws_and_are_advanced(name):
    batch = example(augmentations[name])
    generators = [torch.Generator().manual_seed(seed) for seed in (7, 7)]
    first, again = (on_tensors(name, batch, generator=generator) for generator in generators)
    assert all(map(torch.equal, first, again))
    torch.manual_seed(7)  # the global generator, where neither a seed nor a generator is given
    assert all(map(torch.equal, first, on_tensors(name, batch)))
    following = [on_tensors(name, batch, generator=generators[0])[0] for _ in range(20)]
    assert len({x.numpy().tobytes() for x in following}) > 15 or name not in RANDOM


@every
def test_images_alone_are_enough_unless_targets_change(name):
    batch, stage = example(augmentations[name]), augmentations[name].facts.stage
    arguments = {"epoch": batch.epoch, "scale": batch.scale, "seed": 3}
    if stage in (Stage.MIX, Stage.LABEL):
        with pytest.raises(ValueError, match=f"^y must be given for {name}"):
            build(name)(batch.x, **arguments)
    else:
        assert torch.equal(build(name)(batch.x, **arguments), in_pipeline(name, batch, 3).x)


@every
def test_classes_become_probabilities_where_targets_change_and_stay_classes_elsewhere(name):
    batch, stage = example(augmentations[name]), augmentations[name].facts.stage
    x, y = build(name)(
        batch.x, batch.y.argmax(1), num_classes=K, seed=3, scale=batch.scale, epoch=batch.epoch
    )
    out = in_pipeline(name, batch, 3)
    assert torch.equal(x, out.x)
    assert torch.equal(y, out.y if stage in (Stage.MIX, Stage.LABEL) else out.y.argmax(1))


@pytest.mark.parametrize("name", [name for name in ALL if name not in names_of(Stage.REPEAT, Stage.LABEL)])
def test_images_of_the_wrong_type_are_rejected(name):
    batch, stage = example(augmentations[name]), augmentations[name].facts.stage
    x, kind = (batch.x.float(), "uint8") if stage < Stage.NORMALIZE else (batch.x.byte(), "floating point")
    with pytest.raises(ValueError, match=f"^x must be {kind} for {name}"):
        build(name)(x, batch.y, seed=0, scale=batch.scale)


def test_epochs_and_probabilities_count_in_calls_on_tensors():
    x, y = torch.rand(4, 3, 8, 8), torch.arange(4)
    for epoch in range(4):
        out, _ = CutMix(start=2)(x, y, num_classes=4, seed=0, epoch=epoch)
        assert torch.equal(out, x) == (epoch < 2)
    mixed = [not torch.equal(CutMix(prob=0.3)(x, y, num_classes=4, seed=seed)[0], x) for seed in range(300)]
    assert has_fraction(sum(mixed), 300, 0.3)


def test_missing_arguments_are_named():
    x, y = images(4), torch.arange(4)
    with pytest.raises(ValueError, match=r"^num_classes must be given"):
        CutMix()(x.float(), y, seed=0)
    with pytest.raises(ValueError, match=r"^generator must be None where a seed is given"):
        Flip()(x, seed=0, generator=torch.Generator())
    with pytest.raises(ValueError, match=r"^index must be given for alternating flips"):
        Flip(alternating=True)(x, seed=0)
    for fill in ("black", "noise"):
        with pytest.raises(ValueError, match=r"^scale must be given .*: Normalize\(mean, std\).scale"):
            Cutout(fill=fill)(x.float(), seed=0)


def test_black_is_black_after_any_normalisation():
    mean, std = torch.tensor([0.4, 0.5, 0.6])[:, None, None], torch.tensor([0.1, 0.2, 0.3])[:, None, None]
    normalize = Normalize(mean, std)
    x = normalize(images(4))
    out = Cutout(size=64, fill="black")(x, seed=0, scale=normalize.scale)
    assert torch.equal(out, (-mean / std).expand_as(out))


def test_classes_are_those_of_torchs_one_hot():
    x, y = torch.rand(6, 3, 8, 8), torch.tensor([3, 0, 2, 2, 1, 4])
    out = CutMix()(x, y, num_classes=K, seed=1)[1]
    assert torch.equal(out, CutMix()(x, F.one_hot(y, K).float(), seed=1)[1])
    torch.testing.assert_close(out.sum(1), torch.ones(6))
