"""Crops, shifts and flips: every crop against NumPy or torchvision, and the probabilities of each."""

from collections import Counter

import numpy as np
import pytest
import torch
import torchvision.transforms.functional as theirs
from scipy import stats
from torch import Tensor
from torchvision.transforms import RandomResizedCrop

from lib.core.batch import Batch
from lib.core.rng import Rng
from tests.helpers.batches import batch_of, build, images, numbered_pixels
from tests.helpers.distributions import fits, has_fraction
from tests.helpers.pictures import from_pil, pictures, to_pil
from tests.helpers.references import crops


@pytest.mark.parametrize(("name", "field"), [("crop", "padding"), ("translate", "pixels")])
@pytest.mark.parametrize("mode", ["zero", "reflect"])
@pytest.mark.parametrize(
    ("height", "width", "most"), [(8, 8, 4), (6, 9, 2), (9, 17, 6), (8, 8, 2), (5, 9, 3), (7, 6, 1)]
)
def test_crops_of_the_padded_image_are_equally_likely_at_every_offset(name, field, mode, height, width, most):
    offsets = (2 * most + 1) ** 2
    x = numbered_pixels(60 * offsets, 2, height, width).to(torch.uint8)
    out = build(name, **{field: most}, mode=mode).apply(batch_of(x), Rng(0)).x
    known = crops(x[0, 0].numpy(), most, mode)
    assert len(known) == offsets
    assert torch.equal(out[:, 0], out[:, 1])  # channels move together
    counts = Counter(known[image.numpy().tobytes()] for image in out[:, 0].contiguous())
    assert len(counts) == offsets
    assert fits(list(counts.values()), [1 / offsets] * offsets)


@pytest.mark.gpu
def test_a_gpu_makes_the_same_crops():
    x, offsets = images(64), torch.randint(0, 9, (2, 64), generator=torch.Generator().manual_seed(0))

    class Fixed(Rng):
        def integers(self, low: int, high: int, *shape: int, like: Tensor) -> Tensor:
            return offsets.to(like.device)

    on_cpu, on_gpu = (build("crop").apply(batch_of(pixels), Fixed(0)).x for pixels in (x, x.cuda()))
    assert torch.equal(on_gpu.cpu(), on_cpu)


@pytest.mark.parametrize("prob", [0.01, 0.3, 0.5, 1.0])
def test_a_flip_mirrors_images_with_the_given_probability(prob):
    x = images(4000, 1, 3, 4)
    out = build("flip", prob=prob).apply(batch_of(x), Rng(0)).x
    kept, mirrored = ((out == form).flatten(1).all(1) for form in (x, torch.flip(x, dims=[3])))
    assert (kept ^ mirrored).all()
    assert has_fraction(mirrored.sum(), 4000, prob)


