"""Two-level bootstrap: an interval over seeds and test images, for new runs on new images.

The runs of a setting see the same test images, so correctness of run s on image i is a table with two
factors, and both are resampled with replacement. Resampling rows and columns of the raw table would count its
noise three times (Owen 2007, "The pigeonhole bootstrap"), which matters for differences, where images are
shared. So the table is first split into a mean, an effect of each seed and an effect of each image. The
effects of seeds are scaled up for the degree of freedom used by their mean, and those of images are shrunk by
the noise they contain. The noise then counts once, with the seeds.

The resamples give the standard error. With few seeds it is uncertain, so the interval is Student's, with
Satterthwaite's degrees of freedom. In simulations with three and five seeds it covers the true value in 92 to
96 % of cases (Student's over seeds alone: 63 to 93 %), and with two seeds in 89 % where their variation
outweighs that of the images.
"""

from functools import cache
from typing import NamedTuple

import numpy as np

from ..core.rng import Rng
from .statistics import CONFIDENCE, MeanInterval

DRAWS = 2000
CHUNK = 100  # draws at a time, to limit memory: 8 MB for 10,000 images


def two_level(
    right: np.ndarray, baseline: np.ndarray | None = None, paired: bool = False, draws: int = DRAWS
) -> MeanInterval:
    """The interval of an accuracy as a fraction, or of its difference to a baseline's on the same images.

    Args:
        right: (S, N) whether the run of each seed classified each image correctly; at least two seeds.
        baseline: (S', N) the same of the other setting.
        paired: the seeds of both are the same, in the same order, and are resampled together.
    """
    from scipy import stats

    tables = [np.asarray(right, float)]
    if baseline is not None and paired:
        tables = [tables[0] - np.asarray(baseline, float)]
    elif baseline is not None:
        tables.append(-np.asarray(baseline, float))
    if min(map(len, tables)) < 2:
        raise ValueError("seeds must be at least 2: one gives no estimate of their spread")

    parts = [_split(table) for table in tables]
    mean = sum(part.mean for part in parts)
    images = sum(part.images for part in parts)  # the same for both settings
    found, noise = images.var(ddof=1), sum(part.noise for part in parts)
    images = images * np.sqrt(max(0.0, 1 - noise / found)) if found > 0 else images

    counts = _counts(images.size, draws)
    chunks = [counts[start : start + CHUNK] @ images for start in range(0, draws, CHUNK)]
    drawn = np.concatenate(chunks) / images.size
    for place, part in enumerate(parts):
        S = len(part.seeds)
        picked = Rng(0, "bootstrap", "seeds", place).host_integers(0, S, draws, S).numpy()
        drawn = drawn + part.seeds[picked].mean(1)

    levels = [(max(found - noise, 0) / images.size, images.size - 1)]
    levels += [(part.seeds.var() / len(part.seeds), len(part.seeds) - 1) for part in parts]
    variance = sum(v for v, _ in levels)
    if variance <= 0:
        return MeanInterval(float(mean), 0.0, float("nan"), float("nan"))
    df = variance**2 / sum(v**2 / d for v, d in levels)
    # Not quantiles of the resamples: two seeds have only three different means.
    half = stats.t.isf((1 - CONFIDENCE) / 2, df) * drawn.std()
    return MeanInterval(float(mean), float(drawn.std()), float(mean - half), float(mean + half))


class _Parts(NamedTuple):
    mean: float
    seeds: np.ndarray  # (S,) effects, scaled so that their variance is unbiased
    images: np.ndarray  # (N,) effects, including noise
    noise: float  # variance of the noise in the effect of an image


def _split(table: np.ndarray) -> _Parts:
    S, N = table.shape
    mean = table.mean()
    seeds, images = table.mean(1) - mean, table.mean(0) - mean
    rest = table - mean - seeds[:, None] - images
    noise = (rest**2).sum() / ((S - 1) * (N - 1)) / S
    return _Parts(mean, seeds * np.sqrt(S / (S - 1)), images, noise)


@cache
def _counts(N: int, draws: int) -> np.ndarray:
    """(draws, N) uint8: how often each image is drawn; the same for all rows of a table."""
    counts = np.empty((draws, N), np.uint8)
    for start in range(0, draws, CHUNK):
        rows = min(CHUNK, draws - start)
        picked = Rng(0, "bootstrap", "images", start).host_integers(0, N, rows, N).numpy()
        flat = (picked + N * np.arange(rows)[:, None]).ravel()
        counts[start : start + rows] = np.bincount(flat, minlength=rows * N).reshape(rows, N)
    return counts
