"""The augmentations of other libraries, for `scripts.bench.augment`; all return normalised float32 images."""

from collections.abc import Callable
from importlib import metadata

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms
from torchvision.transforms import v2

try:
    import kornia
except ImportError:
    kornia = None
try:
    import airbench
    import airbench.utils
except ImportError:
    airbench = None

MEAN = torch.tensor([0.4914, 0.4822, 0.4465])[:, None, None]
STD = torch.tensor([0.2470, 0.2435, 0.2616])[:, None, None]
STATISTICS = MEAN.flatten().tolist(), STD.flatten().tolist()
WORKERS = 2
CUTOUT = {"scale": (0.25, 0.25), "ratio": (1.0, 1.0), "value": 0}  # a square of 16x16, always inside


class Images(Dataset):
    """PIL images in memory with a transform, as CIFAR-10 is usually loaded."""

    def __init__(self, x: Tensor, transform: Callable[[Image.Image], Tensor]):
        self.x, self.transform = x.permute(0, 2, 3, 1).contiguous().numpy(), transform

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, index: int) -> Tensor:
        return self.transform(Image.fromarray(self.x[index]))


class Cutout:
    """One square of 16x16 around a random pixel of an image (C, H, W), as in the code of the paper."""

    def __call__(self, x: Tensor) -> Tensor:
        H, W = x.shape[1:]
        row, column = np.random.randint(H), np.random.randint(W)
        x[:, max(row - 8, 0) : row + 8, max(column - 8, 0) : column + 8] = 0
        return x


def pil_loader(names: tuple[str, ...], x: Tensor, batch: int) -> Callable[[], int]:
    """One epoch of torchvision's PIL transforms in a DataLoader with two workers."""
    policy = transforms.AutoAugment(transforms.AutoAugmentPolicy.CIFAR10)
    parts = {
        "crop": transforms.RandomCrop(32, padding=4),
        "flip": transforms.RandomHorizontalFlip(),
        "autoaugment": policy,
    }
    chain = [parts[name] for name in names if name in parts]
    chain += [transforms.ToTensor(), transforms.Normalize(*STATISTICS)]
    chain += [Cutout()] if "cutout" in names else []
    data = Images(x, transforms.Compose(chain))
    loader = DataLoader(data, batch, num_workers=WORKERS, persistent_workers=True)
    return lambda: sum(map(len, loader))


def v2_image_by_image(names: tuple[str, ...], x: Tensor) -> Callable[[], int]:
    """torchvision's v2 transforms on tensors in a loop, because on a batch they draw once for all images."""
    parts = {
        "crop": v2.RandomCrop(32, padding=4),
        "flip": v2.RandomHorizontalFlip(),
        "autoaugment": v2.AutoAugment(v2.AutoAugmentPolicy.CIFAR10),
    }
    chain = [parts[name] for name in names if name in parts]
    chain += [v2.ToDtype(torch.float32, scale=True), v2.Normalize(*STATISTICS)]
    chain += [v2.RandomErasing(p=1.0, **CUTOUT)] if "cutout" in names else []
    transform = v2.Compose(chain)
    return lambda: len(torch.stack([transform(image) for image in x]))


def kornia_batched(names: tuple[str, ...]) -> Callable[[Tensor, int], Tensor] | None:
    """kornia's batched augmentations; AutoAugment draws one sub-policy per batch. None without kornia."""
    if kornia is None:
        return None
    augmentation = kornia.augmentation
    parts = {
        "crop": lambda: augmentation.RandomCrop((32, 32), padding=4),
        "flip": lambda: augmentation.RandomHorizontalFlip(p=0.5),
        "autoaugment": lambda: augmentation.auto.AutoAugment("cifar10"),
        "cutout": lambda: augmentation.RandomErasing(p=1.0, **CUTOUT),
    }
    before = nn.Sequential(*[parts[name]() for name in names if name != "cutout"])
    after = nn.Sequential(augmentation.Normalize(*map(torch.tensor, STATISTICS)))
    if "cutout" in names:
        after.append(parts["cutout"]())
    return lambda x, step: after(before(x.float() / 255))


def airbench_batched(names: tuple[str, ...]) -> Callable[[Tensor, int], Tensor] | None:
    """airbench's batched augmentations, a masked copy per shift. None without airbench."""
    if airbench is None:
        return None
    maps = airbench.utils

    def work(x: Tensor, step: int) -> Tensor:
        x = (x.float() / 255 - MEAN) / STD
        x = maps.batch_flip_lr(x) if "flip" in names else x
        x = maps.batch_crop(F.pad(x, (4,) * 4, mode="reflect"), 32) if "crop" in names else x
        return maps.batch_cutout(x, 16) if "cutout" in names else x

    return work


def versions() -> list[str]:
    """The libraries with their versions."""
    found = []
    for name in ("torchvision", "kornia", "airbench"):
        try:
            found.append(f"{name} {metadata.version(name)}")
        except metadata.PackageNotFoundError:
            found.append(f"{name} not installed")
    return found