def test_alternating_flips_mirror_each_image_in_every_other_epoch():
    count, flip = 2000, build("flip", alternating=True)
    x = images(count, 1, 3, 4)

    def mirrored(epoch: int, *key: int) -> Tensor:
        """Mask of the mirrored images, from two batches in the order of the epoch."""
        found = torch.empty(count, dtype=torch.bool)
        for step, index in enumerate(Rng(9, epoch).permutation(count).split(count // 2)):
            batch = Batch(x[index], torch.ones(len(index), 1), index, epoch)
            out = flip.apply(batch, Rng(0, step + 2 * epoch, *key, "flip")).x
            assert ((out == x[index]) | (out == x[index].flip(3))).all(3).all(2).all()
            found[index] = (out != x[index]).flatten(1).any(1)
        return found

    first = mirrored(0)
    assert has_fraction(first.sum(), count, 0.5)
    for epoch in range(1, 5):
        assert torch.equal(mirrored(epoch), first ^ (epoch % 2 == 1))
    assert torch.equal(mirrored(0, 1), first)  # another step or rank of the epoch
    other = flip.apply(Batch(x, torch.ones(count, 1), torch.arange(count), 0), Rng(1, 0, "flip")).x
    assert has_fraction(((other != x).flatten(1).any(1) ^ first).sum(), count, 0.5)  # another seed


@pytest.mark.parametrize(("name", "field"), [("crop", "padding"), ("translate", "pixels")])
def test_a_shift_beyond_the_mirrored_border_is_rejected(name, field):
    batch = batch_of(pictures(1, 4, 6))
    with pytest.raises(ValueError, match=r"^mode must be zero to move images of 4x6 by up to 4 pixels"):
        build(name, **{field: 4}, mode="reflect").apply(batch, Rng(0))
    build(name, **{field: 3}, mode="reflect").apply(batch, Rng(0))


@pytest.mark.parametrize("prob", [0.01, 0.3, 0.5, 1.0])
def test_a_vertical_flip_turns_images_with_the_given_probability(prob):
    generator = torch.Generator().manual_seed(0)
    x = torch.randint(0, 256, (3000, 1, 4, 3), generator=generator).to(torch.uint8)
    out = build("vertical_flip", prob=prob).apply(batch_of(x), Rng(0)).x
    kept, turned = (
        (out == form).flatten(1).all(1) for form in (x, torch.from_numpy(x.numpy()[:, :, ::-1].copy()))
    )
    assert (kept ^ turned).all()
    assert has_fraction(turned.sum(), 3000, prob)


@pytest.mark.parametrize("shape", [(3, 32, 32), (1, 20, 33), (3, 41, 24)], ids=str)
@pytest.mark.parametrize("ratio_min", [0.75, 0.3])
def test_a_resized_crop_is_torchvisions_on_pillow_images(shape, ratio_min):
    H, W = shape[1:]
    x, augment = pictures(*shape).repeat(10, 1, 1, 1), build("random_resized_crop", ratio_min=ratio_min)
    out = augment.apply(batch_of(x), Rng(1)).x
    boxes = augment.boxes(len(x), H, W, Rng(1)).T.int().tolist()
    bilinear = theirs.InterpolationMode.BILINEAR
    pils = [
        theirs.resized_crop(to_pil(image), *box, [H, W], bilinear)
        for image, box in zip(x, boxes, strict=True)
    ]
    expected = torch.stack([from_pil(image) for image in pils])
    assert (out.int() - expected.int()).abs().max() <= 1


@pytest.mark.parametrize(("H", "W"), [(32, 32), (24, 40)])
@pytest.mark.parametrize(("scale", "ratio_min"), [((0.08, 1.0), 0.75), ((0.3, 0.6), 0.5)])
def test_resized_crops_have_the_areas_ratios_and_places_of_torchvision(H, W, scale, ratio_min):
    torch.manual_seed(0)
    augment = build("random_resized_crop", scale_min=scale[0], scale_max=scale[1], ratio_min=ratio_min)
    ours = augment.boxes(6000, H, W, Rng(0)).numpy()
    image = torch.empty(1, H, W)
    drawn = [RandomResizedCrop.get_params(image, scale, (ratio_min, 1 / ratio_min)) for _ in range(1500)]
    for measure in (
        lambda top, left, height, width: height * width,
        lambda top, left, height, width: width / height,
        lambda top, left, height, width: top / H,
        lambda top, left, height, width: left / W,
        lambda top, left, height, width: top - left + height - width,
    ):
        assert stats.ks_2samp(measure(*ours), measure(*np.array(drawn, float).T)).pvalue > 1e-3
    top, left, height, width = ours
    assert (ours == ours.round()).all() and (ours[:2] >= 0).all() and (ours[2:] >= 1).all()
    assert (top + height <= H).all() and (left + width <= W).all()


@pytest.mark.parametrize(("H", "W", "ratio_min"), [(8, 32, 1.0), (33, 8, 0.75), (8, 35, 0.5), (16, 41, 0.5)])
def test_the_largest_central_crop_of_an_allowed_ratio_is_used_if_none_fits(H, W, ratio_min):
    """As torchvision does; earlier the whole image, which changed the ratio of a long image at random."""
    augment = build("random_resized_crop", scale_min=1.0, scale_max=1.0, ratio_min=ratio_min)
    boxes = augment.boxes(20, H, W, Rng(0)).T.int().tolist()
    known = RandomResizedCrop.get_params(torch.empty(1, H, W), (1.0, 1.0), (ratio_min, 1 / ratio_min))
    assert boxes == [list(known)] * 20
