"""Every image operation against Pillow, over all magnitudes, on random and on structured images."""

import pytest
import torch
from PIL import Image, ImageEnhance
from torch import Tensor

from lib.augment import image_ops
from lib.augment.image_ops import affine, rotate, shear_x, shear_y
from tests.helpers.pictures import LOOK_UPS, from_pil, pictures, to_pil

SHAPES = [(3, 32, 32), (1, 20, 33), (3, 41, 24)]
AFFINE = Image.Transform.AFFINE
shapes = pytest.mark.parametrize("shape", SHAPES, ids=str)


def difference(operation, reference, shape: tuple[int, int, int], magnitudes: Tensor) -> Tensor:
    """Our pixels minus Pillow's, for every picture at every magnitude."""
    x = pictures(*shape)
    magnitude = magnitudes.double().repeat_interleave(len(x))
    x = x.repeat(len(magnitudes), 1, 1, 1)
    before = x.clone()
    ours = operation(x, magnitude)
    assert torch.equal(x, before)
    assert ours.dtype == torch.uint8
    pils = [from_pil(reference(to_pil(image), m)) for image, m in zip(x, magnitude.tolist(), strict=True)]
    return ours.int() - torch.stack(pils).int()


PLAIN = ("invert", "equalize", "autocontrast")  # without a magnitude


@shapes
@pytest.mark.parametrize("name", LOOK_UPS)
def test_look_ups_equal_pillows_to_the_bit(name, shape):
    reference, magnitudes = LOOK_UPS[name]
    ours = getattr(image_ops, name)
    operation = (lambda x, _: ours(x)) if name in PLAIN else ours
    assert not difference(operation, reference, shape, magnitudes).any()


@shapes
@pytest.mark.parametrize("name", ["brightness", "contrast", "color", "sharpness"])
def test_blends_differ_from_pillows_enhancements_by_at_most_one(name, shape):
    enhancer = getattr(ImageEnhance, name.capitalize())

    def reference(image: Image.Image, factor: float) -> Image.Image:
        return enhancer(image).enhance(factor)

    off = difference(getattr(image_ops, name), reference, shape, torch.linspace(0, 3, 31))
    assert off.abs().max() <= 1
    assert (off != 0).float().mean() < 1e-4  # 0 so far


def fill_of(image: Image.Image) -> int | tuple[int, ...]:
    return 10 if image.mode == "L" else (10, 20, 30)


def transform(*matrix, resample=Image.Resampling.NEAREST):
    """Pillow's reference for a map whose entries may be functions of the magnitude."""

    def reference(image: Image.Image, magnitude: float) -> Image.Image:
        entries = [entry(magnitude) if callable(entry) else entry for entry in matrix]
        return image.transform(image.size, AFFINE, entries, resample, fillcolor=fill_of(image))

    return reference


GEOMETRY = {
    "shear_x": (transform(1, lambda m: m, 0, 0, 1, 0), torch.linspace(-1, 1, 41)),
    "shear_y": (transform(1, 0, 0, lambda m: m, 1, 0), torch.linspace(-1, 1, 41)),
    "translate_x": (transform(1, 0, lambda m: -m, 0, 1, 0), torch.arange(-34, 34, 0.4)),
    "translate_y": (transform(1, 0, 0, 0, 1, lambda m: -m), torch.arange(-34, 34, 0.4)),
    "rotate": (lambda image, m: image.rotate(m, fillcolor=fill_of(image)), torch.linspace(-180, 180, 97)),
}


@shapes
@pytest.mark.parametrize("name", GEOMETRY)
def test_geometry_takes_the_nearest_pixels_of_pillow(name, shape):
    reference, magnitudes = GEOMETRY[name]
    fill = (10, 20, 30)[: shape[0]]
    off = difference(lambda x, m: getattr(image_ops, name)(x, m, fill), reference, shape, magnitudes)
    assert (off != 0).any(1).float().mean() < 1e-4  # 0 on x86: the fixed-point coordinates are the same


@shapes
def test_magnitudes_in_single_precision_differ_in_ties_only(shape):
    reference, magnitudes = GEOMETRY["rotate"]
    fill = (10, 20, 30)[: shape[0]]
    off = difference(lambda x, m: rotate(x, m.float(), fill), reference, shape, magnitudes)
    assert (off != 0).any(1).float().mean() < 5e-3


