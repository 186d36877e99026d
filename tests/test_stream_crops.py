"""The crops of image files in training and in evaluation, against torchvision and Pillow."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import transforms

from lib.augment.random_resized_crop import RandomResizedCrop
from lib.core.batch import Batch
from lib.core.errors import BadInput
from lib.core.rng import Rng
from lib.data.decoding import CenterCrop, decode
from lib.factory import build
from tests.helpers.streams import config_of, folder_of_shapes

pytestmark = pytest.mark.usefixtures("undrawn")


@pytest.fixture(scope="module")
def images(tmp_path_factory) -> Path:
    return folder_of_shapes(tmp_path_factory.mktemp("images"))


def test_the_centre_crop_is_that_of_torchvision(tmp_path):
    low = np.random.default_rng(1).integers(0, 256, (6, 9, 3), np.uint8)
    image = Image.fromarray(low).resize((375, 250), Image.Resampling.BICUBIC)
    image.save(tmp_path / "image.png")
    usual = transforms.Compose([transforms.Resize(64), transforms.CenterCrop(56), transforms.PILToTensor()])
    found = decode(tmp_path / "image.png", CenterCrop(56, 0.875))
    assert found.shape == (3, 56, 56)
    difference = (found.int() - usual(image).int()).abs().float()
    assert difference.max() <= 2 and difference.mean() < 0.5
    assert not torch.equal(found, decode(tmp_path / "image.png", CenterCrop(56)))


def test_training_crops_from_larger_squares_than_evaluation_sees(images):
    line = "--stream true --workers 0 --train-size 12 --test-crop 0.875 --val 9 --no-crop"
    config = config_of(images, f"{line} --random-resized-crop-size 8")
    run = build(config, torch.device("cpu"), print)
    batch = run.data.at(0)
    assert batch.x.shape == (8, 3, 12, 12)
    assert run.prepare(batch, Rng(0)).x.shape == (8, 3, 8, 8)
    assert {name: next(split.read([slice(1)])).shape[-1] for name, split in run.splits.items()} == {
        "val": 8,
        "test": 8,
    }
    path = run.data.split.listing.path(int(run.data.split.places[batch.index[0]]))
    assert torch.equal(batch.x[0], decode(path, CenterCrop(12)))
    held = run.splits["val"]
    path = held.listing.path(int(held.places[0]))
    assert torch.equal(next(held.read([slice(1)]))[0], decode(path, CenterCrop(8, 0.875)))
    with pytest.raises(
        BadInput, match=r"12 pixels wide, but 8 .*give --random-resized-crop-size 8, or leave"
    ):
        build(config_of(images, line), torch.device("cpu"), print)


@pytest.mark.parametrize("size", [24, 40, 64, 80])
def test_a_random_resized_crop_of_another_size_is_that_of_pillow(size):
    low = np.random.default_rng(2).integers(0, 256, (6, 8, 8, 3), np.uint8)
    pictures = [Image.fromarray(each).resize((64, 64), Image.Resampling.BICUBIC) for each in low]
    x = torch.stack([transforms.functional.pil_to_tensor(picture) for picture in pictures])
    crop = RandomResizedCrop(size=size)
    found = crop.apply(Batch(x, torch.eye(6), torch.arange(6)), Rng(5)).x
    top, left, height, width = crop.boxes(6, 64, 64, Rng(5)).int().tolist()
    for image, (y, x0, h, w) in enumerate(zip(top, left, height, width, strict=True)):
        box = pictures[image].crop((x0, y, x0 + w, y + h))
        expected = transforms.functional.pil_to_tensor(box.resize((size, size), Image.Resampling.BILINEAR))
        assert (found[image].int() - expected.int()).abs().max() <= 1


def test_a_crop_of_many_large_images_equals_the_crops_in_parts(monkeypatch):
    x = Rng(3).integers(0, 256, 7, 3, 16, 16, like=torch.empty(0)).to(torch.uint8)
    batch = Batch(x, torch.eye(7), torch.arange(7))
    whole = RandomResizedCrop(size=12).apply(batch, Rng(4)).x
    monkeypatch.setattr("lib.augment.random_resized_crop.PART", 2 * 3 * 16 * 16)
    assert torch.equal(RandomResizedCrop(size=12).apply(batch, Rng(4)).x, whole)
