"""Randomness as a function of a key (seed, step, rank, name of the trick), never of earlier draws.

No generator state is saved, resume is exact, and enabling one trick leaves the draws of the others unchanged.
"""

import hashlib
import math
import random
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

# At least 95 % of the candidates for a gamma variate are accepted. A loop would have to read them back from
# the device, so all are drawn at once and the first accepted one is taken; one variate in 10^10 finds none.
ATTEMPTS = 8
TINY = 1e-30

# Raised whenever some draw of an augmentation or a model changes, so that no run resumes with other draws.
DRAWS = 1


class Rng:
    """The random numbers of one key.

    Args:
        key: integers and names; equal keys draw equal numbers. The first is the seed of the run.
    """

    def __init__(self, *key: int | str):
        self.key = key
        self._generators: dict[torch.device, torch.Generator] = {}

    @classmethod
    def from_generator(cls, generator: torch.Generator | None) -> "Rng":
        """The random numbers of a key that is drawn from `generator`, or for None from torch's global one."""
        device = generator.device if generator else "cpu"
        return cls(int(torch.randint(2**63 - 1, (), generator=generator, device=device)))

    def fold(self, *names: int | str) -> "Rng":
        """The independent random numbers of this key extended by `names`."""
        return Rng(*self.key, *names)

    @cached_property
    def number(self) -> int:
        """A 63-bit hash of the key."""
        digest = hashlib.blake2b(repr(self.key).encode(), digest_size=8).digest()
        return int.from_bytes(digest, "little") >> 1

    @cached_property
    def host(self) -> random.Random:
        """For draws made once per batch."""
        return random.Random(self.number)

    def device(self, device: torch.device) -> torch.Generator:
        """For draws made once per sample, on the device of the data."""
        device = torch.device(device)
        if device not in self._generators:
            self._generators[device] = torch.Generator(device).manual_seed(self.number)
        return self._generators[device]

    def uniform(self, *shape: int, like: Tensor) -> Tensor:
        """Uniform numbers in [0, 1) of this shape, on the device of `like`."""
        return torch.rand(*shape, generator=self.device(like.device), device=like.device)

    def integers(self, low: int, high: int, *shape: int, like: Tensor) -> Tensor:
        """Uniform integers in [low, high) of this shape, on the device of `like`."""
        return torch.randint(low, high, shape, generator=self.device(like.device), device=like.device)

    def normal(self, *shape: int, like: Tensor) -> Tensor:
        """Standard normal numbers of this shape, on the device of `like`."""
        return torch.randn(*shape, generator=self.device(like.device), device=like.device)

    def poisson(self, rate: Tensor) -> Tensor:
        """Poisson variates with these rates."""
        return torch.poisson(rate, generator=self.device(rate.device))

    def beta(self, alpha: float, *shape: int, like: Tensor) -> Tensor:
        """Variates of Beta(alpha, alpha) of this shape, on the device of `like`.

        G / (G + G') for two gamma variates G and G' (Marsaglia and Tsang 2000, "A simple method for
        generating gamma variables"), computed from their logarithms: at a small alpha both may underflow.
        """
        d = alpha + 1 - 1 / 3  # G(alpha) is G(alpha + 1) U^(1 / alpha)
        z = self.normal(ATTEMPTS, 2, *shape, like=like)
        v = (1 + z / math.sqrt(9 * d)) ** 3
        log_v = v.clamp(min=TINY).log()
        u = 1 - self.uniform(ATTEMPTS + 1, 2, *shape, like=like)  # in (0, 1]
        accepted = (v > 0) & (u[1:].log() < z * z / 2 + d * (1 - v + log_v))
        first = accepted.to(torch.uint8).argmax(0, keepdim=True)
        log_gamma = log_v.gather(0, first)[0] + u[0].log() / alpha
        return torch.sigmoid(log_gamma[0] - log_gamma[1])

    def host_uniform(self, *shape: int) -> Tensor:
        """Uniform numbers in [0, 1), float64 on the CPU: per-sample draws that the host has to know."""
        return torch.rand(*shape, dtype=torch.float64, generator=self._host_samples)

    def host_integers(self, low: int, high: int, *shape: int) -> Tensor:
        """Uniform integers in [low, high) on the CPU, the same whatever the device."""
        return torch.randint(low, high, shape, generator=self._host_samples)

    def host_dirichlet(self, alpha: float, parts: int, *shape: int) -> Tensor:
        """Variates of Dirichlet(alpha, ...): (*shape, parts) float64 on the CPU that sum to 1.

        With two parts, the first is a variate of Beta(alpha, alpha).
        """
        return torch.from_numpy(self._host_weights.dirichlet([alpha] * parts, shape))

    @cached_property
    def _host_weights(self) -> np.random.Generator:
        return np.random.default_rng(self.number)

    @cached_property
    def _host_samples(self) -> torch.Generator:
        # Separate from the draws of `device`, which may be the CPU.
        return torch.Generator().manual_seed(self.fold("host").number)

    def permutation(self, n: int) -> Tensor:
        """A permutation of range(n), drawn on the CPU so that it is the same whatever the device."""
        # A fresh generator: on the CPU the result would otherwise depend on earlier draws for samples.
        return torch.randperm(n, generator=torch.Generator().manual_seed(self.number))

    def seed_noise(self) -> None:
        """Seed the global generators, from which dropout, shake-shake and initialisation draw."""
        torch.manual_seed(self.number)

    def per_image(self, index: Tensor) -> Tensor:
        """A uniform number in [0, 1) for each image, the same whenever the image is drawn.

        Args:
            index: (B,) positions of the images in the data set.
        Returns:
            (B,) a hash of (key, index): the finaliser of SplitMix64 (Steele et al. 2014, figure 13).
        """
        z = index * -7046029254386353131 + self.number  # 0x9E3779B97F4A7C15 as a signed number
        for shift, factor in ((30, -4658895280553007687), (27, -7723592293110705685)):
            z = (z ^ _shift_right(z, shift)) * factor
        z = z ^ _shift_right(z, 31)
        return _shift_right(z, 40).float() / 2**24  # 24 bits: what a float32 holds exactly


def _shift_right(z: Tensor, bits: int) -> Tensor:
    """Logical right shift; that of torch is arithmetic."""
    return (z >> bits) & ((1 << (64 - bits)) - 1)