@shapes
def test_any_affine_map_is_pillows_nearest_and_bilinear(shape):
    C, H, W = shape
    x = pictures(*shape)
    generator = torch.Generator().manual_seed(1)
    matrix = torch.eye(2, 3).double() + 0.8 * torch.rand(len(x), 2, 3, generator=generator).double() - 0.4
    matrix[:, :, 2] *= 20
    fill = (10, 20, 30)[:C]
    for tolerance, name in enumerate(("nearest", "bilinear")):
        ours, resample = affine(x, matrix, fill, name), Image.Resampling[name.upper()]
        entries = matrix.flatten(1).tolist()
        pils = [
            from_pil(to_pil(image).transform((W, H), AFFINE, e, resample, fillcolor=fill_of(to_pil(image))))
            for image, e in zip(x, entries, strict=True)
        ]
        off = (ours.int() - torch.stack(pils).int()).abs().amax(1)
        assert (off > tolerance).float().mean() < 5e-3


@shapes
def test_bilinear_rotation_differs_from_pillows_by_at_most_one(shape):
    def reference(image: Image.Image, degrees: float) -> Image.Image:
        return image.rotate(degrees, Image.Resampling.BILINEAR, fillcolor=fill_of(image))

    fill = (10, 20, 30)[: shape[0]]
    magnitudes = torch.linspace(-179, 180, 50)
    off = difference(lambda x, m: rotate(x, m, fill, resample="bilinear"), reference, shape, magnitudes).abs()
    assert (off > 1).any(1).float().mean() < 5e-3


@shapes
@pytest.mark.parametrize("name", ["shear_x", "shear_y"])
def test_bicubic_shear_differs_from_pillows_by_at_most_one(name, shape):
    entries = (1, lambda m: m, 0, 0, 1, 0) if name == "shear_x" else (1, 0, 0, lambda m: m, 1, 0)
    reference = transform(*entries, resample=Image.Resampling.BICUBIC)
    shear = {"shear_x": shear_x, "shear_y": shear_y}[name]
    fill = (10, 20, 30)[: shape[0]]
    magnitudes = 0.3 / 9 * torch.arange(-9, 10)
    off = difference(lambda x, m: shear(x, m, fill, resample="bicubic"), reference, shape, magnitudes)
    assert (off.abs() > 1).any(1).float().mean() < 5e-3


def test_posterize_rounds_the_number_of_bits():
    x = pictures(1, 5, 4)[:3]
    ours = image_ops.posterize(x, torch.tensor([0.2, 6.4, 7.6]))
    assert torch.equal(ours, x & torch.tensor([0, 0b11111100, 255])[:, None, None, None])


@pytest.mark.parametrize("name", [*LOOK_UPS, "brightness", "contrast", "color", "sharpness", *GEOMETRY])
def test_an_image_does_not_depend_on_the_others_of_its_batch(name):
    x, m = pictures(3, 12, 15), torch.linspace(0.1, 7, 7)
    ours = getattr(image_ops, name)
    arguments = () if name in PLAIN else (m,)
    alone = [ours(x[i : i + 1], *(a[i : i + 1] for a in arguments)) for i in range(len(x))]
    assert torch.equal(ours(x, *arguments), torch.cat(alone))
    strided = x.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2)  # channels last in memory
    assert torch.equal(ours(strided, *arguments), torch.cat(alone))


@pytest.mark.gpu
@pytest.mark.parametrize("name", [*LOOK_UPS, "brightness", "contrast", "color", "sharpness", *GEOMETRY])
def test_the_gpu_agrees_with_the_cpu_without_synchronising(name):
    x, m = pictures(3, 32, 32), torch.linspace(0.1, 7, 7).double()
    ours = getattr(image_ops, name)
    arguments = () if name in PLAIN else (m,)
    on_device = x.cuda()
    torch.cuda.set_sync_debug_mode("error")
    try:
        out = ours(on_device, *arguments)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert torch.equal(out.cpu(), ours(x, *arguments))
